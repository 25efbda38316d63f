"""Fixed random spikes, and attentions that have them in place of their product."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from step_ahsar.layers import (
    Blueprint,
    DualSpikeAttention,
    ExpertsAttention,
    SpikeDrivenAttention,
    SpikingSelfAttention,
    TemporalAttention,
    TokenQKAttention,
)
from step_ahsar.layers.fixed import FixedSpikes

from .references import lif, linear, lively, membranes, normed, same, spikes


def random(shortcut: str = "spike") -> Blueprint:
    return Blueprint(threshold=0.2, attention="random", shortcut=shortcut)  # type: ignore[arg-type]


def layer(x: Tensor, module: nn.Module, *, bias: bool) -> Tensor:
    """Linear, norm, neuron."""
    return lif(normed(linear(x, module.conv, bias=bias), module.norm), 0.2)


# -- the spikes --------------------------------------------------------------------------------------------------------


def test_they_are_the_same_for_all_inputs_images_and_times() -> None:
    fixed = FixedSpikes(6, seed=3)
    out = fixed(membranes(4, 3, 2, 9))
    assert out.shape == (4, 3, 6, 9)
    assert out.dtype == torch.float64
    assert torch.equal(out, out[:1, :1].expand_as(out))
    assert torch.equal(fixed(membranes(2, 5, 7, 9, seed=1)), out[:1, :1].expand(2, 5, -1, -1))
    assert torch.equal(FixedSpikes(6, seed=3)(torch.zeros(1, 1, 6, 9)), out[:1, :1].float())


def test_half_of_them_are_1() -> None:
    out = FixedSpikes(64, seed=3)(torch.zeros(1, 1, 64, 64))
    assert set(out.unique().tolist()) == {0.0, 1.0}
    assert out.mean().item() == pytest.approx(0.5, abs=0.03)
    for axis in (2, 3):  # channels and positions differ
        assert out.mean(axis).std() < 0.1
        assert out.std(axis).min() > 0.3


def test_they_may_be_the_same_at_every_position() -> None:
    out = FixedSpikes(64, seed=3, everywhere=True)(torch.zeros(2, 3, 5, 7))
    assert out.shape == (2, 3, 64, 1)
    assert 0.3 < out.mean() < 0.7


def test_they_do_not_touch_torchs_generator() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    FixedSpikes(5, seed=11)(torch.zeros(1, 1, 5, 13))
    assert torch.equal(torch.rand(3), expected)


def test_each_layer_of_a_model_has_its_own_and_each_model_the_same() -> None:
    def patterns() -> list[Tensor]:
        make = random()
        layers = [
            SpikingSelfAttention(16, 2, make),
            SpikingSelfAttention(16, 2, make),
            TokenQKAttention(16, 16, make),
            ExpertsAttention(16, 1, make),
        ]
        return [attn.neuron(torch.zeros(1, 1, 16, 10)) for attn in layers]

    first, second = patterns(), patterns()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(not torch.equal(first[i], first[j]) for i in range(4) for j in range(i))


# -- attentions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shortcut", ["spike", "membrane"])
@pytest.mark.parametrize(
    ("attention", "built"),
    [
        (lambda make: SpikingSelfAttention(8, 2, make), {"stream", "neuron", "proj"}),
        (lambda make: TemporalAttention(8, 2, make, tokens=12), {"stream", "neuron", "proj"}),
        (lambda make: DualSpikeAttention(8, 2, make), {"fixed", "proj"}),
    ],
    ids=["ssa", "tim", "dssa"],
)
def test_without_a_masked_input_the_output_does_not_depend_on_the_input(
    attention: Callable[[Blueprint], nn.Module], built: set[str], shortcut: str
) -> None:
    attn = lively(attention(random(shortcut)))
    assert {name for name, _ in attn.named_children()} == built
    assert {name.split(".")[0] for name, _ in attn.named_parameters()} == {"proj"}
    out = attn(membranes(3, 2, 8, 3, 4))
    assert torch.equal(attn(membranes(3, 2, 8, 3, 4, seed=1)), out)
    assert torch.equal(out[:, 0], out[:, 1])
    if shortcut == "spike":
        assert 0 < out.mean() < 1
    else:
        assert torch.equal(out[0], out[-1])  # a linear map of the same spikes at all times
        assert out.std() > 0.1
    assert out.flatten(3).std(3).min() > 0  # positions differ


def test_self_attention_projects_the_fixed_spikes() -> None:
    attn, x = lively(SpikingSelfAttention(8, 2, random())), membranes(3, 2, 8, 3, 4)
    fixed = attn.neuron(x.flatten(3)).view(x.shape)
    assert torch.equal(attn(x), layer(fixed, attn.proj, bias=True))


def test_dual_attention_projects_the_fixed_spikes() -> None:
    attn, x = lively(DualSpikeAttention(8, 2, random())), membranes(3, 2, 8, 3, 4)
    assert attn.fixed is not None
    fixed = attn.fixed(x.flatten(3)).view(x.shape)
    assert 0.2 < fixed.mean() < 0.8
    assert torch.equal(attn(x), layer(fixed, attn.proj, bias=False))


@pytest.mark.parametrize("shortcut", ["spike", "membrane"])
def test_token_attention_masks_k_by_token_and_head(shortcut: str) -> None:
    attn = lively(TokenQKAttention(8, 2, random(shortcut)))
    assert {name for name, _ in attn.named_children()} == {"stream", "k", "neuron", "proj"}
    x = (spikes if shortcut == "spike" else membranes)(3, 2, 8, 3, 4)
    mask = attn.neuron(x.flatten(3)).view(3, 2, 2, 3, 4)
    assert 0 < mask.mean() < 1
    k = layer(x if shortcut == "spike" else lif(x, 0.2), attn.k, bias=False)
    masked = torch.cat([k[:, :, :4] * mask[:, :, :1], k[:, :, 4:] * mask[:, :, 1:]], 2)
    out = attn(x)
    expected = normed(linear(masked, attn.proj.conv, bias=True), attn.proj.norm)
    same(out, lif(expected, 0.2) if shortcut == "spike" else expected)
    assert not torch.equal(attn(x.flip(0)), out)


def test_spike_driven_attention_masks_the_channels_of_q() -> None:
    """What q says of channels that are masked does not matter, and no k and v are asked."""
    attn, x = lively(SpikeDrivenAttention(8, 2, random("membrane"))), membranes(3, 2, 8, 3, 4)
    assert {name for name, _ in attn.named_children()} == {"stream", "q", "neuron", "proj"}
    mask = attn.neuron(x.flatten(3))[0, 0, :, 0]
    assert 0 < mask.mean() < 1
    masked = layer(lif(x, 0.2), attn.q, bias=False) * mask[:, None, None]
    out = attn(x)
    same(out, normed(linear(masked, attn.proj.conv, bias=True), attn.proj.norm))
    with torch.no_grad():
        attn.q.conv.weight[mask == 0] += 1
    assert torch.equal(attn(x), out)
    with torch.no_grad():
        attn.q.conv.weight[mask == 1] += 1
    assert not torch.equal(attn(x), out)


def test_experts_are_still_chosen_by_the_router() -> None:
    attn, x = lively(ExpertsAttention(8, 3, random(), width=6)), spikes(3, 2, 8, 3, 4)
    assert {name for name, _ in attn.named_children()} == {"router", "neuron", "proj"}
    fixed = attn.neuron(x.flatten(3)).view(3, 2, 3, 8, 3, 4)
    router = layer(x, attn.router, bias=True)
    chosen = sum(router[:, :, i, None] * fixed[:, :, i] for i in range(3))
    assert torch.equal(attn(x), layer(chosen, attn.proj, bias=True))
    assert not torch.equal(attn(x.flip(0)), attn(x))
