"""Spikformer with a spiking experts mixture (SEMM; NeurIPS 2024, openreview WcIeEtY3AG).

Variants, facts and deviations: ``zoo/semm`` in the repository, ``step_ahsar/zoo/semm`` in the wheel.
"""

from functools import partial
from typing import Any

from step_ahsar.layers import ExpertsAttention, ExpertsMLP, PatchSplitting
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class SEMMSpikformer(ColumnarTransformer):
    """Patch splitting, then blocks of experts attention and experts MLP, then a linear head.

    Arguments: :class:`ColumnarTransformer`; ``heads`` is the number of experts.

    Args:
        pool_first: pool before the neuron (conv, norm, pool, neuron), or after it.
        width: channels of queries and keys.
        key_bias: bias of the layer of the keys.
        attn_scale: factor on the attention product.
    """

    def __init__(
        self,
        *,
        heads: int = 4,
        pool_first: bool = False,
        width: int = 96,
        key_bias: bool = True,
        attn_scale: float = 0.125,
        **common: Any,
    ) -> None:
        super().__init__(heads=heads, **common)
        self.build_stem(PatchSplitting, pool_first=pool_first)
        mlp = partial(ExpertsMLP, ndim=self.ndim)
        self.build_blocks(ExpertsAttention, mlp, width=width, key_bias=key_bias, scale=attn_scale)
        self.build_head()


register_family("semm", SEMMSpikformer, first_conv="patch_embed.stages.0.conv")
