"""Max-Former: Spiking Transformers Need High-Frequency Information (NeurIPS 2025, arXiv 2505.18608).

Variants, facts and deviations: ``zoo/maxformer`` in the repository, ``step_ahsar/zoo/maxformer`` in the wheel.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

from torch import nn

from step_ahsar.errors import UserError, unknown
from step_ahsar.layers import (
    MLP,
    Block,
    DeformedShortcutEmbedding,
    DepthwiseMixer,
    EmbeddingPlan,
    SpikingSelfAttention,
)
from step_ahsar.models._registry import register_family
from step_ahsar.models._staged import StagedTransformer

# The embedding of the first stage. A later one pools, in both branches.
EMBEDDINGS = {
    "cifar": EmbeddingPlan(stem=((2, None),), main=((1, None),)),
    "imagenet": EmbeddingPlan(stem=((2, "stride"),), main=((1, "stride"), (1, None))),
    "dvs": EmbeddingPlan(stem=((8, None), (4, "pool")), main=((2, "pool"), (1, "pool"))),
}
LATER = EmbeddingPlan(stem=(), main=((1, "pool"), (1, None)), shortcut="pool")


class MaxFormer(StagedTransformer):
    """Early stages mix tokens by depthwise convolutions, the last by self-attention, on a stream of membranes.

    The max pools that the name is about are in the embeddings of the later stages. Shapes and the general arguments:
    :class:`StagedTransformer`. A neuron reads the pooled membranes in front of the head.

    Args:
        dims: channels of each stage.
        depths: blocks of each stage.
        kernels: kernel size of the depthwise convolutions of each stage but the last; 0 = the stage has channel mixing
            alone.
        heads: attention heads.
        form: the first embedding, "cifar", "imagenet" or "dvs".
        attn_scale: factor on the attention product.
        mlp_ratio: hidden channels of the MLP, divided by the stage's channels. With 1 its first layer has a shortcut.
    """

    def __init__(
        self,
        *,
        dims: Sequence[int] = (96, 192, 384),
        depths: Sequence[int] = (1, 1, 2),
        kernels: Sequence[int] = (0, 3),
        heads: int = 8,
        form: str = "cifar",
        attn_scale: float = 0.125,
        mlp_ratio: float = 4.0,
        **common: Any,
    ) -> None:
        if form not in EMBEDDINGS:
            raise unknown("form of MaxFormer", form, EMBEDDINGS)
        if not dims or len(dims) != len(depths) or min(*dims, *depths) < 1:
            raise UserError(f"dims and depths must be >= 1 and of equal number, got {list(dims)} and {list(depths)}")
        if len(kernels) != len(dims) - 1 or any(kernel and (kernel < 0 or kernel % 2 == 0) for kernel in kernels):
            raise UserError(
                f"kernels must be 0 or odd, one for each of the {len(dims) - 1} stages before the last, got "
                f"{list(kernels)}"
            )
        plans = [EMBEDDINGS[form], *[LATER] * (len(dims) - 1)]
        design = {"shortcut": "membrane", "linear_std": None}
        super().__init__(stride=prod(plan.stride for plan in plans), num_features=dims[-1], design=design, **common)
        self.form = form
        make, ndim = self.blueprint, self.ndim

        def mixer(dim: int, stage: int) -> nn.Module | None:
            if stage == len(dims) - 1:
                return self.new_attention(partial(SpikingSelfAttention, dim, heads, make, scale=attn_scale))
            return DepthwiseMixer(dim, kernels[stage], make, ndim=ndim) if kernels[stage] else None

        for i, ((before, dim), depth, plan) in enumerate(
            zip(pairwise([self.in_chans, *dims]), depths, plans, strict=True)
        ):
            own = partial(DeformedShortcutEmbedding, before, dim, plan, make, ndim=ndim)
            embedding = self.new_embedding(own, before, dim, plan.stride, first=i == 0)
            blocks = [Block(mixer(dim, i), MLP(dim, make, ratio=mlp_ratio, inner_shortcut=True)) for _ in range(depth)]
            self.add_stage(embedding, blocks, dim, plan.stride)
        self.build_head(neuron=True)


register_family("maxformer", MaxFormer, first_conv="stages.0.patch_embed.stem.0.conv")
