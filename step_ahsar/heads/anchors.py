"""Anchors of torchvision's detectors. torchvision is slow to import, so this module is imported on first use."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


class Anchors(AnchorGenerator):
    """Anchors at the given strides.

    Torchvision's generator divides the image's size by the map's, which gives a wrong stride if a size was rounded up.
    It also rounds anchors to whole pixels, so that small ones have no area.

    Args:
        strides: of the maps.
        sizes: for each map the sides of its anchors, in pixels.
        ratios: height divided by width, on every map.
    """

    def __init__(self, strides: Sequence[int], sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
        super().__init__(tuple(map(tuple, sizes)), (tuple(ratios),) * len(strides))
        self.strides = tuple(strides)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Sides and ratios (height over width) to boxes around 0, [ratios * sides, 4]."""
        root = torch.tensor(aspect_ratios, dtype=dtype, device=device).sqrt()[:, None]
        side = torch.tensor(scales, dtype=dtype, device=device)
        width, height = (side / root).flatten(), (side * root).flatten()
        return torch.stack([-width, -height, width, height], dim=1) / 2

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each image its anchors, [sum over maps of H * W * anchors, 4]."""
        first = feature_maps[0]
        self.set_cell_anchors(first.dtype, first.device)
        strides: list[Any] = [[stride, stride] for stride in self.strides]
        anchors = torch.cat(self.grid_anchors([list(x.shape[-2:]) for x in feature_maps], strides))
        return [anchors] * len(image_list.image_sizes)
