"""Models of falling resolution: stages, each with an embedding and a row of blocks."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from step_ahsar.models._base import SpikingTransformer


class Stage(nn.Module):
    """One level of the hierarchy: a patch embedding, then blocks. ``[T, B, C, *S] -> [T, B, C', *S']``."""

    def __init__(self, patch_embed: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C', *S']``."""
        return self.blocks(self.patch_embed(x))


class StagedTransformer(SpikingTransformer):
    """Stages of falling resolution and rising width, and a head. Each stage is a feature level.

    Shapes and the general arguments: :class:`SpikingTransformer`. A subclass adds its stages by :meth:`add_stage` and
    calls :meth:`build_head`.
    """

    def __init__(self, **common: Any) -> None:
        super().__init__(**common)
        self.stages = nn.ModuleList()
        self.feature_info = []

    def add_stage(self, patch_embed: nn.Module, blocks: Sequence[nn.Module], channels: int, stride: int) -> None:
        """Adds a stage of ``channels`` channels, whose embedding shrinks the size by the factor ``stride``."""
        before = self.feature_info[-1]["reduction"] if self.feature_info else 1
        name = f"stages.{len(self.stages)}"
        self.stages.append(Stage(patch_embed, blocks))
        self.feature_info.append({"num_chs": channels, "reduction": before * stride, "module": name})

    @property
    def levels(self) -> nn.ModuleList:
        """The stages."""
        return self.stages

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in timm's format."""
        fine = [(r"^stages\.(\d+)\.patch_embed", (0,)), (r"^stages\.(\d+)\.blocks\.(\d+)", None)]
        return {"stem": r"^stages\.0\.patch_embed", "blocks": r"^stages\.(\d+)" if coarse else fine}
