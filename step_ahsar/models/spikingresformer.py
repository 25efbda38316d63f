"""SpikingResformer: Bridging ResNet and Vision Transformer in Spiking Neural Networks (CVPR 2024, arXiv 2403.14302).

Variants, facts and deviations: ``zoo/spikingresformer``, in the wheel ``step_ahsar/zoo/spikingresformer``.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.layers import Block, Downsampling, DualSpikeAttention, GroupwiseMLP, SpikingConv
from step_ahsar.models._registry import register_family
from step_ahsar.models._staged import StagedTransformer


class SpikingResformer(StagedTransformer):
    """Stages of dual spike self-attention and group-wise MLPs, on a stream of membranes. No layer has a bias.

    Shapes and the general arguments: :class:`StagedTransformer`. The head reads the membranes.

    Args:
        dims: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        reductions: by which factor the attention of each stage reduces the positions of keys and values.
        large_stem: whether the first convolution is 7x7 with stride 2 and a pool behind it, instead of 3x3.
        group_size: channels of a group in the MLPs.
        mlp_ratio: hidden channels of the MLPs, divided by the stage's channels.
    """

    def __init__(
        self,
        *,
        dims: Sequence[int] = (64, 192, 384),
        depths: Sequence[int] = (1, 2, 3),
        heads: Sequence[int] = (1, 3, 6),
        reductions: Sequence[int] = (4, 2, 1),
        large_stem: bool = False,
        group_size: int = 64,
        mlp_ratio: float = 4.0,
        **common: Any,
    ) -> None:
        if not len(dims) == len(depths) == len(heads) == len(reductions) > 0 or min(*dims, *depths, *reductions) < 1:
            raise UserError(
                f"dims, depths, heads and reductions must be >= 1 and of equal number, got {list(dims)}, "
                f"{list(depths)}, {list(heads)} and {list(reductions)}"
            )
        strides = [4 if large_stem else 1, *[2] * (len(dims) - 1)]
        # Keys and values of every stage must divide its size, too.
        needed = max(prod(strides[: i + 1]) * reduction for i, reduction in enumerate(reductions))
        if prod(strides) % needed:
            raise UserError(
                f"reductions {list(reductions)} need sizes that are multiples of {needed}, and the stages make only "
                f"multiples of {prod(strides)}"
            )
        super().__init__(
            stride=prod(strides),
            num_features=dims[-1],
            design={"shortcut": "membrane", "linear_std": None, "attn_factor": 1.0},
            published={"surrogate": "atan", "alpha": 2.0},
            **common,
        )
        make, ndim = self.blueprint, self.ndim

        def embedding(i: int, before: int, dim: int) -> nn.Module:
            if i:
                return Downsampling(before, dim, make, ndim=ndim, bias=False)
            kernel, stride = (7, 2) if large_stem else (3, 1)
            return SpikingConv(before, dim, make, None, ndim=ndim, kernel_size=kernel, stride=stride, pool=large_stem)

        for i, (before, dim) in enumerate(pairwise([self.in_chans, *dims])):
            blocks = [
                Block(
                    self.new_attention(
                        partial(DualSpikeAttention, dim, heads[i], make, reduction=reductions[i], ndim=ndim)
                    ),
                    GroupwiseMLP(dim, make, ratio=mlp_ratio, group_size=group_size, ndim=ndim),
                )
                for _ in range(depths[i])
            ]
            own = partial(embedding, i, before, dim)
            self.add_stage(self.new_embedding(own, before, dim, strides[i], first=i == 0), blocks, dim, strides[i])
        self.build_head(bias=False)


register_family("spikingresformer", SpikingResformer, first_conv="stages.0.patch_embed.conv")
