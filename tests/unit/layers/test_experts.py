"""Experts attention and experts MLP of SEMM, written as loops over experts, images and channels."""

from dataclasses import replace

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, ExpertsAttention, ExpertsMLP

from .references import by_tokens, lif, linear, lively, normed, spikes

BLUEPRINT = Blueprint(threshold=0.2, attn_threshold=0.25)
SIZES = {1: (7,), 2: (3, 4)}


@pytest.mark.parametrize("key_bias", [True, False])
@pytest.mark.parametrize("ndim", [1, 2])
def test_experts_attention(ndim: int, key_bias: bool) -> None:
    """It is y = sum over i of r_i * SN(q_i k^T v * 0.125): one bit r_i for each token; all share k and v."""
    experts, width, dim = 3, 6, 8
    attn = lively(ExpertsAttention(dim, experts, BLUEPRINT, width=width, key_bias=key_bias))
    x = spikes(4, 2, dim, *SIZES[ndim])
    router = lif(normed(linear(x, attn.router.conv, bias=True), attn.router.norm), 0.2)
    k = by_tokens(lif(normed(linear(x, attn.k.conv, bias=key_bias), attn.k.norm), 0.2))
    v = by_tokens(lif(normed(linear(x, attn.v.conv, bias=False), attn.v.norm), 0.2))
    assert (router.shape[2], k.shape[3], v.shape[3]) == (experts, width, dim)
    assert attn.q.conv.bias is None
    chosen = torch.zeros_like(v)
    for i in range(experts):
        own = slice(i * width, (i + 1) * width)
        read = torch.einsum("oc,tbc...->tbo...", attn.q.conv.weight[own].flatten(1), x)
        q = by_tokens(lif(normed(read, attn.q.norm, own), 0.2))
        product = torch.empty_like(v)
        for t in range(4):
            for b in range(2):
                product[t, b] = (q[t, b] @ k[t, b].T) @ v[t, b] * 0.125
        chosen += router[:, :, i].flatten(2)[..., None] * lif(product, 0.25)
    assert 1 < chosen.max() <= experts  # somewhere more than one expert is heard
    y = chosen.mT.reshape(x.shape)
    assert torch.equal(attn(x), lif(normed(linear(y, attn.proj.conv, bias=True), attn.proj.norm), 0.2))


def test_membrane_shortcuts_leave_out_the_last_neuron() -> None:
    x = spikes(4, 2, 8, 3, 4)
    for layer in (
        lambda make: ExpertsAttention(8, 3, make, width=6),
        lambda make: ExpertsMLP(8, make),
    ):
        firing, silent = (lively(layer(make)) for make in (BLUEPRINT, replace(BLUEPRINT, shortcut="membrane")))
        assert torch.equal(firing(x), lif(silent(x), 0.2))


def test_folding_a_scale_equals_scaling_the_threshold() -> None:
    x = spikes(4, 2, 8, 7)
    folded, scaled, plain = (
        lively(ExpertsAttention(8, 3, Blueprint(threshold=0.2, attn_threshold=t), width=6)) for t in (0.25, 0.5, 0.25)
    )
    folded.fold_scale(2.0)
    assert torch.equal(folded(x), scaled(x))
    assert not torch.equal(folded(x), plain(x))


@pytest.mark.parametrize("options", [{"experts": 0}, {"width": 0}, {"scale": 0.0}, {"scale": -1.0}])
def test_experts_width_and_scale_are_positive(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="experts, width and scale must be > 0, got"):
        ExpertsAttention(8, blueprint=BLUEPRINT, **{"experts": 2, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("ndim", [1, 2])
def test_experts_mlp(ndim: int) -> None:
    """SN(BN(W x)) to halves a and b; SN(BN(DW3 a)) says which channels of b the second layer reads."""
    mlp, x = lively(ExpertsMLP(4, BLUEPRINT, ndim=ndim)), spikes(4, 2, 4, *SIZES[ndim])
    hidden = lif(normed(linear(x, mlp.fc1.conv, bias=True), mlp.fc1.norm), 0.2)
    assert hidden.shape[2] == 16
    a, b = hidden[:, :, :8], hidden[:, :, 8:]
    passed, conv = torch.empty_like(b), mlp.router.conv
    assert conv.weight.shape == (8, 1, *[3] * ndim)
    run = [torch.nn.functional.conv1d, torch.nn.functional.conv2d][ndim - 1]
    for c in range(8):
        own = slice(c, c + 1)
        read = torch.stack([run(step[:, own], conv.weight[own], conv.bias[own], padding=1) for step in a])
        passed[:, :, c] = lif(normed(read, mlp.router.norm, own), 0.2)[:, :, 0] * b[:, :, c]
    assert torch.equal(mlp(x), lif(normed(linear(passed, mlp.fc2.conv, bias=True), mlp.fc2.norm), 0.2))


@pytest.mark.parametrize("ratio", [0.25, 0.75, 1.25])
def test_hidden_channels_can_be_halved(ratio: float) -> None:
    with pytest.raises(UserError, match=f"an even number of hidden channels, got {int(4 * ratio)}"):
        ExpertsMLP(4, BLUEPRINT, ratio=ratio)
