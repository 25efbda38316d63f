"""Spikformer: When Spiking Neural Network Meets Transformer (Zhou et al., ICLR 2023, arXiv 2209.15425).

Variants, facts and deviations: ``zoo/spikformer`` in the repository, ``step_ahsar/zoo/spikformer`` in the wheel.
"""

from typing import Any

from step_ahsar.layers import PatchSplitting, SpikingSelfAttention
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class Spikformer(ColumnarTransformer):
    """Patch splitting, then ``depth`` blocks of spiking self-attention and MLP, then a linear head.

    Arguments: :class:`ColumnarTransformer`.

    Args:
        heads: attention heads.
        pool_first: pool before the neuron (conv, norm, pool, neuron), or after it, as in the paper.
        qkv_bias: bias of the linear layers of q, k and v.
        attn_scale: factor on the attention product.
    """

    patch_embed: PatchSplitting

    def __init__(
        self,
        *,
        heads: int = 12,
        pool_first: bool = False,
        qkv_bias: bool = True,
        attn_scale: float = 0.125,
        **common: Any,
    ) -> None:
        super().__init__(heads=heads, **common)
        self.build_stem(PatchSplitting, pool_first=pool_first)
        self.build_blocks(SpikingSelfAttention, scale=attn_scale, qkv_bias=qkv_bias)
        self.build_head()


register_family("spikformer", Spikformer, first_conv="patch_embed.stages.0.conv")
