"""Spikingformer: Spike-driven Residual Learning for Transformer-based Spiking Neural Network (arXiv 2304.11954).

Variants, facts and deviations: ``zoo/spikingformer`` in the repository, ``step_ahsar/zoo/spikingformer`` in the wheel.
"""

from typing import Any

from step_ahsar.layers import ConvStem, SpikingSelfAttention
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class Spikingformer(ColumnarTransformer):
    """A convolutional stem, then ``depth`` blocks of spiking self-attention and MLP, on a stream of membranes.

    Arguments: :class:`ColumnarTransformer`. The head reads the membranes.

    Args:
        attn_scale: factor on the attention product.
    """

    def __init__(
        self,
        *,
        attn_scale: float = 0.125,
        **common: Any,
    ) -> None:
        design = {"shortcut": "membrane", "linear_std": None}
        super().__init__(design=design, **common)
        self.build_stem(ConvStem)
        self.build_blocks(SpikingSelfAttention, scale=attn_scale)
        self.build_head()


register_family("spikingformer", Spikingformer, first_conv="patch_embed.stages.0.conv")
