"""SGLFormer: Spiking Global-Local-Fusion Transformer (Zhang et al., 2024, doi 10.3389/fnins.2024.1371290).

Variants, facts and deviations: ``zoo/sglformer`` in the repository, ``step_ahsar/zoo/sglformer`` in the wheel.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import (
    MLP,
    Block,
    Blueprint,
    LearnedPool,
    LocalModule,
    ParityAttention,
    Residual,
    SpikingConv,
    SpikingSelfAttention,
)
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class SGLFormer(ColumnarTransformer):
    """A stem, a local block, then ``depth`` global blocks, on a stream of spikes.

    Arguments: :class:`ColumnarTransformer`.

    Args:
        divisors: channels of the stem's five 3x3 convolutions, as divisors of ``dim``.
        attn_scale: factor on the attention product.
        bias: bias of the projection and of the MLP in global blocks. No other convolution has one.
        learnt_pool: pool by learnt weights over positions and time steps, as published for CIFAR and events. The model
            then takes inputs of ``img_size`` and ``time_steps`` alone, and has no logits for each time step.
    """

    def __init__(
        self,
        *,
        depth: int = 2,
        heads: int = 16,
        divisors: Sequence[int] = (6, 4, 2, 1, 1),
        pools: Sequence[bool] = (False, False, False, True, True),
        attn_scale: float = 0.125,
        bias: bool = False,
        learnt_pool: bool = False,
        **common: Any,
    ) -> None:
        # Attention by parity needs an even number of tokens along each axis.
        super().__init__(depth=depth, heads=heads, pools=pools, multiple=2 ** (sum(map(bool, pools)) + 1), **common)
        make, dim, ndim = self.blueprint, self.dim, self.ndim
        if len(divisors) != len(pools) or any(divisor < 1 or dim % divisor for divisor in divisors):
            raise UserError(f"divisors must divide dim {dim}, one for each of {len(pools)} pools, got {list(divisors)}")
        self.build_stem(_stem, divisors=divisors)

        def block(attention: type[SpikingSelfAttention], bias: bool) -> nn.Module:
            mixer = self.new_attention(partial(attention, dim, self.heads, make, scale=attn_scale, proj_bias=bias))
            return Block(mixer, MLP(dim, make, ratio=self.mlp_ratio, bias=bias))

        local = Residual(LocalModule(dim, make, ratio=self.mlp_ratio, ndim=ndim))
        first = nn.Sequential(local, block(ParityAttention, bias=False))
        self.blocks = nn.ModuleList([first, *(block(SpikingSelfAttention, bias) for _ in range(depth))])
        self.feature_info = [
            {"num_chs": dim, "reduction": self.stride, "module": f"blocks.{i}"} for i in range(len(self.blocks))
        ]
        self.learnt_pool: LearnedPool | None = self._new_pool() if learnt_pool else None
        self.build_head()

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """``[T, B, C, *S]`` to logits; with ``pre_logits`` to pooled features."""
        if self.learnt_pool is None or not self.global_pool:
            return super().forward_head(x, pre_logits)
        pooled = self.learnt_pool(x)
        return pooled if pre_logits else self.head(pooled)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """See :meth:`SpikingTransformer.prune_intermediate_layers`. A learnt pool goes with the head."""
        if prune_head or self.learnt_pool is not None:
            self.learnt_pool, prune_head = None, True
        return super().prune_intermediate_layers(indices, prune_norm, prune_head)

    def _new_pool(self) -> LearnedPool:
        if self.per_step:
            raise UserError("learnt_pool has no logits for each time step (per_step)")
        return LearnedPool(self.dim, self.time_steps, self.tokens)


def _stem(
    in_chans: int, dim: int, make: Blueprint, *, ndim: int, divisors: Sequence[int], pools: Sequence[bool]
) -> nn.Module:
    """3x3 convolutions of ``dim / divisor`` channels. ``[T, B, in_chans, *S] -> spikes [T, B, dim, *S / stride]``."""
    widths = [in_chans, *(dim // divisor for divisor in divisors)]
    return nn.Sequential(
        *(
            SpikingConv(before, after, make, "stem", ndim=ndim, pool=bool(pool), pool_first=True)
            for (before, after), pool in zip(pairwise(widths), pools, strict=True)
        )
    )


register_family("sglformer", SGLFormer, first_conv="patch_embed.0.conv")
