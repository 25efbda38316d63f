"""Spiking attention. Tokens are [T, B, C, N], channels first."""

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.conv import SpikingLinear
from step_ahsar.layers.factory import NeuronFactory


class SpikingSelfAttention(nn.Module):
    """Spiking self-attention (SSA), without softmax (Spikformer, arXiv 2209.15425, eq. 13-15).

    .. math::
        q, k, v = \\mathrm{SN}(\\mathrm{BN}(\\mathrm{Linear}(x))), \\qquad
        \\mathrm{SN}(\\mathrm{BN}(\\mathrm{Linear}(\\mathrm{SN}(q k^\\top v \\cdot scale))))

    The product of three binary matrices may be taken in either order; the cheaper one is.

    Args:
        dim: channels C, a multiple of ``heads``.
        heads: attention heads.
        neuron: makes the neurons.
        scale: factor on the product, which sets how strongly the attention's neuron is driven.
        qkv_bias: bias of the linear layers of q, k and v.

    Raises:
        UserError: ``dim`` is not a multiple of ``heads``.
    """

    def __init__(
        self, dim: int, heads: int, neuron: NeuronFactory, *, scale: float = 0.125, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.heads = _check_heads(dim, heads)
        self.scale = scale
        self.q = SpikingLinear(dim, dim, neuron("attention", dim), bias=qkv_bias)
        self.k = SpikingLinear(dim, dim, neuron("attention", dim), bias=qkv_bias)
        self.v = SpikingLinear(dim, dim, neuron("attention", dim), bias=qkv_bias)
        self.neuron = neuron.behind_attention(dim)
        self.proj = SpikingLinear(dim, dim, neuron("attention", dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, N] -> spikes [T, B, C, N]``."""
        q, k, v = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.q, self.k, self.v))  # [T, B, h, d, N]
        channels, tokens = q.shape[-2:]
        product = (v @ k.mT) @ q if channels <= tokens else v @ (k.mT @ q)
        return self.proj(self.neuron(product.flatten(2, 3) * self.scale))

    def fold_scale(self, scale: float) -> None:
        """Divides what the attention's neuron receives by ``scale`` > 0."""
        self.scale /= float(scale)


class TokenQKAttention(nn.Module):
    """Q-K token attention (QKFormer, arXiv 2403.16552, eq. 5-7): linear in tokens and channels.

    Each head sums its q over the head's channels; a neuron turns the sum into a binary mask of tokens, which gates k.

    Args:
        dim: channels C, a multiple of ``heads``.
        heads: attention heads, each with its own mask.
        neuron: makes the neurons.
        scale: factor on the sum.

    Raises:
        UserError: ``dim`` is not a multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int, neuron: NeuronFactory, *, scale: float = 1.0) -> None:
        super().__init__()
        self.heads = _check_heads(dim, heads)
        self.scale = scale
        self.q = SpikingLinear(dim, dim, neuron("attention", dim), bias=False)
        self.k = SpikingLinear(dim, dim, neuron("attention", dim), bias=False)
        self.neuron = neuron.behind_attention(heads)
        self.proj = SpikingLinear(dim, dim, neuron("attention", dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, N] -> spikes [T, B, C, N]``."""
        q, k = (layer(x).unflatten(2, (self.heads, -1)) for layer in (self.q, self.k))  # [T, B, h, d, N]
        mask = self.neuron(q.sum(3) * self.scale)  # [T, B, h, N]
        return self.proj((mask.unsqueeze(3) * k).flatten(2, 3))

    def fold_scale(self, scale: float) -> None:
        """Divides what the attention's neuron receives by ``scale`` > 0."""
        self.scale /= float(scale)


def _check_heads(dim: int, heads: int) -> int:
    if heads < 1 or dim % heads:
        raise UserError(f"attention over {dim} channels cannot have {heads} heads; heads must divide the channels")
    return heads
