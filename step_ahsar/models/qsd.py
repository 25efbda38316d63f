"""QSD-Transformer: Quantized Spike-driven Transformer (Qiu et al., ICLR 2025, arXiv 2501.13492).

Variants, facts and deviations: ``zoo/qsd`` in the repository, ``step_ahsar/zoo/qsd`` in the wheel.
"""

from functools import partial
from typing import Any

from torch import nn

from step_ahsar.layers import Block, LayerScale, SpikingRepConv, SpikingSelfAttention
from step_ahsar.models._registry import register_family
from step_ahsar.models._spikedriven import SpikeDrivenHierarchy


class QSDTransformer(SpikeDrivenHierarchy):
    """Meta-SpikeFormer with quantised weights and layer scale. The published neuron is an integer neuron, at T 1.

    Arguments: :class:`SpikeDrivenHierarchy`.

    Args:
        attn_scale: factor on the attention product.
        weight_bits: bits of every weight of convolutions and of the head; 32 = full precision.
        layer_scale: initial factor behind both branches of transformer blocks.
    """

    def __init__(
        self, *, attn_scale: float = 0.25, weight_bits: int = 4, layer_scale: float = 1e-6, **common: Any
    ) -> None:
        design = {"shortcut": "membrane", "linear_std": None, "attn_factor": 1.0}
        super().__init__(design=design, weight_bits=weight_bits, **common)
        layer = partial(SpikingRepConv, ndim=self.ndim)

        def transformer(dim: int) -> nn.Module:
            own = partial(
                SpikingSelfAttention, dim, self.heads, self.blueprint, scale=attn_scale, proj_bias=False, layer=layer
            )

            def scaled(branch: nn.Module) -> nn.Module:
                return nn.Sequential(branch, LayerScale(dim, layer_scale))

            attention = self.new_attention(own)
            return Block(None if attention is None else scaled(attention), scaled(self.mlp(dim)))

        self.build_stages(transformer, spiking_depthwise=False)


register_family("qsd", QSDTransformer, first_conv="stages.0.patch_embed.conv.conv")
