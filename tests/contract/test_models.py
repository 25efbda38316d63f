"""What holds for every model of the zoo: the small ones run, of the published ones the layout is checked."""

import copy
import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.models import SpikingTransformer, list_models
from step_ahsar.neurons import SpikingNeuron, list_neurons
from step_ahsar.paths import zoo_dir

golden_script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "golden.py"))
fill, small, describe = golden_script["fill"], golden_script["small"], golden_script["describe"]

ALL = list_models()
SMALL = [name for name in ALL if small(name)]
FAMILIES = {name: family for family in golden_script["FAMILIES"] for name in list_models(family)}

# Published millions of parameters, and how far the last digit may be off: zoo/*/CARD.md says why.
PUBLISHED = {
    "spikformer_4_384": (9.32, 0.005),
    "spikformer_8_384": (16.81, 0.01),
    "spikformer_8_512": (29.68, 0.01),
    "spikformer_8_768": (66.34, 0.005),
    "spikformer_dvs_2_256": (2.57, 0.005),
    "qkformer_4_384": (6.71, 0.005),
    "qkformer_10_384": (16.47, 0.005),
    "qkformer_10_512": (29.08, 0.005),
    "qkformer_10_768": (64.96, 0.005),
}


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons run uncompiled: the numbers are the same, and nothing here is about speed."""
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")


def create(name: str, **options: Any) -> SpikingTransformer:
    """A small model in float64, in which no rounding moves a spike, with lively weights."""
    model = timm.create_model(name, **{"num_classes": 5, "time_steps": 3, **options}).double().eval()
    assert isinstance(model, SpikingTransformer)
    fill(model)
    return model


def inputs(model: SpikingTransformer, batch: int = 2, time_steps: int | None = None, seed: int = 0) -> Tensor:
    """The smallest input with more than one token."""
    size = [2 * model.stride] * model.ndim
    steps = [] if time_steps is None else [time_steps]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*steps, batch, model.in_chans, *size, generator=generator, dtype=torch.float64)


def neurons(model: torch.nn.Module) -> Iterator[tuple[str, SpikingNeuron]]:
    return ((name, m) for name, m in model.named_modules() if isinstance(m, SpikingNeuron))


# -- the zoo's data ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_golden(name: str) -> None:
    """After a change that is meant: python scripts/golden.py."""
    golden = json.loads((zoo_dir() / FAMILIES[name] / "golden.json").read_text())[name]
    found = describe(name)
    assert found["parameters"] == golden["parameters"]
    assert found["state_dict"] == golden["state_dict"]
    assert found.get("logits", []) == pytest.approx(golden.get("logits", []), abs=1e-3)


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(name: str, published: tuple[float, float]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    millions, tolerance = published
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize("family", ["qkformer", "spikformer"])
def test_every_model_has_its_data(family: str) -> None:
    folder = zoo_dir() / family
    assert set(json.loads((folder / "golden.json").read_text())) == set(list_models(family))
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in card for name in list_models(family))


def test_spikformer_4_384_has_33_spiking_layers() -> None:
    with torch.device("meta"):
        model = timm.create_model("spikformer_4_384")
    assert len(list(neurons(model))) == 33


# -- layers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
def test_groups_thresholds_and_attention_scale(name: str) -> None:
    model = create(name, threshold=0.6)
    groups = {path: neuron.group for path, neuron in neurons(model)}
    assert set(groups.values()) == {"stem", "attention", "mlp"}
    for path, group in groups.items():
        where = "attention" if ".attn." in path else "mlp" if ".mlp." in path else "stem"
        assert group == where, path
    for path, neuron in neurons(model):
        assert neuron.threshold == (0.3 if path.endswith("attn.neuron") else 0.6), path
    for _, neuron in neurons(create(name, threshold=0.6, attn_threshold=0.9)):
        assert neuron.threshold in (0.6, 0.9)
    scales = [m.scale for _, m in model.named_modules() if hasattr(m, "scale")]
    assert all(isinstance(scale, float) for scale in scales)
    assert scales[-1] == (0.25 if name == "spikformer_dvs_2_64" else 0.125)


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_fires_and_images_differ(name: str) -> None:
    model = create(name)
    rates: dict[str, float] = {}
    for path, neuron in neurons(model):
        neuron.register_forward_hook(lambda _, __, out, path=path: rates.update({path: float(out.mean())}))
    with torch.no_grad():
        logits = model(inputs(model, batch=3))
    assert rates.keys() == dict(neurons(model)).keys()
    assert all(0 < rate < 1 for rate in rates.values()), rates
    assert logits.std(0).min() > 1e-3


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_every_parameter_gets_a_gradient(name: str, neuron: str) -> None:
    """In eval mode: a norm by batch statistics would cancel the gradient of the biases before it."""
    model = create(name, neuron=neuron, threshold=0.5)
    model(inputs(model)).square().sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.any(), key


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("time_steps", [1, 2, 5])
@torch.no_grad()
def test_any_number_of_time_steps(name: str, time_steps: int) -> None:
    model = create(name, time_steps=time_steps)
    x = inputs(model)
    logits = model(x)
    assert logits.shape == (2, 5)
    over_time = x.repeat(time_steps, *[1] * x.ndim)
    assert torch.equal(model(over_time), logits)
    assert torch.equal(create(name)(over_time), logits)  # the T of the input counts
    model.per_step = True
    assert model(x).shape == (time_steps, 2, 5)
    torch.testing.assert_close(model(x).mean(0), logits)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_steps_count_in_their_order(name: str) -> None:
    model = create(name, per_step=True)
    x = inputs(model, time_steps=3)
    logits = model(x)
    assert torch.equal(model(x[:2]), logits[:2])  # the past does not depend on the future
    assert not torch.equal(model(x.flip(0)).flip(0), logits)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_batch_invariance(name: str) -> None:
    model = create(name)
    x = inputs(model, batch=5)
    logits = model(x)
    for i in (0, 3):
        torch.testing.assert_close(model(x[i : i + 1]), logits[i : i + 1], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x[[4, 1]]), logits[[4, 1]], rtol=0, atol=1e-12)
    assert torch.equal(model(x), logits)  # nothing is left from call to call


@pytest.mark.parametrize("name", SMALL)
def test_shapes_it_cannot_take(name: str) -> None:
    model = create(name)
    x = inputs(model)
    size = "H, W" if model.ndim == 2 else "L"
    wants = rf"takes \[B, {model.in_chans}, {size}\] or \[T, B, {model.in_chans}, {size}\], got "
    for bad in (x[0], x[None, None], x.repeat(1, 2, *[1] * model.ndim), x[None][:0], x[:0]):
        with pytest.raises(UserError, match=wants):
            model(bad)
    if model.ndim == 2:
        with pytest.raises(UserError, match=f"multiples of {model.stride}, such as") as error:
            model(x[..., : model.stride + 1] if model.stride > 1 else x[..., :0])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"cannot take size .*> 0"):
        model(x[..., :0])
    wrong_size: Any
    for wrong_size in (*([model.stride + 1] if model.ndim == 2 else []), 0, (8,) * (model.ndim + 1)):
        with pytest.raises(UserError, match="cannot take size"):
            timm.create_model(name, img_size=wrong_size)


@pytest.mark.parametrize("name", ["spikformer_2_64", "qkformer_3_64"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_steps": 0}, "time_steps must be an integer >= 1, got 0"),
        ({"time_steps": 2.5}, "time_steps must be an integer >= 1, got 2.5"),
        ({"threshold": 0}, "threshold must be > 0"),
        ({"attn_threshold": -1.0}, "threshold must be > 0"),
        ({"tau": 1.0}, "tau"),
        ({"neuron": "liff"}, "did you mean 'lif'"),
        ({"backend": "torhc"}, "did you mean 'torch'"),
        ({"surrogate": "sigmiod"}, "did you mean 'sigmoid'"),
        ({"neuron": "if", "tau": 2.0}, "tau"),
        ({"drop_path_rate": 0.1}, "drop_path_rate"),
        ({"heads": 7}, "heads must divide"),
        ({"in_chans": 0}, "in_chans must be >= 1"),
        ({"ndim": 3}, "ndim must be 1"),
    ],
)
def test_options_it_cannot_honour(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        timm.create_model(name, **options)
    assert "\n" not in str(error.value)


# -- fairness: what is asked for arrives -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_every_option_changes_the_logits(name: str) -> None:
    reference = create(name)
    x = inputs(reference)
    logits = reference(x)
    pools_first = any(getattr(module, "pool_first", False) for module in reference.modules())
    changes: list[dict[str, Any]] = [
        {"time_steps": 2}, {"threshold": 1.3}, {"attn_threshold": 1.3}, {"tau": 3.0}, {"reset": "soft"},
        {"neuron": "if"}, {"attn_scale": 0.5}, {"pool_first": not pools_first},
    ]  # fmt: skip
    for change in changes:
        changed = create(name, **change)
        assert not torch.equal(changed(x), logits), change
    assert torch.equal(create(name, threshold=1.0, attn_threshold=0.5, tau=2.0, reset="hard", neuron="lif")(x), logits)


@pytest.mark.parametrize("name", SMALL)
def test_options_of_the_gradient_change_the_gradient(name: str) -> None:
    def gradient(**options: Any) -> Tensor:
        model = create(name, **options)
        model(inputs(model)).square().sum().backward()
        first = next(model.parameters()).grad
        assert first is not None
        return first

    reference = gradient()
    for change in ({"surrogate": "atan"}, {"alpha": 2.0}, {"detach_reset": False}):
        assert not torch.equal(gradient(**change), reference), change
    assert torch.equal(gradient(surrogate="sigmoid", alpha=4.0, detach_reset=True), reference)


# -- any neuron --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", sorted(list_neurons()))
@pytest.mark.parametrize("name", ["spikformer_seq_2_64", "qkformer_dvs_2_64"])
def test_any_neuron_trains(name: str, neuron: str) -> None:
    model = create(name, neuron=neuron).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    loss = torch.nn.functional.cross_entropy(model(inputs(model, batch=4)), torch.arange(4))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_copies_and_saved_weights(name: str, tmp_path: Path) -> None:
    model = create(name, neuron="ahsar")
    x = inputs(model)
    logits = model(x)
    assert torch.equal(copy.deepcopy(model)(x), logits)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = timm.create_model(name, num_classes=5, time_steps=3, neuron="ahsar").double().eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x), logits)
    assert torch.equal(create(name)(x), logits)  # a scale of 1 is the plain neuron


@torch.no_grad()
def test_half_precision_runs() -> None:
    model = create("spikformer_2_64")
    x = inputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.float()(x.float()).isfinite().all()
    assert model.bfloat16()(x.bfloat16()).isfinite().all()
