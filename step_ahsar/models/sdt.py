"""Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694).

Variants, facts and deviations: ``zoo/sdt`` in the repository, ``step_ahsar/zoo/sdt`` in the wheel.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from step_ahsar.layers import MLP, PatchSplitting, SpikeDrivenAttention
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class SpikeDrivenTransformer(ColumnarTransformer):
    """Patch splitting, then ``depth`` blocks of spike-driven attention and MLP, on a stream of membranes.

    Arguments: :class:`ColumnarTransformer`. A neuron reads the pooled membranes in front of the head.

    Args:
        pools: which of the four stages of the patch splitting halve the size.
    """

    def __init__(self, *, pools: Sequence[bool] = (False, False, True, True), **common: Any) -> None:
        design = {"shortcut": "membrane", "conv_std": 0.02}
        super().__init__(stride=2 ** sum(map(bool, pools)), design=design, **common)
        self.build_stem(PatchSplitting, pools=pools)
        self.build_blocks(SpikeDrivenAttention, partial(MLP, inner_shortcut=True))
        self.build_head(neuron=True)


register_family("sdt", SpikeDrivenTransformer, first_conv="patch_embed.stages.0.conv")
