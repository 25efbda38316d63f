import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, DeformedShortcutEmbedding, EmbeddingPlan, PatchSplitting, SpikingConv

LIVELY = Blueprint(threshold=0.3)


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
