"""QKFormer: Hierarchical Spiking Transformer using Q-K Attention (Zhou et al., NeurIPS 2024, arXiv 2403.16552).

Variants, facts and deviations: ``zoo/qkformer`` in the repository, ``step_ahsar/zoo/qkformer`` in the wheel.
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
    SHORTCUTS,
    Block,
    DeformedShortcutEmbedding,
    EmbeddingPlan,
    SpikingSelfAttention,
    TokenQKAttention,
)
from step_ahsar.models._registry import register_family
from step_ahsar.models._staged import StagedTransformer

# Patch embeddings of the first and of every later stage; 3x3 convolutions as (dim / channels, how it shrinks).
EMBEDDINGS = {
    "cifar": (
        EmbeddingPlan(stem=((2, None),), main=((1, None),)),
        EmbeddingPlan(stem=(), main=((1, None), (1, "pool"))),
    ),
    "dvs": (
        EmbeddingPlan(stem=((8, None), (4, "pool")), main=((2, "pool"), (1, "pool"))),
        EmbeddingPlan(stem=(), main=((1, None), (1, "pool"))),
    ),
    "imagenet": (
        EmbeddingPlan(stem=((2, "pool"),), main=((1, "pool"), (1, None))),
        EmbeddingPlan(stem=(), main=((1, "pool"), (1, None))),
    ),
}


class QKFormer(StagedTransformer):
    """Stages of decreasing resolution and increasing width. The last has spiking self-attention, the others token QKA.

    Shapes and the general arguments: :class:`StagedTransformer`.

    Args:
        dims: channels of each stage.
        depths: blocks of each stage.
        heads: attention heads, the same in every stage.
        form: patch embeddings, "cifar", "dvs" or "imagenet".
        pool_first: pool before the neuron (conv, norm, pool, neuron), as in the paper, or after it. Without effect on a
            layer without a neuron, at the end of a branch with membrane shortcuts.
        attn_scale: factor on the product of the spiking self-attention.
        mlp_ratio: hidden channels of the MLP, divided by the stage's channels.
        shortcut: "spike", or "membrane" for MS-QKFormer (arXiv 2505.18608), whose stream adds membranes. A neuron then
            reads the pooled membranes in front of the head.
    """

    def __init__(
        self,
        *,
        dims: Sequence[int] = (96, 192, 384),
        depths: Sequence[int] = (1, 1, 2),
        heads: int = 8,
        form: str = "cifar",
        pool_first: bool = True,
        attn_scale: float = 0.125,
        mlp_ratio: float = 4.0,
        shortcut: str = "spike",
        **common: Any,
    ) -> None:
        if shortcut not in SHORTCUTS:
            raise unknown("shortcut", shortcut, SHORTCUTS)
        if form not in EMBEDDINGS:
            raise unknown("form of QKFormer", form, EMBEDDINGS)
        if not dims or len(dims) != len(depths) or min(*dims, *depths) < 1:
            raise UserError(f"dims and depths must be >= 1 and of equal number, got {list(dims)} and {list(depths)}")
        first, later = EMBEDDINGS[form]
        plans = [first, *[later] * (len(dims) - 1)]
        super().__init__(
            stride=prod(plan.stride for plan in plans),
            num_features=dims[-1],
            design={"shortcut": shortcut},
            **common,
        )
        self.form = form
        make = self.blueprint

        def attention(stage: int) -> nn.Module:
            if stage == len(dims) - 1:
                return SpikingSelfAttention(dims[stage], heads, make, scale=attn_scale)
            return TokenQKAttention(dims[stage], heads, make)

        for i, ((before, dim), depth, plan) in enumerate(
            zip(pairwise([self.in_chans, *dims]), depths, plans, strict=True)
        ):
            own = partial(DeformedShortcutEmbedding, before, dim, plan, make, ndim=self.ndim, pool_first=pool_first)
            patch_embed = self.new_embedding(own, before, dim, plan.stride, first=i == 0)
            mixer = partial(attention, i)
            blocks = [Block(self.new_attention(mixer), MLP(dim, make, ratio=mlp_ratio)) for _ in range(depth)]
            self.add_stage(patch_embed, blocks, dim, plan.stride)
        self.build_head(neuron=self.blueprint.membrane_shortcut)


register_family("qkformer", QKFormer, first_conv="stages.0.patch_embed.stem.0.conv")
