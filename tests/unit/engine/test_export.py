"""Regulated models exported to other libraries: their models give the same logits."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from step_ahsar.ahsar import fold, is_regulated
from step_ahsar.engine import export_model
from step_ahsar.errors import UserError
from step_ahsar.libraries.convert import convert_state_dict as convert
from step_ahsar.neurons import SpikingNeuron

sj_spikformer = pytest.importorskip("spikingjelly.activation_based.model.spikformer")
sj_qkformer = pytest.importorskip("spikingjelly.activation_based.model.qkformer")
sj_neurons = pytest.importorskip("spikingjelly.activation_based.neuron")
pytest.importorskip("braincog")

TESTS = Path(__file__).parents[2]
fill = runpy.run_path(str(TESTS.parent / "scripts" / "golden.py"))["fill"]
step = runpy.run_path(str(TESTS / "standins" / "step.py"))

JELLY_SPIKFORMER = {"T": 4, "img_size_h": 32, "img_size_w": 32, "patch_size": 4, "embed_dims": 64, "num_heads": 2}
JELLY_QKFORMER = {"T": 4, "embed_dims": 64, "num_heads": (2, 2, 2), "depths": (1, 1, 1)}
CASES: dict[str, tuple[str, dict[str, Any], int, Any]] = {
    "spikingjelly spikformer": (
        "spikformer_2_64",
        {"pool_first": True, "per_step": True},
        32,
        lambda **options: sj_spikformer.Spikformer(**JELLY_SPIKFORMER, depths=2, num_classes=7, **options),
    ),
    "spikingjelly qkformer": (
        "qkformer_imagenet_3_64",
        {},
        64,
        lambda **options: sj_qkformer.QKFormer(**JELLY_QKFORMER, num_classes=7, **options),
    ),
    "braincog spikformer": ("spikformer_2_64", {}, 32, lambda: step["Spikformer"](num_classes=7)),
    "braincog qkformer": ("qkformer_3_64", {}, 32, lambda: step["QKFormer"](num_classes=7)),
}


def regulated(name: str, **options: Any) -> nn.Module:
    """Every layer fires; scales at random."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, neuron="ahsar", **options).eval()
    fill(model)
    for module in model.modules():
        if isinstance(module, SpikingNeuron):
            module.threshold_scale.uniform_(0.5, 1.5)  # type: ignore[union-attr]
    return model


def clear_biases(ours: nn.Module) -> None:
    """A bias that moves into a norm's mean is the same but for rounding; without one there is none."""
    for key, value in ours.named_parameters():
        if key.endswith("conv.bias"):
            nn.init.zeros_(value)


def load(model: nn.Module, state: dict[str, Tensor], attributes: dict[str, Any]) -> nn.Module:
    """The recipe of docs/export.md."""
    model.load_state_dict(state)
    for path, value in attributes.items():
        owner, _, attribute = path.rpartition(".")
        setattr(model.get_submodule(owner), attribute, value)
    return model.eval()


def images(size: int) -> Tensor:
    return torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("spikingjelly")])
@torch.no_grad()
def test_same_logits_in_spikingjelly_bit_for_bit(case: str) -> None:
    name, options, size, build = CASES[case]
    ours = regulated(name, **options)
    clear_biases(ours)
    theirs = load(build(), *export_model(ours, "spikingjelly"))
    logits, expected = theirs(images(size)), ours(images(size))
    assert torch.equal(logits, expected)
    assert expected.view(-1, 5, 7).mean(0).std(0).min() > 1e-2
    assert is_regulated(ours)


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("braincog")])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@torch.no_grad()
def test_same_logits_in_step(case: str, dtype: torch.dtype) -> None:
    """STEP has linear layers where convolutions are here. They round differently, which in fp32 may move a spike."""
    name, options, size, build = CASES[case]
    ours = regulated(name, **options).to(dtype)
    theirs = load(build(), *export_model(ours, "braincog")).to(dtype)
    logits, expected = theirs(images(size).to(dtype)), ours(images(size).to(dtype))
    assert (logits - expected).abs().max() < (1e-9 if dtype == torch.float64 else 1e-2)
    assert expected.std(0).min() > 1e-3


@torch.no_grad()
def test_biases_move_into_means_but_for_rounding() -> None:
    name, options, size, build = CASES["spikingjelly spikformer"]
    ours = regulated(name, **options)
    theirs = load(build(), *export_model(ours, "spikingjelly"))
    assert (theirs(images(size)) - ours(images(size))).mean(0).abs().max() < 2e-2


@pytest.mark.parametrize(("name", "options"), [("spikformer_2_64", {}), ("qkformer_3_64", {"base": "plif"})])
@torch.no_grad()
def test_our_own_models(name: str, options: dict[str, Any]) -> None:
    ours = regulated(name, threshold=0.8, **options)
    plain = timm.create_model(name, num_classes=7, neuron=options.get("base", "lif"))
    state, attributes = export_model(ours, "torch")
    load(plain, state, attributes)
    assert torch.equal(plain(images(32)), fold(ours)(images(32)))
    assert (plain(images(32)) - ours(images(32))).abs().max() == 0
    published = [value for path, value in attributes.items() if not path.endswith("attn.neuron.threshold")]
    assert set(published) == {0.8}


def test_attributes() -> None:
    model = regulated("spikformer_2_64", pool_first=True, threshold=0.7, tau=3.0)
    state, attributes = export_model(model, "spikingjelly")
    assert {value for path, value in attributes.items() if path.endswith(".tau")} == {3.0}
    assert {value for path, value in attributes.items() if path.endswith(".v_reset")} == {0.0}
    thresholds = {path: value for path, value in attributes.items() if path.endswith(".v_threshold")}
    for path, value in thresholds.items():
        if "attn_lif" not in path:
            assert value == 0.7, path
    block: Any = model.blocks[1]  # type: ignore[index]
    scaled = 0.35 * block.attn.neuron.threshold_scale
    assert thresholds["blocks.1.attn.attn_lif.v_threshold"] == scaled.item()
    assert not any(key.startswith("blocks.1.attn.attn_lif") for key in state)

    state, attributes = export_model(regulated("spikformer_2_64", threshold=0.7), "braincog")
    assert all(path.endswith(".tau") for path in attributes)
    assert state["patch_embed.proj_lif.threshold"] == torch.tensor(0.7)
    assert state["block.1.attn.attn_lif.threshold"] != torch.tensor(0.35)


@torch.no_grad()
def test_a_soft_reset_and_another_neuron() -> None:
    ours = regulated("spikformer_2_64", pool_first=True, per_step=True, base="if", reset="soft")
    clear_biases(ours)
    theirs = CASES["spikingjelly spikformer"][3](spiking_neuron=sj_neurons.IFNode)
    assert torch.equal(load(theirs, *export_model(ours, "spikingjelly"))(images(32)), ours(images(32)))


@pytest.mark.parametrize("base", ["rouser", "sliding_psn", "psn", "ltmd", "plif"])
@torch.no_grad()
def test_neurons_that_hold_their_threshold_in_a_parameter(base: str) -> None:
    """Fault: the scale behind the attention's product was lost for neurons that do not use ``.threshold``."""
    ours = regulated("spikformer_2_64", base=base, img_size=16)
    state, attributes = export_model(ours, "torch")
    plain = timm.create_model("spikformer_2_64", num_classes=7, neuron=base, img_size=16).eval()
    plain.load_state_dict(state)
    for path, value in attributes.items():
        setattr(plain.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2], value)
    expected = ours(images(16))
    assert torch.equal(plain(images(16)), expected)
    for neuron in (module for module in ours.modules() if isinstance(module, SpikingNeuron)):
        neuron.threshold_scale.fill_(1.0)  # type: ignore[union-attr]
    assert not torch.equal(ours(images(16)), expected)


def test_there_and_back_in_steps_layout() -> None:
    for name in ("spikformer_2_64", "qkformer_3_64"):
        model = timm.create_model(name, num_classes=7)
        fill(model)
        state = model.state_dict()
        theirs = convert(state, model, to="braincog")
        back = convert(theirs, model, to="step_ahsar")
        assert back.keys() == state.keys()
        assert all(torch.equal(back[key], state[key]) for key in state)
        key = next(key for key in theirs if key.endswith("lif.threshold"))
        with pytest.raises(UserError, match=f"'{key}' is 2, the model was built with 1"):
            convert({**theirs, key: torch.tensor(2.0)}, model, to="step_ahsar")


def test_what_cannot_be_exported() -> None:
    with pytest.raises(UserError, match="unknown library to export to: 'braincogg'; did you mean 'braincog'"):
        export_model(timm.create_model("spikformer_2_64"), "braincogg")
    with pytest.raises(UserError, match=r"pools before the neuron, 'patch_embed.stages.2' after it; build with"):
        export_model(timm.create_model("spikformer_2_64"), "spikingjelly")
    with pytest.raises(UserError, match=r"pools after the neuron, 'patch_embed.stages.2' before it; build"):
        export_model(timm.create_model("spikformer_2_64", pool_first=True), "braincog")
    with pytest.raises(UserError, match="the models of 'braincog' take images"):
        export_model(timm.create_model("spikformer_seq_2_64"), "braincog")
    with pytest.raises(UserError, match="the models of 'braincog' have no soft reset"):
        export_model(timm.create_model("spikformer_2_64", reset="soft"), "braincog")
    with pytest.raises(UserError, match="qkformer_cifar has the CIFAR form"):
        export_model(timm.create_model("qkformer_imagenet_3_64"), "braincog")
    with pytest.raises(UserError, match="have no neuron 'qif'; they have lif"):
        export_model(timm.create_model("spikformer_2_64", neuron="qif"), "braincog")
    with pytest.raises(UserError, match=r"layer 'patch_embed.stages.0.neuron' cannot be folded: for"):
        export_model(timm.create_model("spikformer_2_64", neuron="ahsar", base="qif"), "torch")
    with pytest.raises(UserError, match="no layout of 'spikingjelly' is known for Linear"):
        export_model(nn.Linear(2, 2), "spikingjelly")
