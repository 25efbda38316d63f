"""Norms are those of their papers: compared with SpikingJelly's layers, and with their equations."""

import math

import pytest
import torch
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.neurons import NORMS, create_norm, normalised

T = 4
SHAPES = {1: (T, 3, 5, 7), 2: (T, 3, 5, 4, 6)}


def theirs(name: str, ndim: int, threshold: float, branches: int) -> nn.Module:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    if name == "tdbn":
        kind = (layer.ThresholdDependentBatchNorm1d, layer.ThresholdDependentBatchNorm2d)[ndim - 1]
        return kind(1 / math.sqrt(branches), threshold, 5)
    return (layer.TemporalEffectiveBatchNorm1d, layer.TemporalEffectiveBatchNorm2d)[ndim - 1](T, 5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize(("name", "threshold", "branches"), [("tdbn", 0.7, 1), ("tdbn", 0.5, 2), ("tebn", 1.0, 1)])
def test_equal_to_spikingjellys(name: str, threshold: float, branches: int, ndim: int, training: bool) -> None:
    ours = create_norm(name, 5, ndim=ndim, time_steps=T, threshold=threshold, branches=branches)
    other = theirs(name, ndim, threshold, branches)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in other.parameters()]
    for mine, its in zip(ours.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)  # as they start
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for mine, its in zip(ours.parameters(), other.parameters(), strict=True):
            its.copy_(mine.copy_(torch.rand(mine.shape, generator=generator) + 0.5))
    x = torch.randn(SHAPES[ndim], generator=generator) * 2 + 1
    results = []
    for norm in (ours, other):
        given = x.clone().requires_grad_()
        norm.train()
        normalised(norm, given) if norm is ours else norm(given)  # statistics for eval
        norm.train(training)
        out = normalised(norm, given) if norm is ours else norm(given)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append([out, given.grad, *(p.grad for p in norm.parameters()), *norm.buffers()])
    for mine, its in zip(*results, strict=True):
        assert torch.equal(mine, its)


def test_inputs_have_the_threshold_as_their_deviation() -> None:
    norm = create_norm("tdbn", 5, ndim=2, threshold=0.3)
    x = normalised(norm, torch.randn(T, 64, 5, 8, 8) * 3 + 2)
    torch.testing.assert_close(x.std((0, 1, 3, 4)), torch.full((5,), 0.3), rtol=1e-2, atol=0)


def test_tebn_is_bound_to_its_time_steps() -> None:
    norm = create_norm("tebn", 5, ndim=1, time_steps=T)
    with pytest.raises(UserError, match=r"norm 'tebn' was made for 4 time steps, got 3 in \[3, 3, 5, 7\]"):
        norm(torch.zeros(3, 3, 5, 7))
    with pytest.raises(UserError, match="norm 'tebn' has a factor for each time step and needs time_steps"):
        create_norm("tebn", 5, ndim=1)


def test_unknown_norms_are_named() -> None:
    assert list(NORMS) == ["bn", "none", "tdbn", "tebn"]
    with pytest.raises(UserError, match="unknown norm 'tbn'; did you mean 'tebn'"):
        create_norm("tbn", 5, ndim=1)


@pytest.mark.parametrize("ndim", [1, 2])
def test_none_is_a_batch_norm_without_statistics(ndim: int) -> None:
    ours = create_norm("none", 5, ndim=ndim)
    assert sum(1 for _ in ours.buffers()) == 0
    # In eval mode a batch norm with averages of 0 and 1 leaves the same factor and shift.
    other = create_norm("bn", 5, ndim=ndim).eval()
    other.eps = 0.0
    x = torch.randn(SHAPES[ndim], dtype=torch.float64)
    assert torch.equal(normalised(ours.double(), x), x)  # as it starts
    for own, its in zip(ours.parameters(), other.double().parameters(), strict=True):
        own.data.copy_(torch.rand(5) + 0.5)
        its.data.copy_(own)
    given = [x.clone().requires_grad_() for _ in range(2)]
    for norm, one in zip((ours, other), given, strict=True):
        normalised(norm, one).square().sum().backward()
    torch.testing.assert_close(normalised(ours, x), normalised(other, x))
    torch.testing.assert_close(given[0].grad, given[1].grad)
    for own, its in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.grad, its.grad)
    half = ours.bfloat16()(x.bfloat16().flatten(0, 1))
    assert half.dtype == torch.bfloat16
