"""Spike-driven Transformer (Yao et al., NeurIPS 2023, arXiv 2307.01694).

Variants, facts and deviations: ``zoo/sdt`` in the repository, ``step_ahsar/zoo/sdt`` in the wheel.
"""

from functools import partial
from typing import Any

from step_ahsar.layers import MLP, PatchSplitting, SpikeDrivenAttention
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class SpikeDrivenTransformer(ColumnarTransformer):
    """Patch splitting, then ``depth`` blocks of spike-driven attention and MLP, on a stream of membranes.

    Arguments: :class:`ColumnarTransformer`. A neuron reads the pooled membranes in front of the head.
    """

    def __init__(self, **common: Any) -> None:
        design = {"shortcut": "membrane", "conv_std": 0.02}
        super().__init__(design=design, **common)
        self.build_stem(PatchSplitting)
        self.build_blocks(SpikeDrivenAttention, partial(MLP, inner_shortcut=True))
        self.build_head(neuron=True)


register_family("sdt", SpikeDrivenTransformer, first_conv="patch_embed.stages.0.conv")
