"""What holds for every model of the zoo: the small ones run, of the published ones the layout is checked."""

import copy
import json
import math
import runpy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from step_ahsar.ahsar import fold, regulate
from step_ahsar.errors import UserError
from step_ahsar.layers import (
    ConvStem,
    DeformedShortcutEmbedding,
    Downsampling,
    DualSpikeAttention,
    ExpertsAttention,
    LearnedPool,
    PatchEmbedding,
    PatchSplitting,
    RepConv,
    SpikingAttention,
    SpikingConv,
    TemporalInteraction,
)
from step_ahsar.layers.fixed import FixedSpikes
from step_ahsar.models import SpikingTransformer, list_models, model_arguments
from step_ahsar.neurons import NORMS, SpikingNeuron, list_backends, list_neurons
from step_ahsar.paths import zoo_dir

golden_script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "golden.py"))
fill, small, describe = golden_script["fill"], golden_script["small"], golden_script["describe"]

ALL = list_models()
SMALL = [name for name in ALL if small(name)]
FAMILIES = {name: family for family in golden_script["FAMILIES"] for name in list_models(family)}
ONE_EACH = list({FAMILIES[name]: name for name in SMALL if "_imagenet_" not in name}.values())  # one small of a family

# Parameters of the authors' public code as measured: shared facts, which this package's models equal to the last digit.
MEASURED = {
    "spikingformer_4_256": 4_152_106,
    "spikingformer_2_384": 5_762_746,
    "spikingformer_4_384": 9_320_122,
    "spikingformer_8_384": 16_816_024,
    "spikingformer_8_512": 29_689_384,
    "spikingformer_8_768": 66_338_632,
    "spikingformer_dvs_2_256": 2_566_666,
    "sdt_8_384": 16_816_024,
    "sdt_6_512": 23_373_352,
    "sdt_8_512": 29_689_384,
    "sdt_10_512": 36_005_416,
    "sdt_8_768": 66_338_632,
    "sdt_2_512": 10_233_418,
    "sdt_dvs_2_256": 2_566_666,
    "maxformer_4_384": 6_568_282,
    "maxformer_10_384": 16_237_240,
    "maxformer_10_512": 28_653_480,
    "maxformer_10_768": 63_992_200,
    "maxformer_dvs_2_256": 1_455_626,
    "metaspikeformer_8_256": 15_112_208,
    "metaspikeformer_8_384": 31_333_864,
    "metaspikeformer_8_512": 55_350_248,
    "espikeformer_t": 2_702_048,
    "espikeformer_s": 5_105_608,
    "espikeformer_m": 10_023_112,
    "espikeformer_l": 18_987_504,
    "spikingresformer_ti": 11_180_992,
    "spikingresformer_s": 17_813_824,
    "spikingresformer_m": 35_601_472,
    "spikingresformer_l": 60_375_680,
    "spikingresformer_cifar_ti": 10_793_152,
    "tim_dvs_2_256": 2_568_746,
    "semm_4_384": 7_739_242,
    "sglformer_4_384": 8_852_874,
    "sglformer_8_384": 16_239_640,
    "sglformer_8_512": 28_658_728,
    "sglformer_8_768": 64_006_216,
    "swformer_4_384": 7_479_226,
    "swformer_6_512": 21_806_632,
    "swformer_8_512": 27_600_424,
    "swformer_dvs_2_256": 2_157_834,
}
WITH_100_CLASSES = {
    "spikingformer_4_384": 9_354_772,
    "sdt_2_512": 10_279_588,
    "maxformer_4_384": 6_602_932,
    "sglformer_4_384": 8_887_524,
    "spikingresformer_cifar_ti": 10_827_712,
    "swformer_4_384": 7_513_876,
}

# Published millions of parameters where the public code has more than the model, and how far the last digit may be off:
# zoo/*/CARD.md says why.
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
    """A small model of LIF neurons in float64, in which no rounding moves a spike, with lively weights."""
    given = {"num_classes": 5, "time_steps": 3, "neuron": "lif", "threshold": 1.0, **options}
    model = timm.create_model(name, **given).double().eval()
    assert isinstance(model, SpikingTransformer)
    fill(model)
    return model


def inputs(model: SpikingTransformer, batch: int = 2, time_steps: int | None = None, seed: int = 0) -> Tensor:
    """The smallest input with more than one token, or of the only size that the model takes."""
    size = model.img_size if one_size(model) else [2 * model.multiple] * model.ndim
    assert size is not None
    steps = [] if time_steps is None else [time_steps]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*steps, batch, model.in_chans, *size, generator=generator, dtype=torch.float64)


def lively(name: str, **options: Any) -> SpikingTransformer:
    """A small model in which every layer fires on small inputs, also behind attention products over few tokens."""
    few = FAMILIES[name] not in ("qkformer", "spikingresformer", "swformer")
    return create(name, **{"threshold": 0.5, "attn_threshold": 0.1 if few else None, **options})


def one_size(model: torch.nn.Module) -> bool:
    """Whether the model has weights for each position."""
    return any(isinstance(m, LearnedPool | TemporalInteraction) for m in model.modules())


def one_length(model: torch.nn.Module) -> bool:
    """Whether the model has weights for each time step."""
    return any(isinstance(m, LearnedPool) for m in model.modules())


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


@pytest.mark.parametrize(
    ("name", "classes", "measured"),
    [(name, None, count) for name, count in MEASURED.items()]
    + [(name, 100, count) for name, count in WITH_100_CLASSES.items()],
)
def test_parameter_counts_are_those_of_the_public_code(name: str, classes: int | None, measured: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, **({} if classes is None else {"num_classes": classes}))
    assert sum(p.numel() for p in model.parameters()) == measured


def test_counts_of_models_that_differ_from_the_public_code_on_purpose() -> None:
    def count(name: str, **options: Any) -> int:
        with torch.device("meta"):
            model = timm.create_model(name, **options)
        return sum(p.numel() for p in model.parameters())

    # QSD is Meta-SpikeFormer with layer scales; each quantised channel has a step, too.
    assert count("qsd_8_512", weight_bits=32) == MEASURED["metaspikeformer_8_512"] + 8_704
    # SEMM for ImageNet: the public code declares the norms of k and v and does not use them. They are used here.
    assert count("semm_8_512") == 27_550_088


@pytest.mark.parametrize("family", golden_script["FAMILIES"])
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
def test_groups(name: str) -> None:
    """Token mixers are attention, channel mixers mlp, embeddings stem; a neuron in front of the classifier is head."""
    places = {
        "stem": ("patch_embed.",),
        "attention": (".attn.", ".branch.mix.", ".0.branch."),
        "mlp": (".mlp.", ".branch."),
        "head": ("head_neuron.",),
    }
    groups = {path: neuron.group for path, neuron in neurons(create(name))}
    assert {"stem", "attention", "mlp"} <= set(groups.values())
    for path, group in groups.items():
        local = FAMILIES[name] == "sglformer" and ".branch." in path and ".branch.mix." not in path
        expected = "mlp" if local else next(g for g, words in places.items() if any(word in path for word in words))
        assert group == expected, path


@pytest.mark.parametrize("name", SMALL)
def test_thresholds_and_attention_scale(name: str) -> None:
    model = create(name, threshold=0.6)
    share = 1.0 if FAMILIES[name] in ("espikeformer", "qsd", "spikingresformer") else 0.5

    def threshold(path: str) -> float:
        if path.endswith("interaction.past.neuron"):
            return 0.3 * 0.6
        behind = ("attn.neuron", "attn.0.neuron", "match.neuron", "gather.neuron", "interaction.mixed.neuron")
        return share * 0.6 if path.endswith(behind) else 0.6

    for path, neuron in neurons(model):
        assert neuron.threshold == pytest.approx(threshold(path)), path
    if FAMILIES[name] == "swformer":
        with pytest.raises(UserError, match="attention and attn_threshold would have no effect"):
            create(name, attn_threshold=0.9)
        return
    changed = {neuron.threshold for _, neuron in neurons(create(name, threshold=0.6, attn_threshold=0.9))}
    assert changed <= {0.6, 0.9, 0.3 * 0.6}
    assert 0.9 in changed
    scales = {m.scale for m in model.modules() if isinstance(m, SpikingAttention)}
    published = {"spikformer_dvs_2_64": {0.25}, "tim_dvs_2_64": {0.25}, "qkformer_dvs_2_64": {1.0, 0.125}}
    of_family = {"qsd": {0.25}, "sdt": {1.0}, "qkformer": {1.0, 0.125}, "semm": set(), "spikingresformer": set()}
    of_family |= {"espikeformer": {2 / math.sqrt(24), 2 / math.sqrt(32)}}  # 2 / sqrt(d), d channels per head
    assert scales == published.get(name, of_family.get(FAMILIES[name], {0.125}))


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_fires_and_images_differ(name: str) -> None:
    # Q-K attention sums over a head's channels: at half the threshold its mask would never be 0.
    model = create(name) if FAMILIES[name] == "qkformer" else lively(name)
    rates: dict[str, float] = {}
    for path, neuron in neurons(model):
        neuron.register_forward_hook(lambda _, __, out, path=path: rates.update({path: float(out.abs().mean())}))
    with torch.no_grad():
        logits = model(inputs(model, batch=3))
    assert rates.keys() == dict(neurons(model)).keys()
    assert all(0 < rate < 1 for rate in rates.values()), rates
    assert logits.std(0).min() > 1e-3


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_every_parameter_gets_a_gradient(name: str, neuron: str) -> None:
    """In eval mode: a norm by batch statistics would cancel the gradient of the biases before it."""
    model = lively(name, neuron=neuron)
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
    if one_length(model):
        with pytest.raises(UserError, match=f"was made for 3 time steps and .* got {time_steps} and"):
            create(name)(over_time)
        return
    assert torch.equal(create(name)(over_time), logits)  # the T of the input counts
    model.per_step = True
    assert model(x).shape == (time_steps, 2, 5)
    torch.testing.assert_close(model(x).mean(0), logits)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_steps_count_in_their_order(name: str) -> None:
    if one_length(create(name)):
        pytest.skip("has no logits for each time step")
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
        with pytest.raises(UserError, match=f"multiples of {model.multiple}, such as") as error:
            model(x[..., : model.multiple + 1])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"cannot take size .*> 0"):
        model(x[..., :0])
    wrong_size: Any
    for wrong_size in (*([model.multiple + 1] if model.ndim == 2 else []), 0, (8,) * (model.ndim + 1)):
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
    reference = lively(name)
    x = inputs(reference)
    logits = reference(x)
    pools_first = any(getattr(module, "pool_first", False) for module in reference.modules())
    changes: list[dict[str, Any]] = [
        {"time_steps": 2}, {"threshold": 1.3}, {"attn_threshold": 9.0}, {"tau": 3.0}, {"reset": "soft"},
        {"neuron": "if"}, {"attn_scale": 0.02}, {"pool_first": not pools_first}, {"mixing": 0.9},
        {"weight_bits": 3}, {"stem": "patch"}, {"attention": "random"}, {"attention": "none"},
    ]  # fmt: skip
    own = {*(model_arguments(name) or ()), "tau", "reset"}
    without = {"attn_threshold", "attention"} if FAMILIES[name] == "swformer" else set()
    if name == "msqkformer_3_64":
        without = {"pool_first"}  # all its pools are at the ends of branches, where no neuron follows
    for change in changes:
        if change.keys() <= own - without:
            assert not torch.equal(
                lively(name, **{"attn_threshold": None, **change} if "attention" in change else change)(x), logits
            ), change


@pytest.mark.parametrize("name", SMALL)
def test_options_of_the_gradient_change_the_gradient(name: str) -> None:
    def gradient(**options: Any) -> Tensor:
        model = create(name, **options)
        model(inputs(model)).square().sum().backward()
        first = next(model.parameters()).grad
        assert first is not None
        return first

    published = {"surrogate": "sigmoid", "alpha": 4.0, "detach_reset": True}
    reference = gradient(**published)
    for change in ({"surrogate": "atan"}, {"alpha": 2.0}, {"detach_reset": False}):
        assert not torch.equal(gradient(**{**published, **change}), reference), change
    if FAMILIES[name] == "spikingresformer":
        published = {"surrogate": "atan", "alpha": 2.0}
    assert torch.equal(gradient(), gradient(**published))


# -- any norm, any neuron, any backend ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("norm", sorted(NORMS))
def test_norms(name: str, norm: str) -> None:
    """Fused with its neuron or not, a norm gives the same; tdBN starts at the thresholds; TEBN is bound to T."""
    model = lively(name, norm=norm).train()
    apart = copy.deepcopy(model)
    for module in apart.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: None)  # a norm with hooks runs as a module of its own
    x = inputs(model, batch=4)
    outputs = [each(x) for each in (model, apart)]
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    for logits in outputs:
        logits.square().sum().backward()
    for (key, p), q in zip(model.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=1e-9, msg=key)
    fresh = timm.create_model(name, norm=norm, threshold=0.7)
    behind = {
        round(float(m.norm.weight.detach()[0]), 6)
        for m in fresh.modules()
        if isinstance(m, SpikingConv) and m.neuron is not None and not isinstance(m.conv, RepConv)
    }
    assert behind <= ({0.7} if norm == "tdbn" else {1.0})
    if norm == "tebn":
        with pytest.raises(UserError, match="was made for 3 time steps"):
            model(inputs(model, time_steps=2))


@pytest.mark.parametrize("backend", sorted(set(list_backends()) - {"torch"}))
@pytest.mark.parametrize("name", ONE_EACH)
@torch.no_grad()
def test_any_backend_gives_the_same_logits(name: str, backend: str) -> None:
    """In exact arithmetic; snnTorch and sinabs decay membranes by another rounding, which fp64 and tau 2 hide."""
    model = create(name)
    x = inputs(model)
    torch.testing.assert_close(create(name, backend=backend)(x), model(x), rtol=0, atol=1e-9)


# -- any neuron --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", sorted(list_neurons()))
@pytest.mark.parametrize("name", ONE_EACH)
def test_any_neuron_trains(name: str, neuron: str) -> None:
    model = create(name, neuron=neuron, threshold=None).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    loss = torch.nn.functional.cross_entropy(model(inputs(model, batch=4)), torch.arange(4))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", SMALL)
def test_regulation_by_group(name: str) -> None:
    """AHSAR finds every neuron in its group, counts each forward pass once and moves every scale."""
    model = lively(name, neuron="ahsar").train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as: a module looks like a neuron and is not known
        controller = regulate(model)
    sizes: dict[str, int] = {}
    for path, neuron in neurons(model):
        neuron.register_forward_hook(lambda _, __, out, path=path: sizes.update({path: out.numel()}))
    model(inputs(model, batch=2)).sum().backward()
    for path, neuron in neurons(model):
        assert neuron.observed is not None
        assert neuron.observed[1] == sizes[path], path
    controller.step()
    assert {path: layer["group"] for path, layer in controller.layers().items()} == {
        path: neuron.group for path, neuron in neurons(model)
    }
    # Layers outside the band have moved; those inside it rest.
    assert any(neuron.threshold_scale != 1 for _, neuron in neurons(model))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_folding_keeps_the_spikes(name: str) -> None:
    model = lively(name, neuron="ahsar")
    draw = torch.Generator().manual_seed(0)
    for _, neuron in neurons(model):
        assert neuron.threshold_scale is not None
        neuron.threshold_scale.fill_(float(0.6 + torch.rand((), generator=draw)))
    x = inputs(model)
    logits = model(x)
    plain = lively(name)
    assert not torch.equal(plain(x), logits)
    for weights_only in (False, True):
        folded = fold(model, weights_only=weights_only)
        assert all(neuron.threshold_scale is None for _, neuron in neurons(folded))
        torch.testing.assert_close(folded(x), logits, rtol=0, atol=1e-9)
        assert sum(p.numel() for p in folded.parameters()) == sum(p.numel() for p in model.parameters())
    weights = fold(model, weights_only=True)
    thresholds = {path: neuron.threshold for path, neuron in neurons(weights)}
    plain.load_state_dict(weights.state_dict())
    for path, neuron in neurons(plain):
        neuron.threshold = thresholds[path]
    torch.testing.assert_close(plain(x), logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ONE_EACH)
def test_ablations_leave_out_what_they_say(name: str) -> None:
    """A stem of patches has one convolution; without attention none is left; random attention has no product."""

    def kinds(**options: Any) -> list[torch.nn.Module]:
        return list(lively(name, **options).modules())

    if FAMILIES[name] == "swformer":
        with pytest.raises(UserError, match="SWformer mixes tokens without attention"):
            create(name, attention="none")
    else:
        attentions = (SpikingAttention, DualSpikeAttention, ExpertsAttention)
        assert any(isinstance(m, attentions) for m in kinds())
        assert not any(isinstance(m, attentions) for m in kinds(attention="none", attn_threshold=None))
        random = lively(name, attention="random", attn_threshold=None)
        assert any(isinstance(m, FixedSpikes) for m in random.modules())
        random(inputs(random)).square().sum().backward()
        assert not [key for key, p in random.named_parameters() if p.grad is None]
        with pytest.raises(UserError, match="unknown attention 'x'; known: none, own, random"):
            create(name, attention="x")
        with pytest.raises(UserError, match="attn_threshold has no effect without the family's own attention"):
            create(name, attention="none", attn_threshold=0.5)
    stems = (PatchSplitting, ConvStem, DeformedShortcutEmbedding, Downsampling)
    assert not any(isinstance(m, stems) for m in kinds(stem="patch"))
    assert any(isinstance(m, PatchEmbedding) for m in kinds(stem="patch"))
    with pytest.raises(UserError, match="unknown stem 'x'; known: conv, patch"):
        create(name, stem="x")


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_copies_and_saved_weights(name: str, tmp_path: Path) -> None:
    model = create(name, neuron="ahsar")
    x = inputs(model)
    logits = model(x)
    assert torch.equal(copy.deepcopy(model)(x), logits)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = timm.create_model(name, num_classes=5, time_steps=3, neuron="ahsar", threshold=1.0).double().eval()
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
