"""SWformer: Spiking Wavelet Transformer (Fang et al., ECCV 2024, arXiv 2403.11138).

Variants, facts and deviations: ``zoo/swformer`` in the repository, ``step_ahsar/zoo/swformer`` in the wheel.
"""

from collections.abc import Sequence
from typing import Any

from step_ahsar.errors import UserError
from step_ahsar.layers import PatchSplitting, WaveletMixer
from step_ahsar.models._columnar import ColumnarTransformer
from step_ahsar.models._registry import register_family


class SWformer(ColumnarTransformer):
    """Patch splitting, then ``depth`` blocks of wavelet mixing and MLP, on a stream of membranes. It has no attention.

    The number of tokens along each axis must be a power of 2. Sequences are padded to such a number.

    Arguments: :class:`ColumnarTransformer`; ``heads`` is the number of blocks of channels in the mixers.

    Args:
        in_series: see :class:`WaveletMixer`.
        head_neuron: whether a neuron reads the pooled membranes in front of the head.
    """

    def __init__(
        self,
        *,
        heads: int = 4,
        in_series: bool = False,
        head_neuron: bool = False,
        **common: Any,
    ) -> None:
        if common.get("attention", "own") != "own" or common.get("attn_threshold") is not None:
            raise UserError(
                "SWformer mixes tokens without attention: attention and attn_threshold would have no effect"
            )
        design = {"shortcut": "membrane", "linear_std": None}
        super().__init__(heads=heads, design=design, **common)
        self.build_stem(PatchSplitting)
        self.build_blocks(WaveletMixer, ndim=self.ndim, in_series=in_series)
        self.build_head(neuron=head_neuron)

    def check_size(self, size: int | Sequence[int]) -> tuple[int, ...]:
        """See :meth:`SpikingTransformer.check_size`."""
        sizes = super().check_size(size)
        for n in sizes if self.ndim == 2 else ():
            above = _power(n // self.stride) * self.stride
            if n != above:
                raise UserError(
                    f"SWformer cannot take size {'x'.join(map(str, sizes))}: height and width must be {self.stride} "
                    f"times a power of 2, such as {above // 2} or {above}"
                )
        return sizes

    def padded_length(self, length: int) -> int:
        """The next length whose number of tokens is a power of 2."""
        return _power(-(-length // self.stride)) * self.stride


def _power(n: int) -> int:
    """The least power of 2 that is at least n."""
    return 1 << (n - 1).bit_length()


register_family("swformer", SWformer, first_conv="patch_embed.stages.0.conv")
