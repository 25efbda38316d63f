"""Spiking attention. Tokens are [T, B, C, N], channels first."""

from typing import ClassVar

from einops import rearrange, reduce
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.conv import SpikingLinear
from step_ahsar.layers.factory import NeuronFactory


class SpikingSelfAttention(nn.Module):
    """Spiking self-attention (SSA), without softmax (Spikformer, arXiv 2209.15425, eq. 13-15).

    .. math::
        q, k, v = \\mathrm{SN}(\\mathrm{BN}(\\mathrm{Linear}(x))), \\qquad
        \\mathrm{SN}(\\mathrm{BN}(\\mathrm{Linear}(\\mathrm{SN}(q k^\\top v \\cdot scale))))

    The product of the three matrices is computed in the cheaper of its two orders. The result is the same.

    Args:
        dim: channels C, a multiple of ``heads``.
        heads: attention heads.
        neuron: makes the neurons.
        scale: factor on the product, before the attention's neuron.
        qkv_bias: bias of the linear layers of q, k and v.

    Raises:
        UserError: ``dim`` is not a multiple of ``heads``, or ``scale`` is not positive.
    """

    folds_into_weights: ClassVar[bool] = False  # the factor is not part of a state dict

    def __init__(
        self, dim: int, heads: int, neuron: NeuronFactory, *, scale: float = 0.125, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise UserError(f"the scale of an attention product must be > 0, got {scale:g}")
        self.heads = _check_heads(dim, heads)
        self.scale = scale
        self.q = SpikingLinear(dim, dim, neuron("attention", dim), bias=qkv_bias)
        self.k = SpikingLinear(dim, dim, neuron("attention", dim), bias=qkv_bias)
        self.v = SpikingLinear(dim, dim, neuron("attention", dim), bias=qkv_bias)
        self.neuron = neuron.behind_attention(dim)
        self.proj = SpikingLinear(dim, dim, neuron("attention", dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, N] -> spikes [T, B, C, N]``."""
        q, k, v = (by_head(layer(x), self.heads) for layer in (self.q, self.k, self.v))
        channels, tokens = q.shape[-2:]
        product = (v @ k.mT) @ q if channels <= tokens else v @ (k.mT @ q)
        return self.proj(self.neuron(joined(product) * self.scale))

    def fold_scale(self, scale: float) -> None:
        """Divides the input of the attention's neuron by ``scale`` > 0."""
        self.scale /= float(scale)


class TokenQKAttention(nn.Module):
    """Q-K token attention (QKFormer, arXiv 2403.16552, eq. 5-7): linear in tokens and channels.

    Each head sums its q over the channels of the head. A neuron turns the sum into a binary mask over the tokens, by
    which k is multiplied.

    Args:
        dim: channels C, a multiple of ``heads``.
        heads: attention heads, each with its own mask.
        neuron: makes the neurons.
        scale: factor on the sum.

    Raises:
        UserError: ``dim`` is not a multiple of ``heads``.
    """

    folds_into_weights: ClassVar[bool] = False  # the factor is not part of a state dict

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
        q, k = (by_head(layer(x), self.heads) for layer in (self.q, self.k))
        mask = self.neuron(reduce(q, "t b h d n -> t b h n", "sum") * self.scale)
        return self.proj(joined(rearrange(mask, "t b h n -> t b h 1 n") * k))

    def fold_scale(self, scale: float) -> None:
        """Divides the input of the attention's neuron by ``scale`` > 0."""
        self.scale /= float(scale)


def by_head(x: Tensor, heads: int) -> Tensor:
    """``[T, B, h * d, N] -> [T, B, h, d, N]``."""
    return rearrange(x, "t b (h d) n -> t b h d n", h=heads)


def joined(x: Tensor) -> Tensor:
    """``[T, B, h, d, N] -> [T, B, h * d, N]``."""
    return rearrange(x, "t b h d n -> t b (h d) n")


def _check_heads(dim: int, heads: int) -> int:
    if heads < 1 or dim % heads:
        raise UserError(f"attention over {dim} channels cannot have {heads} heads; heads must divide the channels")
    return heads
