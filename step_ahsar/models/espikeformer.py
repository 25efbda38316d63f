"""E-SpikeFormer, the spike-driven transformer v3, base models (Yao et al., T-PAMI 2025, arXiv 2411.16061).

Variants, facts and deviations: ``zoo/espikeformer`` in the repository, ``step_ahsar/zoo/espikeformer`` in the wheel.
"""

from functools import partial
from math import sqrt
from typing import Any

from torch import nn

from step_ahsar.layers import Block, Residual, SeparableConv, SpikingSelfAttention
from step_ahsar.models._registry import register_family
from step_ahsar.models._spikedriven import SpikeDrivenHierarchy


class ESpikeFormer(SpikeDrivenHierarchy):
    """Convolutional stages, then stages of separable convolution, attention with wide values, and MLP.

    The published neuron is an integer neuron, at one time step. Arguments: :class:`SpikeDrivenHierarchy`.

    Args:
        attn_scale: factor on the attention product; None = 2 / sqrt(d), d channels per head.
        value_ratio: channels of v, divided by the stage's.
    """

    def __init__(self, *, attn_scale: float | None = None, value_ratio: int = 4, **common: Any) -> None:
        design = {"shortcut": "membrane", "linear_std": None, "attn_factor": 1.0}
        super().__init__(design=design, **common)
        make, heads = self.blueprint, self.heads

        def transformer(dim: int) -> nn.Module:
            mixer = SeparableConv(dim, 3, make, ndim=self.ndim, spiking_depthwise=True)
            scale = 2 / sqrt(dim / heads) if attn_scale is None else attn_scale
            own = partial(SpikingSelfAttention, dim, heads, make, scale=scale, proj_bias=False, value_ratio=value_ratio)
            return nn.Sequential(Residual(mixer), Block(self.new_attention(own), self.mlp(dim)))

        self.build_stages(transformer, spiking_depthwise=True)


register_family("espikeformer", ESpikeFormer, first_conv="stages.0.patch_embed.conv.conv")
