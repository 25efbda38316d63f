import pytest
import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import (
    Blueprint,
    ConvStem,
    DeformedShortcutEmbedding,
    Downsampling,
    EmbeddingPlan,
    PatchEmbedding,
    PatchSplitting,
    SpikingConv,
)

from .references import convolved, lif, lively, membranes, normed, pooled, same, spikes

LIVELY = Blueprint(threshold=0.3)
MEMBRANE = Blueprint(threshold=0.2, shortcut="membrane")
SPIKE = Blueprint(threshold=0.2)


def conv3(x: Tensor, layer: SpikingConv, stride: int = 1) -> Tensor:
    """C3-B, without bias."""
    return normed(convolved(x, layer.conv, bias=False, padding=1, stride=stride), layer.norm)


def conv1(x: Tensor, layer: SpikingConv, stride: int = 1) -> Tensor:
    """C1-B, without bias."""
    return normed(convolved(x, layer.conv, bias=False, stride=stride), layer.norm)


def channels(layers: nn.Module) -> list[int]:
    """Output channels of all convolutions, in order."""
    return [m.out_channels for m in layers.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]


@pytest.mark.parametrize(
    ("pools", "size"), [((0, 0, 1, 1), (8, 4)), ((1, 1, 1, 1), (2, 1)), ((False, False, False, True), (16, 8))]
)
def test_patch_splitting(pools: tuple[int, ...], size: tuple[int, int]) -> None:
    embed = PatchSplitting(3, 16, LIVELY, pools=pools)  # type: ignore[arg-type]
    assert [stage.conv.out_channels for stage in embed.stages] == [2, 4, 8, 16]
    out = embed(torch.randn(2, 3, 3, 32, 16))
    assert out.shape == (2, 3, 16, *size)
    assert set(out.unique().tolist()) <= {0.0, 1.0, 2.0}


def test_patch_splitting_of_a_sequence() -> None:
    assert PatchSplitting(1, 16, LIVELY, ndim=1)(torch.randn(2, 3, 1, 20)).shape == (2, 3, 16, 5)


def test_deformed_shortcut() -> None:
    torch.manual_seed(0)
    plan = EmbeddingPlan(stem=((8, None), (4, "pool")), main=((2, "pool"), (1, "pool")))
    embed = DeformedShortcutEmbedding(2, 16, plan, LIVELY).eval()
    assert plan.stride == 8
    assert [m.conv.out_channels for m in embed.modules() if isinstance(m, SpikingConv)] == [2, 4, 8, 16, 16]
    x = torch.randn(3, 2, 2, 16, 8)
    assert embed.shortcut.conv.stride == (4, 4)
    assert embed.shortcut.conv.in_channels == 4
    out = embed(x)
    assert out.shape == (3, 2, 16, 2, 1)
    assert torch.equal(out, embed.main(embed.stem(x)) + embed.shortcut(embed.stem(x)))
    assert torch.equal(out, out.round())


def test_pools_come_before_the_neuron_when_asked() -> None:
    for pool_first in (False, True):
        layers = [
            *PatchSplitting(3, 16, LIVELY, pool_first=pool_first).stages,
            *DeformedShortcutEmbedding(3, 8, EmbeddingPlan((), ((1, "pool"),)), LIVELY, pool_first=pool_first).main,
        ]
        assert all(layer.pool_first is pool_first for layer in layers)


def test_widths_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="multiple of 8, got 12"):
        PatchSplitting(3, 12, LIVELY)
    with pytest.raises(UserError, match="four flags"):
        PatchSplitting(3, 16, LIVELY, pools=(True, True))
    with pytest.raises(UserError, match="dim must be a multiple of 8, got 12"):
        DeformedShortcutEmbedding(3, 12, EmbeddingPlan(((8, None),), ((1, None),)), LIVELY)


# -- membrane shortcuts, and what they share with spike shortcuts ------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("pools", [(0, 0, 1, 1), (1, 0, 1, 0)])
def test_patch_splitting_of_membranes(pools: tuple[int, ...], ndim: int) -> None:
    """Three C3-B-N[-P], then C3-B[-P], which is the membrane m; m + B(C3(N(m)))."""
    embed = lively(PatchSplitting(2, 16, MEMBRANE, ndim=ndim, pools=pools))  # type: ignore[arg-type]
    assert channels(embed.stages) == [2, 4, 8, 16]
    x = image = membranes(3, 2, 2, *(8, 12)[:ndim])
    for i, (stage, pool) in enumerate(zip(embed.stages, pools, strict=True)):
        x = conv3(x, stage)
        x = lif(x, 0.2) if i < 3 else x
        x = pooled(x) if pool else x
    same(embed(image), x + conv3(lif(x, 0.2), embed.position))


def test_patch_splitting_of_spikes() -> None:
    embed, x = lively(PatchSplitting(2, 16, SPIKE)), membranes(3, 2, 2, 8, 12)
    image = x
    for stage, pool in zip(embed.stages, (False, False, True, True), strict=True):
        x = lif(conv3(x, stage), 0.2)
        x = pooled(x) if pool else x
    assert torch.equal(embed(image), x + lif(conv3(x, embed.position), 0.2))


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("pools", [(0, 0, 1, 1), (1, 0, 0, 1)])
def test_convolutional_stem(pools: tuple[int, ...], ndim: int) -> None:
    """Spikingformer: C3-B to D/8, then four N-[P]-C3-B; the output is a membrane, with spike shortcuts its spikes."""
    stems = [lively(ConvStem(2, 16, make, ndim=ndim, pools=[*map(bool, pools)])) for make in (MEMBRANE, SPIKE)]
    assert channels(stems[0]) == [2, 4, 8, 16, 16]
    image = membranes(3, 2, 2, *(8, 12)[:ndim])
    first, *others = stems[0].stages
    x = conv3(image, first)
    for stage, pool in zip(others, pools, strict=True):
        s = lif(x, 0.2)
        x = conv3(pooled(s) if pool else s, stage)
    same(stems[0](image), x)
    assert torch.equal(stems[1](image), lif(x, 0.2))


def test_options_of_the_convolutional_stem() -> None:
    with pytest.raises(UserError, match="multiple of 8, got 12"):
        ConvStem(3, 12, MEMBRANE)
    with pytest.raises(UserError, match="four flags"):
        ConvStem(3, 16, MEMBRANE, pools=(True,) * 5)


@pytest.mark.parametrize("ndim", [1, 2])
def test_embedding_of_a_later_stage_of_maxformer(ndim: int) -> None:
    """With s = N(x): [C3-B-P of s, then N-C3-B] + [C1-B-P of s]."""
    plan = EmbeddingPlan(stem=(), main=((1, "pool"), (1, None)), shortcut="pool")
    embed = lively(DeformedShortcutEmbedding(4, 6, plan, MEMBRANE, ndim=ndim))
    x = membranes(3, 2, 4, *(8, 6)[:ndim])
    s = lif(x, 0.2)
    hidden = lif(pooled(conv3(s, embed.main[0])), 0.2)
    same(embed(x), conv3(hidden, embed.main[1]) + pooled(conv1(s, embed.shortcut)))
    assert plan.stride == 2


def test_embedding_with_pooled_shortcut_of_spikes() -> None:
    """Without a stem the spikes are read as they are; the pool stands between norm and neuron."""
    plan = EmbeddingPlan(stem=(), main=((1, "pool"), (1, None)), shortcut="pool")
    embed, s = lively(DeformedShortcutEmbedding(4, 6, plan, SPIKE)), spikes(3, 2, 4, 8, 6)
    hidden = lif(pooled(conv3(s, embed.main[0])), 0.2)
    expected = lif(conv3(hidden, embed.main[1]), 0.2) + lif(pooled(conv1(s, embed.shortcut)), 0.2)
    assert torch.equal(embed(s), expected)


def test_first_embedding_of_maxformer_for_small_images() -> None:
    """C3-B to D/2, then [N-C3-B to D] + [N-C1-B to D]; both N are one."""
    plan = EmbeddingPlan(stem=((2, None),), main=((1, None),))
    embed, x = lively(DeformedShortcutEmbedding(2, 6, plan, MEMBRANE)), membranes(3, 2, 2, 8, 6)
    s = lif(conv3(x, embed.stem[0]), 0.2)
    assert s.shape[2] == 3
    same(embed(x), conv3(s, embed.main[0]) + conv1(s, embed.shortcut))


def test_first_embedding_of_maxformer_for_large_images() -> None:
    """C3 (stride 2)-B to D/2, N-C3 (stride 2)-B to D, N-C3-B, plus C1 (stride 2)-B of the first neuron's spikes."""
    plan = EmbeddingPlan(stem=((2, "stride"),), main=((1, "stride"), (1, None)))
    embed, x = lively(DeformedShortcutEmbedding(2, 6, plan, MEMBRANE)), membranes(3, 2, 2, 12, 8)
    s = lif(conv3(x, embed.stem[0], stride=2), 0.2)
    hidden = lif(conv3(s, embed.main[0], stride=2), 0.2)
    out = embed(x)
    same(out, conv3(hidden, embed.main[1]) + conv1(s, embed.shortcut, stride=2))
    assert plan.stride == 4
    assert out.shape == (3, 2, 6, 3, 2)


def test_first_embedding_of_maxformer_for_events() -> None:
    """C3-B to D/8, N-C3-B-P to D/4, to D/2, to D, plus C1 (stride 4)-B of the spikes that enter the second of these."""
    plan = EmbeddingPlan(stem=((8, None), (4, "pool")), main=((2, "pool"), (1, "pool")))
    embed, x = lively(DeformedShortcutEmbedding(2, 16, plan, MEMBRANE)), membranes(3, 2, 2, 16, 8)
    s = lif(conv3(x, embed.stem[0]), 0.2)
    s = lif(pooled(conv3(s, embed.stem[1])), 0.2)
    hidden = lif(pooled(conv3(s, embed.main[0])), 0.2)
    out = embed(x)
    same(out, pooled(conv3(hidden, embed.main[1])) + conv1(s, embed.shortcut, stride=4))
    assert out.shape == (3, 2, 16, 2, 1)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("ndim", "kernel_size", "stride", "bias"), [(2, 3, 2, True), (2, 7, 2, False), (2, 3, 1, True), (1, 3, 2, False)]
)
def test_downsampling(ndim: int, kernel_size: int, stride: int, bias: bool, first: bool) -> None:
    """N-Ck-B to a membrane; in front of the model's first convolution there is no neuron."""
    options = {"kernel_size": kernel_size, "stride": stride, "bias": bias}
    layer = lively(Downsampling(3, 5, MEMBRANE, ndim=ndim, first=first, **options))  # type: ignore[arg-type]
    x = membranes(3, 2, 3, *(8, 6)[:ndim])
    read = x if first else lif(x, 0.2)
    conv = convolved(read, layer.conv.conv, bias=bias, padding=kernel_size // 2, stride=stride)
    out = layer(x)
    same(out, normed(conv, layer.conv.norm))
    assert out.shape[3:] == tuple(size // stride for size in x.shape[3:])


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("ndim", [1, 2])
def test_patches(ndim: int, first: bool) -> None:
    """One matrix times each patch of 2 or 2 x 2, B; the input is read through a neuron unless it is the model's."""
    layers = [lively(PatchEmbedding(3, 5, make, stride=2, ndim=ndim, first=first)) for make in (MEMBRANE, SPIKE)]
    conv, norm = layers[0].conv.conv, layers[0].conv.norm
    assert conv.bias is None
    x = membranes(3, 2, 3, *(4, 6)[:ndim])

    def patches(x: Tensor) -> Tensor:
        matrix = conv.weight.flatten(1).T
        if ndim == 1:
            return torch.stack([x[..., i : i + 2].flatten(2) @ matrix for i in (0, 2)], 3)
        rows = [[x[..., i : i + 2, j : j + 2].flatten(2) @ matrix for j in (0, 2, 4)] for i in (0, 2)]
        return torch.stack([torch.stack(row, 3) for row in rows], 3)

    read = x if first else lif(x, 0.2)
    same(layers[0](x), normed(patches(read), norm))
    assert torch.equal(layers[1](x), lif(normed(patches(x), norm), 0.2))
