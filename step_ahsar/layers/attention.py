"""Spiking attention over maps or tokens [T, B, C, *S], channels first. Every position is a token."""

from collections.abc import Callable
from typing import ClassVar

from einops import rearrange, reduce
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import SpikingLinear, stream_neuron


class SpikingAttention(nn.Module):
    """Base of attentions: q, k and v (each linear, norm, neuron), their product with a neuron, and a projection.

    ``[T, B, C, *S] -> [T, B, C, *S]``. With membrane shortcuts a neuron on the stream comes first, and the projection
    has none: the output is a membrane. A subclass implements :meth:`product`.

    If the blueprint's ``attention`` is "random", :class:`FixedSpikes` stand for the neuron behind the product. What
    would lead to the product alone is not built.

    Args:
        dim: channels C, a multiple of ``heads``.
        heads: attention heads.
        blueprint: makes the layers.
        scale: factor in front of the product's neuron; None = the published one.
        qkv_bias: bias of the layers of q, k and v.
        proj_bias: bias of the projection behind the product.
        value_ratio: channels of v, divided by C.
        layer: makes the layers of q, k, v and of the projection, as :class:`SpikingLinear` does.

    Raises:
        UserError: ``dim`` is not a multiple of ``heads``, or ``scale`` is not positive.
    """

    folds_into_weights: ClassVar[bool] = False  # the factor is not part of a state dict
    inputs: ClassVar[tuple[str, ...]] = ("q", "k", "v")
    masked: ClassVar[str | None] = None  # the input that is multiplied by the spikes behind the product, if any
    everywhere: ClassVar[bool] = False  # whether these spikes are the same at every position
    default_scale: ClassVar[float] = 0.125

    def __init__(
        self,
        dim: int,
        heads: int,
        blueprint: Blueprint,
        *,
        scale: float | None = None,
        qkv_bias: bool = False,
        proj_bias: bool = True,
        value_ratio: int = 1,
        layer: Callable[..., nn.Module] = SpikingLinear,
    ) -> None:
        super().__init__()
        self.heads = check_heads(dim, heads)
        self.scale = self.default_scale if scale is None else scale
        if not self.scale > 0:
            raise UserError(f"the scale of an attention product must be > 0, got {self.scale:g}")
        self.random = blueprint.attention == "random"
        self.used = [name for name in self.inputs if not self.random or name == self.masked]
        self.stream = stream_neuron(blueprint, "attention", dim) if self.used else nn.Identity()
        wide = value_ratio * dim
        for name in self.used:
            out = wide if name == "v" else dim
            self.add_module(name, layer(dim, out, blueprint, "attention", bias=qkv_bias))
        self.neuron = blueprint.new_spikes_behind_attention(self.product_channels(wide), self.everywhere)
        self.proj = layer(wide, dim, blueprint, "attention", bias=proj_bias, ends_branch=True)

    def product_channels(self, dim: int) -> int:
        """Channels of the input of the product's neuron."""
        return dim

    def product(self, *inputs: Tensor) -> Tensor:
        """What the product's neuron reads, [T, B, C', N'], from the inputs, spikes by head [T, B, h, d, N]."""
        raise NotImplementedError(f"{type(self).__name__} lacks product()")

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        space = x.shape[3:]
        x = self.stream(x)
        inputs = {name: by_head(as_tokens(getattr(self, name)(x)), self.heads) for name in self.used}
        spikes = self.neuron(as_tokens(x) if self.random else self.product(*inputs.values()) * self.scale)
        if self.masked is not None:
            spikes = joined(inputs[self.masked] * by_head(spikes, self.heads))
        return self.proj(spikes.unflatten(-1, space))

    def fold_scale(self, scale: float) -> None:
        """Divides the input of the product's neuron by ``scale`` > 0."""
        self.scale /= float(scale)


class SpikingSelfAttention(SpikingAttention):
    """Spiking self-attention (SSA), without softmax (Spikformer, arXiv 2209.15425, eq. 13-15).

    .. math::
        q, k, v = \\mathrm{SN}(\\mathrm{BN}(\\mathrm{Linear}(x))), \\qquad
        \\mathrm{SN}(\\mathrm{BN}(\\mathrm{Linear}(\\mathrm{SN}(q k^\\top v \\cdot scale))))

    The product of the three matrices is computed in the cheaper of its two orders. The result is the same. Arguments:
    :class:`SpikingAttention`.
    """

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """``[T, B, h, d, N]`` each to ``[T, B, C, N]``."""
        channels, tokens = q.shape[-2:]
        q, k, v = (each.mT.contiguous() for each in (q, k, v))  # [T, B, h, N, d]; a batch of products needs copies
        return joined((q @ (k.mT @ v) if channels <= tokens else (q @ k.mT) @ v).mT)


class SpikeDrivenAttention(SpikingAttention):
    """SDSA-1, which needs no multiplication (Spike-driven Transformer, arXiv 2307.01694, eq. 6 and 7).

    In each channel a neuron reads the number of tokens at which k and v both fire. Its spikes mask q. Arguments:
    :class:`SpikingAttention`; the published scale is 1.
    """

    masked = "q"
    everywhere = True
    default_scale: ClassVar[float] = 1.0

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """``[T, B, h, d, N]`` each to ``[T, B, C, 1]``."""
        return reduce(k * v, "t b h d n -> t b (h d) 1", "sum")


class TokenQKAttention(SpikingAttention):
    """Q-K token attention (QKFormer, arXiv 2403.16552, eq. 5-7): linear in tokens and channels.

    Each head sums its q over the channels of the head. A neuron turns the sum into a binary mask over the tokens, by
    which k is multiplied. There is no v. Arguments: :class:`SpikingAttention`; the published scale is 1.
    """

    inputs: ClassVar[tuple[str, ...]] = ("q", "k")
    masked = "k"
    default_scale: ClassVar[float] = 1.0

    def product_channels(self, dim: int) -> int:
        """One mask for each head."""
        return self.heads

    def product(self, q: Tensor, k: Tensor) -> Tensor:  # type: ignore[override]
        """``[T, B, h, d, N]`` each to ``[T, B, h, N]``."""
        return reduce(q, "t b h d n -> t b h n", "sum")


def as_tokens(x: Tensor) -> Tensor:
    """``[T, B, C, *S] -> [T, B, C, N]``."""
    return rearrange(x, "t b c ... -> t b c (...)")


def by_head(x: Tensor, heads: int) -> Tensor:
    """``[T, B, h * d, N] -> [T, B, h, d, N]``."""
    return rearrange(x.mT, "t b n (h d) -> t b h d n", h=heads)  # as it lies in memory, also on the way back


def joined(x: Tensor) -> Tensor:
    """``[T, B, h, d, N] -> [T, B, h * d, N]``."""
    return rearrange(x, "t b h d n -> t b n (h d)").mT


def check_heads(dim: int, heads: int) -> int:
    """The number of heads. Raises UserError unless it divides the channels."""
    if heads < 1 or dim % heads:
        raise UserError(f"attention over {dim} channels cannot have {heads} heads; heads must divide the channels")
    return heads
