"""Models of one resolution: a patch embedding, then a column of equal blocks."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import MLP, Block
from step_ahsar.models._base import SpikingTransformer


class ColumnarTransformer(SpikingTransformer):
    """A patch embedding, ``depth`` equal blocks, and a head. Each block is a feature level.

    Shapes and the general arguments: :class:`SpikingTransformer`. A subclass calls :meth:`build_stem`,
    :meth:`build_blocks` and :meth:`build_head`.

    Args:
        dim: channels D of the blocks, a multiple of 8.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden channels of the MLP, divided by ``dim``.
        pools: which convolutions of the patch embedding have a pool, which halves the size.

    Raises:
        UserError: no block.
    """

    patch_embed: nn.Module

    def __init__(
        self,
        *,
        dim: int = 384,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        pools: Sequence[bool] = (False, False, True, True),
        **common: Any,
    ) -> None:
        if depth < 1:
            raise UserError(f"depth must be >= 1, got {depth}")
        super().__init__(num_features=dim, stride=2 ** sum(map(bool, pools)), **common)
        self.dim, self.depth, self.heads, self.mlp_ratio, self.pools = dim, depth, heads, mlp_ratio, pools

    def build_stem(self, stem: Callable[..., nn.Module], **options: Any) -> None:
        """The patch embedding: ``stem(in_chans, dim, blueprint, ndim, pools, **options)``, or one linear layer."""

        def make() -> nn.Module:
            return stem(self.in_chans, self.dim, self.blueprint, ndim=self.ndim, pools=self.pools, **options)

        self.patch_embed = self.new_embedding(make, self.in_chans, self.dim, self.stride)

    def build_blocks(
        self, attention: Callable[..., nn.Module], mlp: Callable[..., nn.Module] = MLP, **options: Any
    ) -> None:
        """Blocks of ``attention(dim, heads, blueprint, **options)`` and ``mlp(dim, blueprint, ratio=mlp_ratio)``."""
        make = self.blueprint
        self.blocks = nn.ModuleList(
            Block(
                self.new_attention(partial(attention, self.dim, self.heads, make, **options)),
                mlp(self.dim, make, ratio=self.mlp_ratio),
            )
            for _ in range(self.depth)
        )
        self.feature_info = [
            {"num_chs": self.dim, "reduction": self.stride, "module": f"blocks.{i}"} for i in range(self.depth)
        ]

    @property
    def levels(self) -> nn.ModuleList:
        """The blocks."""
        return self.blocks

    def embed(self, x: Tensor) -> Tensor:
        """The patch embedding."""
        return self._run(self.patch_embed, x)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in timm's format."""
        return {"stem": r"^patch_embed", "blocks": [(r"^blocks\.(\d+)", None)]}
