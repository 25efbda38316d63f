"""SpikingResformer's attention and MLP, against the paper's equations written as loops over heads and groups."""

import math

import pytest
import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, DualSpikeAttention, GroupwiseMLP
from step_ahsar.layers.dual_attention import RunningRate

from .references import convolved, lif, linear, lively, membranes, normed, same, spikes

BLUEPRINT = Blueprint(shortcut="membrane", threshold=0.2, attn_threshold=0.15)
SIZES = {1: (8,), 2: (4, 6)}


def dual_attention(
    x: Tensor, attn: DualSpikeAttention, reduction: int, rates: tuple[list[float], list[float]] | None = None
) -> Tensor:
    """A = N(y1^T s / sqrt(r_x d)), then N(y2 A / sqrt(r_A n')), by image, time step and head; C1-B behind.

    ``rates`` are r_x and r_A of each head; None = those of this input.
    """
    steps, batch, channels, *space = x.shape
    width, tokens = channels // attn.heads, math.prod(space)
    s = lif(x, 0.2)
    y = normed(convolved(s, attn.reduce.conv, bias=False, stride=reduction), attn.reduce.norm)
    few = math.prod(y.shape[3:])
    assert few == tokens // reduction ** len(space)
    assert y.shape[2] == 2 * channels
    mixed = torch.empty(steps, batch, channels, tokens, dtype=x.dtype)
    for head in range(attn.heads):
        own = slice(head * width, (head + 1) * width)
        first = slice(2 * head * width, (2 * head + 1) * width)
        second = slice((2 * head + 1) * width, (2 * head + 2) * width)
        rate = s[:, :, own].mean() if rates is None else rates[0][head]
        scores = torch.empty(steps, batch, few, tokens, dtype=x.dtype)
        for t in range(steps):
            for b in range(batch):
                y1, head_spikes = y[t, b, first].reshape(width, few), s[t, b, own].reshape(width, tokens)
                scores[t, b] = y1.T @ head_spikes / (rate * width) ** 0.5
        attention = lif(scores, 0.15)
        rate = attention.mean() if rates is None else rates[1][head]
        for t in range(steps):
            for b in range(batch):
                y2 = y[t, b, second].reshape(width, few)
                mixed[t, b, own] = y2 @ attention[t, b] / (rate * few) ** 0.5
    return normed(linear(lif(mixed, 0.15).view(x.shape), attn.proj.conv, bias=False), attn.proj.norm)


# -- attention ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize("ndim", [1, 2])
def test_dual_attention(ndim: int, reduction: int) -> None:
    """The first batch in training: its own rates are the running ones."""
    attn = lively(DualSpikeAttention(8, 2, BLUEPRINT, reduction=reduction, ndim=ndim))
    x = membranes(3, 2, 8, *SIZES[ndim])
    same(attn(x), dual_attention(x, attn, reduction))


def test_each_head_is_scaled_by_its_own_running_rates() -> None:
    attn, x = lively(DualSpikeAttention(8, 2, BLUEPRINT, reduction=2)), membranes(3, 2, 8, 4, 6)
    rates = [0.1, 0.6], [0.5, 0.2]
    for running, values in zip((attn.input_rate, attn.map_rate), rates, strict=True):
        running.rate.copy_(torch.tensor(values))
        running.eval()  # the norms stay in training
    rates = attn.input_rate.rate.tolist(), attn.map_rate.rate.tolist()
    assert not torch.allclose(attn(x), dual_attention(x, attn, 2))
    same(attn(x), dual_attention(x, attn, 2, rates))


def test_gradients_do_not_flow_through_the_rates() -> None:
    attn, x = lively(DualSpikeAttention(8, 2, BLUEPRINT)), membranes(3, 2, 8, 4, 6)
    attn(x)
    rates = attn.input_rate.rate.tolist(), attn.map_rate.rate.tolist()  # numbers, of the same batch
    weight = membranes(*x.shape, seed=1)
    parameters = [attn.reduce.conv.weight, attn.reduce.norm.weight, attn.proj.conv.weight]
    ours, expected = (
        torch.autograd.grad((out * weight).sum(), parameters) for out in (attn(x), dual_attention(x, attn, 1, rates))
    )
    for gradient, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-9, atol=1e-9)
        assert wanted.any()


def test_thresholds_of_a_model() -> None:
    """The facts of the family: both neurons of the attention have the threshold of all others."""
    attn = DualSpikeAttention(8, 2, Blueprint(shortcut="membrane", threshold=0.7, attn_factor=1.0))
    neurons = {name: (m.group, m.threshold) for name, m in attn.named_modules() if hasattr(m, "group")}
    names = ("stream.neuron", "match.neuron", "gather.neuron")
    assert neurons == dict.fromkeys(names, ("attention", 0.7))


@pytest.mark.parametrize("heads", [0, 3, -2])
def test_heads_must_divide_the_channels(heads: int) -> None:
    with pytest.raises(UserError, match=f"8 channels cannot have {heads} heads"):
        DualSpikeAttention(8, heads, BLUEPRINT)


# -- running rates -----------------------------------------------------------------------------------------------------


def test_the_first_batch_sets_the_rate() -> None:
    rate, x = RunningRate(2).double(), spikes(3, 2, 2, 4, 5)
    x[:, :, 1] = 0
    x[0, 0, 1, 0, :3] = 1  # 3 of 120
    expected = torch.tensor([x[:, :, 0].mean().item(), 0.025], dtype=torch.float64)
    same(rate(x), expected[:, None, None])
    assert rate.rate.shape == (2,)


def test_later_batches_are_averaged_into_it() -> None:
    rate = RunningRate(2).double()
    batches = [spikes(3, 2, 2, 4, 5, seed=seed) * keep for seed, keep in enumerate((1, 1, 0))]
    expected = batches[0].mean((0, 1, 3, 4))
    rate(batches[0])
    for batch in batches[1:]:
        expected = 0.999 * expected + 0.001 * batch.mean((0, 1, 3, 4))
        same(rate(batch), expected[:, None, None])
    assert not torch.equal(rate.rate, batches[0].mean((0, 1, 3, 4)))


def test_evaluation_does_not_move_it() -> None:
    rate, x = RunningRate(3).double(), spikes(3, 2, 3, 4, 5)
    assert torch.equal(rate.eval()(x), torch.ones(3, 1, 1).double())  # no batch yet
    rate.train()(x)
    before = rate.rate.clone()
    assert torch.equal(rate.eval()(1 - x), before[:, None, None])
    assert torch.equal(rate.rate, before)
    assert not torch.equal(before, torch.ones(3).double())


def test_a_silent_head_does_not_divide_by_0() -> None:
    rate = RunningRate(1).double()
    assert rate(torch.zeros(2, 2, 1, 3).double()).item() == 1e-4
    assert rate.rate.item() == 0


def test_the_rate_is_saved() -> None:
    rate, other, x = RunningRate(2), RunningRate(2), spikes(3, 2, 2, 5).float()
    rate(x)
    other.load_state_dict(rate.state_dict())
    assert torch.equal(other(1 - x), rate(1 - x))  # the second batch for both


# -- MLP ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2])
def test_groupwise_mlp(ndim: int) -> None:
    """First u = N-C1-B to 4C; then u + (N-C3-B within groups of channels); then N-C1-B to C. No bias."""
    mlp, x = lively(GroupwiseMLP(4, BLUEPRINT, group_size=8, ndim=ndim)), membranes(3, 2, 4, *SIZES[ndim])
    u = normed(linear(lif(x, 0.2), mlp.expand.conv, bias=False), mlp.expand.norm)
    assert u.shape[2] == 16
    s, grouped = lif(u, 0.2), mlp.mix.conv
    assert grouped.weight.shape == (16, 8, *[3] * ndim)
    assert grouped.bias is None
    run = [torch.nn.functional.conv1d, torch.nn.functional.conv2d][ndim - 1]
    groups = [
        torch.stack([run(step[:, own], grouped.weight[own], padding=1) for step in s])
        for own in (slice(0, 8), slice(8, 16))
    ]
    u = u + normed(torch.cat(groups, 2), mlp.mix.norm)
    same(mlp(x), normed(linear(lif(u, 0.2), mlp.project.conv, bias=False), mlp.project.norm))


@pytest.mark.parametrize(("ratio", "group_size"), [(4.0, 5), (4.0, 0), (0.1, 1), (4.0, 32)])
def test_groups_must_divide_the_hidden_channels(ratio: float, group_size: int) -> None:
    with pytest.raises(UserError, match=f"groups of {group_size} channels must divide the {int(4 * ratio)} hidden"):
        GroupwiseMLP(4, BLUEPRINT, ratio=ratio, group_size=group_size)


def test_a_size_that_the_reduction_does_not_divide_is_refused() -> None:
    attn = DualSpikeAttention(8, 2, Blueprint(shortcut="membrane"), reduction=2)
    with pytest.raises(UserError, match=r"takes sizes that are multiples of 2, got \[5, 4\]"):
        attn(torch.zeros(3, 2, 8, 5, 4))


def test_fixed_spikes_of_two_layers_differ() -> None:
    make = Blueprint(shortcut="membrane", attention="random")
    fixed = [DualSpikeAttention(8, 2, make).fixed for _ in range(2)]
    first, second = (each(torch.zeros(1, 1, 8, 20)) for each in fixed if each is not None)
    assert not torch.equal(first, second)
