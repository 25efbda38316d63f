"""Weights converted to SpikingJelly's own models give the same logits, and come back as they were."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import SpikingConv
from step_ahsar.libraries.convert import convert_state_dict
from step_ahsar.models import Spikformer
from step_ahsar.neurons import SpikingNeuron

sj_spikformer = pytest.importorskip("spikingjelly.activation_based.model.spikformer")
sj_sdt = pytest.importorskip("spikingjelly.activation_based.model.spike_driven_transformer")
sj_maxformer = pytest.importorskip("spikingjelly.activation_based.model.maxformer")
sj_qkformer = pytest.importorskip("spikingjelly.activation_based.model.qkformer")
reset_net = pytest.importorskip("spikingjelly.activation_based.functional").reset_net

fill = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "golden.py"))["fill"]

CIFAR = {"pool_first": True, "img_size": 32}
SIXTEEN = {"pool_first": True, "img_size": 64, "pools": (1, 1, 1, 1), "qkv_bias": False}


def spikformers(**options: Any) -> tuple[Spikformer, nn.Module]:
    ours = timm.create_model("spikformer_2_64", num_classes=7, per_step=True, **options).eval()
    size = options["img_size"]
    theirs = sj_spikformer.Spikformer(
        T=4,
        img_size_h=size,
        img_size_w=size,
        patch_size=ours.stride,
        num_classes=7,
        embed_dims=64,
        num_heads=2,
        depths=2,
    )
    return ours, theirs.eval()


def qkformers() -> tuple[nn.Module, nn.Module]:
    ours = timm.create_model("qkformer_imagenet_3_64", num_classes=7).eval()
    theirs = sj_qkformer.QKFormer(
        T=4, num_classes=7, embed_dims=64, num_heads=(2, 2, 2), depths=(1, 1, 1), detach_reset=True
    )
    return ours, theirs.eval()


def sdts(name: str, pools: str) -> tuple[nn.Module, nn.Module]:
    ours = timm.create_model(name, num_classes=7).eval()
    theirs = sj_sdt.SpikeDrivenTransformer(
        T=4, num_classes=7, embed_dims=64, num_heads=2, depths=2, pooling_stat=pools, detach_reset=True
    )
    return ours, theirs.eval()


def maxformers() -> tuple[nn.Module, nn.Module]:
    ours = timm.create_model("maxformer_3_64", num_classes=7, heads=8).eval()
    theirs = sj_maxformer.MaxFormer(T=4, num_classes=7, embed_dims=64, depths=(1, 1, 1), cifar=True, detach_reset=True)
    return ours, theirs.eval()


def pair(case: str) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(0)
    if case == "qkformer":
        return *qkformers(), images(64)
    if case == "maxformer":
        return *maxformers(), images(32)
    if case == "sdt, stride 4":
        return *sdts("sdt_2_64", "0011"), images(32)
    if case == "sdt, stride 16":
        return *sdts("sdt_imagenet_2_64", "1111"), images(64)
    options = CIFAR if case == "spikformer, stride 4" else SIXTEEN
    return *spikformers(**options), images(options["img_size"])


def images(size: int) -> Tensor:
    return torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(3))


def spread_over_images(logits: Tensor) -> float:
    """Deviation between images of the logits, [B, K] or [T, B, K]."""
    return float(logits.reshape(-1, 5, 7).mean(0).std(0).min())


def clear_biases_that_move(ours: nn.Module, theirs: nn.Module) -> None:
    """A bias that only one side has moves into a running mean: the same but for rounding, which can flip a spike."""
    lonely = {key.removesuffix(".conv.bias") for key in ours.state_dict() if key.endswith(".conv.bias")}
    has_mlp_bias = "stage1.0.mlp.fc1.bias" in theirs.state_dict()
    if isinstance(theirs, sj_sdt.SpikeDrivenTransformer):
        return  # every bias here has a counterpart there
    for path in lonely:
        if not (has_mlp_bias and ".mlp." in path):
            nn.init.zeros_(ours.get_submodule(path).conv.bias)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize(
    "case",
    ["spikformer, stride 4", "spikformer, stride 16", "qkformer", "sdt, stride 4", "sdt, stride 16", "maxformer"],
)
@torch.no_grad()
def test_same_logits_as_spikingjelly(case: str) -> None:
    ours, theirs, x = pair(case)
    fill(ours)
    clear_biases_that_move(ours, theirs)
    theirs.load_state_dict(convert_state_dict(ours.state_dict(), ours))

    rates: dict[str, float] = {}
    for name, module in ours.named_modules():
        if isinstance(module, SpikingNeuron):
            module.register_forward_hook(lambda _, __, spikes, name=name: rates.update({name: float(spikes.mean())}))
    logits, expected = ours(x), theirs(x)

    assert logits.shape == expected.shape
    assert (logits - expected).abs().max() == 0.0
    assert len(rates) == len([m for m in ours.modules() if isinstance(m, SpikingNeuron)])
    assert all(0 < rate < 1 for rate in rates.values()), rates
    assert spread_over_images(logits) > 4e-3


@pytest.mark.parametrize("case", ["spikformer, stride 4", "qkformer", "sdt, stride 4"])
@torch.no_grad()
def test_spikingjellys_weights_in_ours(case: str) -> None:
    ours, theirs, x = pair(case)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.constant_(module.bias, 0.5)
            module.momentum = 1.0
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
    theirs.train()(images(x.shape[-1]))  # the norms' averages
    reset_net(theirs.eval())
    ours.load_state_dict(convert_state_dict(theirs.state_dict(), ours, to="step_ahsar"))
    logits = ours(x)
    assert (logits - theirs(x)).abs().max() == 0.0
    assert spread_over_images(logits) > 1e-3


@pytest.mark.parametrize("case", ["spikformer, stride 16", "qkformer", "sdt, stride 16", "maxformer"])
def test_there_and_back(case: str) -> None:
    ours, theirs, _ = pair(case)
    fill(ours)
    clear_biases_that_move(ours, theirs)
    state = ours.state_dict()
    back = convert_state_dict(convert_state_dict(state, ours), ours, to="step_ahsar")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


@torch.no_grad()
def test_a_bias_moves_into_the_running_mean() -> None:
    ours, theirs = spikformers(**CIFAR)
    fill(ours)
    theirs.load_state_dict(convert_state_dict(ours.state_dict(), ours))
    q = ours.blocks[0].attn.q  # type: ignore[union-attr]
    assert isinstance(q, SpikingConv)
    assert q.conv.bias is not None
    assert q.conv.bias.abs().min() > 0
    tokens = torch.randn(6, 64, 10)
    torch.testing.assert_close(q.norm(q.conv(tokens)), theirs.blocks[0].attn.qkv_conv_bn(tokens[None])[0, :, :64])


def test_what_spikingjelly_has_not() -> None:
    def convert(name: str, **options: Any) -> None:
        model = timm.create_model(name, **options)
        convert_state_dict(model.state_dict(), model)

    with pytest.raises(UserError, match=r"'patch_embed.stages.2' after it; build with pool_first=True"):
        convert("spikformer_2_64")
    with pytest.raises(UserError, match="images, not sequences"):
        convert("spikformer_seq_2_64", pool_first=True)
    with pytest.raises(UserError, match=r"'blocks.0.attn' has 0.25"):
        convert("spikformer_dvs_2_64", pool_first=True)
    with pytest.raises(UserError, match="last two stages"):
        convert("spikformer_2_64", pool_first=True, pools=(0, 0, 0, 1))
    with pytest.raises(UserError, match="ImageNet form"):
        convert("qkformer_3_64")
    with pytest.raises(UserError, match=r"neuron.threshold_scale' has no counterpart"):
        convert("spikformer_2_64", pool_first=True, neuron="ahsar")
    with pytest.raises(UserError, match="has spike shortcuts, not membrane shortcuts"):
        convert("msqkformer_3_64")
    with pytest.raises(UserError, match="models of other libraries cannot hold quantised weights"):
        convert("sdt_2_64", weight_bits=4)
    for change in ({"stem": "patch"}, {"attention": "none"}):
        with pytest.raises(UserError, match="'spikingjelly' has no model without its own stem and attention"):
            convert("sdt_2_64", **change)
    with pytest.raises(UserError, match="known: MaxFormer, QKFormer, SpikeDrivenTransformer, Spikformer"):
        convert_state_dict({}, nn.Linear(2, 2))


@torch.no_grad()
def test_a_file_of_another_library_is_read_and_said(tmp_path: Path) -> None:
    """By timm.create_model, also for another number of classes and of channels."""
    ours, theirs, x = pair("sdt, stride 4")
    fill(ours)
    theirs.load_state_dict(convert_state_dict(ours.state_dict(), ours))
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    overlay = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "theirs.pth"), "num_classes": 7}}
    with pytest.warns(UserWarning, match="converted 114 tensors from the layout of 'spikingjelly' to 110 of SpikeD"):
        read = timm.create_model("sdt_2_64", num_classes=7, **overlay).eval()
    assert torch.equal(read(x), ours(x))
    with pytest.warns(UserWarning, match="converted"):
        other = timm.create_model("sdt_2_64", num_classes=3, in_chans=1, **overlay)
    key = "blocks.0.attn.q.conv.weight"
    assert torch.equal(other.state_dict()[key], ours.state_dict()[key])
    for name, message in (
        ("spikformer_2_64", "with 'patch_embed.stages.0.0.weight' first, belong neither to Spikformer nor"),
        ("swformer_2_64", "neither to SWformer nor .* no layout of 'spikingjelly' is known for SWformer; known: "),
    ):
        with pytest.raises(UserError, match=message) as error:
            timm.create_model(name, num_classes=7, **overlay)
        assert "\n" not in str(error.value)


def test_wrong_state_dicts_and_layouts() -> None:
    ours, _ = spikformers(**CIFAR)
    with pytest.raises(UserError, match=r"no 'patch_embed.stages.0.conv_bn.block.0.weight'"):
        convert_state_dict(ours.state_dict(), ours, to="step_ahsar")
    with pytest.raises(UserError, match="did you mean 'spikingjelly'"):
        convert_state_dict(ours.state_dict(), ours, to="spikingjely")
