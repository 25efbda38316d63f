"""Heads that give every pixel a class. Notation and layers: :mod:`step_ahsar.heads.pyramid`."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from step_ahsar.heads.pyramid import Pyramid, conv_layer, each_map, resize
from step_ahsar.layers import Blueprint
from step_ahsar.registry import Registry

Body = Callable[[Sequence[int], Sequence[int], int, Blueprint | None], nn.Module]

# Each entry creates a body, a module that merges the backbone's levels into one map. Its arguments are the channels and
# the strides of the levels, the body's channels, and the blueprint of its spiking layers (None = a plain body).
HEADS = Registry[Body]("segmentation head")


class SegmentationHead(nn.Module):
    """A body that merges the backbone's levels into one map, and a 1x1 convolution that classifies its pixels.

    The input of a spiking head is levels [T, B, C, H, W], that of a plain one [B, C, H, W]. The output is logits
    [B, K, H', W'] at the body's finest stride. The classifier of a spiking head takes the mean of the spikes over time.

    Args:
        name: name of the body, one of :data:`HEADS`.
        channels: channels of each level of the backbone.
        reductions: stride of each level of the backbone.
        width: channels of the head's layers.
        num_classes: K.
        blueprint: makes the neurons and norms of a spiking head, in group "head"; None = a plain head, with ReLU.

    Raises:
        UserError: an unknown name.
    """

    def __init__(
        self,
        name: str,
        channels: Sequence[int],
        reductions: Sequence[int],
        width: int,
        num_classes: int,
        blueprint: Blueprint | None = None,
    ) -> None:
        super().__init__()
        self.body = HEADS[name](channels, reductions, width, blueprint)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """From the backbone's levels to logits [B, K, H', W']."""
        x = self.body(features)
        return self.classifier(x.mean(0) if x.ndim == 5 else x)


@HEADS.register("fcn")
class FCN(nn.Module):
    """Two 3x3 convolutions on the last level: the end of a fully convolutional network (arXiv 1411.4038)."""

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], width: int, blueprint: Blueprint | None
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_layer(channels[-1], width, blueprint), conv_layer(width, width, blueprint))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """From the levels to a map at the stride of the last level."""
        return self.convs(features[-1])


@HEADS.register("fpn")
class SemanticFPN(nn.Module):
    """The sum of a pyramid's maps, each enlarged stepwise to the finest (Kirillov et al. 2019, arXiv 1901.02446).

    A step is a 3x3 convolution and an upsampling by 2. The finest map has one convolution and no upsampling (figure 3).
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], width: int, blueprint: Blueprint | None
    ) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels, reductions, width, pyramid_strides(reductions), blueprint)
        self.steps = nn.ModuleList(
            nn.ModuleList(conv_layer(width, width, blueprint) for _ in range(max(1, level)))
            for level in range(len(self.pyramid.strides))
        )
        self.upsampling = _upsampling(blueprint)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """From the levels to the sum, at the pyramid's finest stride."""
        maps = self.pyramid(features)
        sizes = [x.shape[-2:] for x in maps]
        for level, convs in enumerate(self.steps):
            for i, conv in enumerate(convs.children()):
                maps[level] = resize(conv(maps[level]), sizes[max(0, level - 1 - i)], self.upsampling)
        return torch.stack(maps).sum(0)


@HEADS.register("upernet")
class UPerNet(nn.Module):
    """Pyramid pooling on the last level, a pyramid, and a 3x3 convolution over all its maps.

    The part for semantic segmentation of unified perceptual parsing (Xiao et al. 2018, arXiv 1807.10221, figure 4).
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], width: int, blueprint: Blueprint | None
    ) -> None:
        super().__init__()
        self.pooling = PyramidPooling(channels[-1], width, blueprint)
        self.pyramid = Pyramid([*channels[:-1], width], reductions, width, pyramid_strides(reductions), blueprint)
        self.fuse = conv_layer(len(self.pyramid.strides) * width, width, blueprint)
        self.upsampling = _upsampling(blueprint)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """From the levels to one map, at the pyramid's finest stride."""
        maps = self.pyramid([*features[:-1], self.pooling(features[-1])])
        size = maps[0].shape[-2:]
        return self.fuse(torch.cat([resize(x, size, self.upsampling) for x in maps], -3))


class PyramidPooling(nn.Module):
    """Pyramid pooling over grids of 1, 2, 3 and 6 cells a side (Zhao et al. 2017, arXiv 1612.01105).

    ``[..., C, H, W] -> [..., width, H, W]``. The averages are resized to H x W before their 1x1 convolutions.
    Otherwise, with a batch of one image, the batch norm behind a 1x1 grid would see a single value per channel.

    Args:
        in_channels: C.
        width: channels of the output.
        blueprint: makes the neurons and norms; None = plain layers.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, in_channels: int, width: int, blueprint: Blueprint | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv_layer(in_channels, width, blueprint, kernel_size=1) for _ in self.BINS)
        self.fuse = conv_layer(in_channels + len(self.BINS) * width, width, blueprint)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C, H, W] -> [..., width, H, W]``."""
        parts = [x]
        for bins, branch in zip(self.BINS, self.branches, strict=True):
            pooled = each_map(partial(F.adaptive_avg_pool2d, output_size=bins), x)
            parts.append(branch(resize(pooled, x.shape[-2:])))
        return self.fuse(torch.cat(parts, -3))


def pyramid_strides(reductions: Sequence[int]) -> list[int]:
    """Strides of a head's pyramid, for a backbone's reductions: ascending, up to the last.

    The first is the smallest reduction if the reductions differ, else a quarter of it; it is at least 2 and at most 4.

    >>> pyramid_strides([4, 8, 16]), pyramid_strides([16, 16]), pyramid_strides([4, 4])
    ([4, 8, 16], [4, 8, 16], [2, 4])
    """
    first, last = min(reductions), max(reductions)
    strides = [min(4, max(2, first if first < last else last // 4))]
    while strides[-1] < last:
        strides.append(2 * strides[-1])
    return strides


def _upsampling(blueprint: Blueprint | None) -> str:
    return "bilinear" if blueprint is None else "nearest"  # "nearest" keeps spikes 0 or 1
