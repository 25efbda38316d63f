"""Feature pyramids: maps with the same number of channels at several strides, from the levels of any backbone.

Notation: T time steps, B batch, C channels, H, W pixels. Inputs and outputs of spiking layers are [T, B, C, H, W].
Those of plain layers are [B, C, H, W]: features averaged over time.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log2

import torch.nn.functional as F
from einops import pack, unpack
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, SpikingConv


class Pyramid(nn.Module):
    """Maps with the same number of channels at several strides, from the levels of any backbone.

    Each map comes from the backbone's level whose stride is nearest to the map's, through a 1x1 convolution. If the map
    is coarser, max pools come before that convolution; if it is finer, transposed convolutions do. Then

    * if the maps come from several levels (QKFormer), coarser maps are added to finer ones from the top down: feature
      pyramid networks (Lin et al. 2017, arXiv 1612.03144);
    * if they come from one level (all levels of Spikformer have the same stride), nothing is added: the simple feature
      pyramid (Li et al. 2022, arXiv 2203.16527).

    A 3x3 convolution follows on each map. Of several levels with the same stride, the last is used. Sums of spikes are
    integers, as in the backbones' residual streams. In a plain pyramid every convolution has a batch norm, and only the
    transposed convolutions have a ReLU.

    Args:
        channels: channels of each level of the backbone.
        reductions: stride of each level of the backbone.
        out_channels: channels of each map.
        strides: strides of the maps, ascending; each is a level's stride times or divided by a power of 2.
        blueprint: makes the neurons and norms of a spiking pyramid, in group "head"; None = a plain pyramid.

    Raises:
        UserError: strides that do not ascend, or that are not a level's stride times or divided by a power of 2.
    """

    def __init__(
        self,
        channels: Sequence[int],
        reductions: Sequence[int],
        out_channels: int,
        strides: Sequence[int],
        blueprint: Blueprint | None = None,
    ) -> None:
        super().__init__()
        if not strides or min(strides) < 1 or any(after <= before for before, after in pairwise(strides)):
            raise UserError(f"strides of a pyramid must be >= 1 and ascend, got {list(strides)}")
        self.strides, self.out_channels = tuple(strides), out_channels
        last = {reduction: i for i, reduction in enumerate(reductions)}
        self.sources: list[int] = []
        self.laterals = nn.ModuleList()
        for stride in strides:
            nearest = min(last, key=lambda reduction: abs(log2(stride / reduction)))
            octaves = log2(stride / nearest)
            if octaves % 1:
                levels = ", ".join(map(str, last))
                raise UserError(
                    f"stride {stride} of a pyramid must be the stride of a level ({levels}), times or divided by 2, 4, "
                    "8, ..."
                )
            source, finer, coarser = last[nearest], max(0, round(-octaves)), max(0, round(octaves))
            widths = [channels[source], *[out_channels] * finer]
            layers = [conv_layer(before, after, blueprint, up=True) for before, after in pairwise(widths)]
            layers += [_Pool() for _ in range(coarser)]
            layers.append(conv_layer(widths[-1], out_channels, blueprint, kernel_size=1, relu=False))
            self.sources.append(source)
            self.laterals.append(nn.Sequential(*layers))
        self.outputs = nn.ModuleList(conv_layer(out_channels, out_channels, blueprint, relu=False) for _ in strides)
        self.top_down = len(set(self.sources)) > 1

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """From the backbone's levels, each [B, C, H, W] or [T, B, C, H, W], to maps in the order of the strides."""
        maps = [lateral(features[source]) for source, lateral in zip(self.sources, self.laterals, strict=True)]
        if self.top_down:
            for i in reversed(range(len(maps) - 1)):
                maps[i] = maps[i] + resize(maps[i + 1], maps[i].shape[-2:])
        return [output(x) for output, x in zip(self.outputs, maps, strict=True)]


def conv_layer(
    in_channels: int,
    out_channels: int,
    blueprint: Blueprint | None,
    *,
    kernel_size: int = 3,
    up: bool = False,
    relu: bool = True,
) -> nn.Module:
    """Convolution, batch norm, and a neuron of group "head" or a ReLU.

    Args:
        in_channels: C of the input.
        out_channels: C of the output.
        blueprint: makes the neuron; None = a plain layer.
        kernel_size: odd; the size is kept.
        up: a transposed convolution of kernel and stride 2 instead, which doubles the size.
        relu: whether a plain layer ends with a ReLU.
    """
    if blueprint is not None:
        layer = SpikingConv(in_channels, out_channels, blueprint, "head", kernel_size=kernel_size)
        if up:
            layer.conv = _transposed(in_channels, out_channels)
        return layer
    conv = (
        _transposed(in_channels, out_channels)
        if up
        else nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *([nn.ReLU()] if relu else []))


def resize(x: Tensor, size: Sequence[int], mode: str = "nearest") -> Tensor:
    """``[..., C, H, W] -> [..., C, *size]``. With "nearest" the values remain spikes."""
    if x.shape[-2:] == tuple(size):
        return x
    corners = None if mode == "nearest" else False
    return each_map(lambda maps: F.interpolate(maps, tuple(size), mode=mode, align_corners=corners), x)


def each_map(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of ``[N, C, H, W]`` to ``x: [..., C, H, W]``. It may change height and width."""
    maps, leading = pack([x], "* c h w")
    return unpack(function(maps), leading, "* c h w")[0]


def _transposed(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2, bias=False)


class _Pool(nn.Module):
    """Max pool of kernel and stride 2: ``[..., C, H, W] -> [..., C, ceil(H / 2), ceil(W / 2)]``."""

    def forward(self, x: Tensor) -> Tensor:
        return each_map(lambda maps: F.max_pool2d(maps, 2, ceil_mode=True), x)
