"""Meta-SpikeFormer, the spike-driven transformer v2 (Yao et al., ICLR 2024, arXiv 2404.03663).

Variants, facts and deviations: ``zoo/metaspikeformer``, in the wheel ``step_ahsar/zoo/metaspikeformer``.
"""

from functools import partial
from typing import Any

from torch import nn

from step_ahsar.layers import Block, SpikingRepConv, SpikingSelfAttention
from step_ahsar.models._registry import register_family
from step_ahsar.models._spikedriven import SpikeDrivenHierarchy


class MetaSpikeFormer(SpikeDrivenHierarchy):
    """Convolutional stages, then stages with re-parameterised attention. Arguments: :class:`SpikeDrivenHierarchy`.

    Args:
        attn_scale: factor on the attention product.
    """

    def __init__(self, *, attn_scale: float = 0.125, **common: Any) -> None:
        design = {"shortcut": "membrane", "linear_std": None}
        super().__init__(design=design, **common)
        layer = partial(SpikingRepConv, ndim=self.ndim)

        def transformer(dim: int) -> nn.Module:
            own = partial(
                SpikingSelfAttention, dim, self.heads, self.blueprint, scale=attn_scale, proj_bias=False, layer=layer
            )
            return Block(self.new_attention(own), self.mlp(dim))

        self.build_stages(transformer, spiking_depthwise=False)


register_family("metaspikeformer", MetaSpikeFormer, first_conv="stages.0.patch_embed.conv.conv")
