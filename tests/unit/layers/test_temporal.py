"""The temporal interaction module against a loop over time steps that keeps the membranes itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, TemporalAttention, TemporalInteraction

from .references import by_tokens, lif, lif_step, linear, lively, membranes, normed, spikes

HEADS, WIDTH, TOKENS = 2, 4, 6
MEANT = (0.3, 0.5)  # thresholds of the paper, for neurons whose threshold is 1


def queries(steps: int, seed: int = 0) -> Tensor:
    return spikes(steps, 3, HEADS, WIDTH, TOKENS, seed=seed)


def interaction(blueprint: Blueprint, mixing: float = 0.5) -> TemporalInteraction:
    return lively(TemporalInteraction(HEADS * WIDTH, TOKENS, blueprint, mixing=mixing))


def convolved(q: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``[B, h, d, N]`` to the same: kernel 5 along d, from all tokens to all tokens, zeros beyond the ends."""
    padded = F.pad(q, (0, 0, 2, 2))
    taps = [torch.einsum("mn,bhdn->bhdm", weight[..., i], padded[:, :, i : i + WIDTH]) for i in range(5)]
    return sum(taps) + bias


def interacted(
    q: Tensor, weight: Tensor, bias: Tensor, mixing: float = 0.5, thresholds: tuple[float, float] = MEANT
) -> Tensor:
    """First q'[0] = q[0], then q'[t] = N_2(a N_1(conv(q'[t-1])) + (1 - a) q[t]). The neurons start at time step 1."""
    out, read_membrane, mix_membrane = [q[0]], torch.zeros_like(q[0]), torch.zeros_like(q[0])
    for now in q[1:]:
        read, read_membrane = lif_step(convolved(out[-1], weight, bias), read_membrane, thresholds[0])
        mixed, mix_membrane = lif_step(mixing * read + (1 - mixing) * now, mix_membrane, thresholds[1])
        out.append(mixed)
    return torch.stack(out)


@pytest.mark.parametrize("mixing", [0.5, 0.3])
@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_values_and_gradients(steps: int, mixing: float) -> None:
    tim = interaction(Blueprint(), mixing)
    q, weight = queries(steps).requires_grad_(), membranes(steps, 3, HEADS, WIDTH, TOKENS, seed=1)
    inputs = [q, tim.conv.weight, tim.conv.bias]
    results = []
    for out in (tim(q), interacted(*inputs, mixing=mixing)):
        gradients = torch.autograd.grad((out * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
        results.append((out, *gradients))
    (ours, *gradients), (expected, *wanted) = results
    assert torch.equal(ours, expected)
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-12, atol=1e-12)
    if steps == 1:
        assert torch.equal(ours, q)
        return
    later = ours[1:]
    assert 0 < later.mean() < 1
    assert not torch.equal(later, q[1:])
    assert all(want.any() for want in wanted)


def test_gradients_flow_through_time() -> None:
    """The last step's gradient reaches the first query through all steps between, by both neurons' membranes."""
    tim, q = interaction(Blueprint()), queries(5).requires_grad_()
    (gradient,) = torch.autograd.grad(tim(q)[-1].sum(), q)
    assert all(step.any() for step in gradient)


def test_it_is_causal() -> None:
    tim, q = interaction(Blueprint()), queries(6)
    for t in range(6):
        other = torch.cat([q[:t], queries(6 - t, seed=1)])
        assert torch.equal(tim(other)[:t], tim(q)[:t])
    assert not torch.equal(tim(queries(6, seed=1)), tim(q))


def test_it_fires_at_the_published_thresholds() -> None:
    """Its input is at most 1, so its membrane is below 1: with a threshold of 1, as public code has it, it is mute."""
    tim, q = interaction(Blueprint()), queries(8)
    assert 0.02 < tim(q)[1:].mean() < 0.9
    mute = interaction(Blueprint(threshold=1.0, attn_threshold=1.0))
    assert not mute(q)[1:].any()


@pytest.mark.parametrize(
    ("blueprint", "thresholds"),
    [
        (Blueprint(), MEANT),
        (Blueprint(threshold=0.5), (0.3 * 0.5, 0.25)),
        (Blueprint(threshold=0.5, attn_threshold=0.4), (0.3 * 0.5, 0.4)),
    ],
)
def test_thresholds_follow_the_models(blueprint: Blueprint, thresholds: tuple[float, float]) -> None:
    tim, q = interaction(blueprint), queries(5)
    assert torch.equal(tim(q), interacted(q, tim.conv.weight, tim.conv.bias, thresholds=thresholds))
    assert (tim.past.neuron.threshold, tim.mixed.neuron.threshold) == thresholds


def test_folding_a_scale_equals_scaling_the_threshold() -> None:
    folded, q = interaction(Blueprint()), queries(6)
    folded.past.fold_scale(2.0)
    folded.mixed.fold_scale(0.5)
    parameters = folded.conv.weight, folded.conv.bias
    assert torch.equal(folded(q), interacted(q, *parameters, thresholds=(0.6, 0.25)))
    assert not torch.equal(folded(q), interacted(q, *parameters))


# -- any neuron --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("neuron", ["lif", "plif", "psn", "sliding_psn", "glif", "ilif", "ahsar"])
def test_each_neuron_runs_once_in_the_eyes_of_hooks(neuron: str, steps: int) -> None:
    """The equation is applied several times. Whoever counts spikes or operations sees one of them, of all steps."""
    tim, q = interaction(Blueprint(neuron, time_steps=steps)), queries(steps).requires_grad_()
    seen: dict[str, list[tuple[int, ...]]] = {"past": [], "mixed": []}
    for name, shapes in seen.items():
        each = getattr(tim, name).neuron
        each.register_forward_hook(lambda _, __, out, shapes=shapes: shapes.append(tuple(out.shape)))
        each.start_regulation()
    out = tim(q)
    assert seen == {name: [(steps, 3, HEADS * WIDTH, TOKENS)] for name in seen}
    for name in seen:
        assert getattr(tim, name).neuron.observed[1] == out.numel()
    assert out.shape == q.shape
    assert torch.equal(out[0], q[0])
    out.sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tim.parameters())


def test_what_is_counted_are_the_spikes_that_come_out() -> None:
    tim, q = interaction(Blueprint()), queries(5)
    tim.mixed.neuron.start_regulation()
    out = tim(q)
    assert tim.mixed.neuron.observed[0] == out[1:].sum()  # at step 0 the neuron rests


def test_plif_equals_lif_where_it_starts() -> None:
    lif_out, plif_out = (interaction(Blueprint(name))(queries(5)) for name in ("lif", "plif"))
    assert torch.equal(lif_out, plif_out)


# -- what it refuses ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [1, 5, 7])
def test_it_takes_one_number_of_tokens(tokens: int) -> None:
    with pytest.raises(UserError, match=f"TIM was made for 6 tokens, got {tokens}; img_size sets their number"):
        interaction(Blueprint())(torch.ones(2, 3, HEADS, WIDTH, tokens).double())


@pytest.mark.parametrize("mixing", [0.0, 1.0, -0.5, 2.0])
def test_mixing_is_a_share(mixing: float) -> None:
    with pytest.raises(UserError, match=r"the mixing of TIM must be in \(0, 1\), got "):
        TemporalInteraction(8, 6, Blueprint(), mixing=mixing)


# -- in the attention --------------------------------------------------------------------------------------------------


def test_attention_reads_the_mixed_queries() -> None:
    """SSA of q', k and v, with the interaction in front of the product alone."""
    make = Blueprint(threshold=0.2, attn_threshold=0.25)
    attn = lively(TemporalAttention(8, HEADS, make, tokens=TOKENS, mixing=0.3, scale=0.25, proj_bias=False))
    x = spikes(4, 3, 8, 2, 3)
    q, k, v = (
        by_tokens(lif(normed(linear(x, m.conv, bias=False), m.norm), 0.2)).unflatten(-1, (HEADS, WIDTH))
        for m in (attn.q, attn.k, attn.v)
    )  # [T, B, N, h, d]
    by_head = q.permute(0, 1, 3, 4, 2)
    tim = attn.interaction.conv
    mixed = interacted(by_head, tim.weight, tim.bias, mixing=0.3, thresholds=(0.3 * 0.2, 0.25))
    assert 0 < mixed[1:].mean() < 1
    assert not torch.equal(mixed, by_head)
    q, k, v = mixed.mT, k.transpose(2, 3), v.transpose(2, 3)  # [T, B, h, N, d]
    product = ((q @ k.mT) @ v * 0.25).mT.flatten(2, 3).view(x.shape)
    out = lif(normed(linear(lif(product, 0.25), attn.proj.conv, bias=False), attn.proj.norm), 0.2)
    assert torch.equal(attn(x), out)
