"""Spikformer with temporal interaction (TIM; Shen et al., IJCAI 2024, arXiv 2401.11687).

Variants, facts and deviations: ``zoo/tim`` in the repository, ``step_ahsar/zoo/tim`` in the wheel.
"""

from collections.abc import Sequence
from typing import Any

from step_ahsar.layers import PatchSplitting, TemporalAttention
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class TIMSpikformer(ColumnarTransformer):
    """Spikformer whose queries at each time step are mixed with those before. It takes inputs of ``img_size`` alone.

    Arguments: :class:`ColumnarTransformer`.

    Args:
        pool_first: pool before the neuron (conv, norm, pool, neuron), or after it.
        attn_scale: factor on the attention product.
        mixing: share of the past in the mixed queries.
    """

    def __init__(
        self,
        *,
        heads: int = 16,
        pools: Sequence[bool] = (True, True, True, True),
        pool_first: bool = False,
        attn_scale: float = 0.25,
        mixing: float = 0.5,
        **common: Any,
    ) -> None:
        super().__init__(heads=heads, pools=pools, **common)
        self.build_stem(PatchSplitting, pool_first=pool_first)
        options: dict[str, Any] = {"mixing": mixing, "scale": attn_scale, "proj_bias": False}
        self.build_blocks(TemporalAttention, tokens=self.tokens, **options)
        self.build_head()


register_family("tim", TIMSpikformer, first_conv="patch_embed.stages.0.conv")
