"""SGLFormer's local module, attention by parity and learnt pooling, written a second time."""

import itertools

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, LearnedPool, LocalModule, ParityAttention

from .references import by_tokens, depthwise, lif, linear, lively, membranes, normed, same, spikes

BLUEPRINT = Blueprint(threshold=0.2, attn_threshold=0.25)
SIZES = {1: (6,), 2: (4, 6)}


@pytest.mark.parametrize("ndim", [1, 2])
def test_local_module(ndim: int) -> None:
    """First u = x + N(B(DW3 x)), then u + [C1-B-N to 4C, DW3-B-N, C1-B-N] of u. No bias."""
    local, x = lively(LocalModule(4, BLUEPRINT, ndim=ndim)), spikes(3, 2, 4, *SIZES[ndim])
    u = x + lif(normed(depthwise(x, local.mix.conv, bias=False), local.mix.norm), 0.2)
    wide = lif(normed(linear(u, local.expand.conv, bias=False), local.expand.norm), 0.2)
    assert wide.shape[2] == 16
    wide = lif(normed(depthwise(wide, local.hidden.conv, bias=False), local.hidden.norm), 0.2)
    out = u + lif(normed(linear(wide, local.project.conv, bias=False), local.project.norm), 0.2)
    assert torch.equal(local(x), out)


@pytest.mark.parametrize("ndim", [1, 2])
def test_attention_by_parity(ndim: int) -> None:
    """Attention within x[..., i::2, j::2]. Weights, norms and projection are shared by the groups."""
    attn = lively(ParityAttention(8, 2, BLUEPRINT, scale=0.125, proj_bias=False))
    x = spikes(3, 2, 8, *SIZES[ndim])
    q, k, v = (lif(normed(linear(x, m.conv, bias=False), m.norm), 0.2) for m in (attn.q, attn.k, attn.v))
    product = torch.full_like(x, torch.nan)
    for starts in itertools.product(range(2), repeat=ndim):
        group = (..., *(slice(start, None, 2) for start in starts))
        for head in (slice(0, 4), slice(4, 8)):
            one_q, one_k, one_v = (by_tokens(each[:, :, head][group]) for each in (q, k, v))
            of_tokens = one_q @ one_k.mT @ one_v * 0.125  # [T, B, N / 2 or N / 4, d]
            product[:, :, head][group] = of_tokens.mT.unflatten(-1, [size // 2 for size in SIZES[ndim]])
    out = lif(normed(linear(lif(product, 0.25), attn.proj.conv, bias=False), attn.proj.norm), 0.2)
    assert torch.equal(attn(x), out)


@pytest.mark.parametrize("size", [(5,), (4, 5), (3, 4), (1, 1)])
def test_groups_by_parity_are_of_equal_size(size: tuple[int, ...]) -> None:
    attn = ParityAttention(8, 2, BLUEPRINT)
    with pytest.raises(UserError, match="attention by parity takes maps of even size, got "):
        attn(torch.ones(2, 2, 8, *size))


@pytest.mark.parametrize("size", [(6,), (2, 3)])
def test_learnt_pool(size: tuple[int, ...]) -> None:
    """A weighted sum over time steps and positions for each channel, plus a bias; then a norm over the batch."""
    pool, x = lively(LearnedPool(5, 3, 6)), membranes(3, 4, 5, *size)
    assert isinstance(pool.conv.bias, torch.Tensor)
    summed = pool.conv.bias.detach().repeat(4, 1)
    for t in range(3):
        for n, position in enumerate(itertools.product(*map(range, size))):
            summed += pool.conv.weight[:, 0, t, n] * x[(t, slice(None), slice(None), *position)]
    mean, variance = summed.mean(0), summed.var(0, correction=0)
    same(pool(x), (summed - mean) / (variance + 1e-5).sqrt() * pool.norm.weight + pool.norm.bias)


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (4, 4, 5, 6), (3, 4, 5, 5), (3, 4, 5, 2, 4), (6, 4, 5, 3)])
def test_learnt_pool_takes_one_size_alone(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="the learnt pooling was made for 3 time steps and 6 tokens, got "):
        LearnedPool(5, 3, 6)(torch.ones(shape))
