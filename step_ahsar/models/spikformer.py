"""Spikformer: When Spiking Neural Network Meets Transformer (Zhou et al., ICLR 2023, arXiv 2209.15425).

Variants, facts and deviations: ``zoo/spikformer`` in the repository, ``step_ahsar/zoo/spikformer`` in the wheel.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import MLP, Block, PatchSplitting, SpikingSelfAttention
from step_ahsar.models._base import SpikingTransformer
from step_ahsar.models._registry import register_family


class Spikformer(SpikingTransformer):
    """Patch splitting, then ``depth`` blocks of spiking self-attention and MLP, then a linear head.

    Shapes and the general arguments: :class:`SpikingTransformer`. Each block is a feature level.

    Args:
        dim: channels D of the blocks, a multiple of 8.
        depth: number of blocks.
        heads: attention heads.
        pools: which of the four stages of the patch splitting halve the size.
        pool_first: pool before the neuron (conv, norm, pool, neuron), or after it, as in the paper.
        qkv_bias: bias of the linear layers of q, k and v.
        attn_scale: factor on the attention product.
        mlp_ratio: hidden channels of the MLP, divided by ``dim``.
    """

    def __init__(
        self,
        *,
        dim: int = 384,
        depth: int = 4,
        heads: int = 12,
        pools: Sequence[bool] = (False, False, True, True),
        pool_first: bool = False,
        qkv_bias: bool = True,
        attn_scale: float = 0.125,
        mlp_ratio: float = 4.0,
        **common: Any,
    ) -> None:
        if depth < 1:
            raise UserError(f"depth must be >= 1, got {depth}")
        super().__init__(stride=2 ** sum(map(bool, pools)), num_features=dim, **common)
        make = self.blueprint
        self.patch_embed = PatchSplitting(self.in_chans, dim, make, ndim=self.ndim, pools=pools, pool_first=pool_first)
        self.blocks = nn.ModuleList(
            Block(
                SpikingSelfAttention(dim, heads, make, scale=attn_scale, qkv_bias=qkv_bias),
                MLP(dim, make, ratio=mlp_ratio),
            )
            for _ in range(depth)
        )
        self.feature_info = [{"num_chs": dim, "reduction": self.stride, "module": f"blocks.{i}"} for i in range(depth)]
        self.reset_classifier(self.num_classes)

    @property
    def levels(self) -> nn.ModuleList:
        """The blocks."""
        return self.blocks

    def embed(self, x: Tensor) -> Tensor:
        """Patch splitting."""
        return self._run(self.patch_embed, x)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in timm's format."""
        return {"stem": r"^patch_embed", "blocks": [(r"^blocks\.(\d+)", None)]}


register_family("spikformer", Spikformer, first_conv="patch_embed.stages.0.conv")
