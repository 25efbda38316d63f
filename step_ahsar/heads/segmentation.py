"""Heads that give every pixel a class. Notation and layers: :mod:`step_ahsar.heads.pyramid`."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from step_ahsar.errors import unknown
from step_ahsar.heads.pyramid import Pyramid, conv_layer, resize
from step_ahsar.layers import NeuronFactory


class SegmentationHead(nn.Module):
    """A body that merges the backbone's levels into one map, and a 1x1 convolution that classifies it.

    Spiking heads take levels [T, B, C, H, W] and plain ones [B, C, H, W]; both give logits [B, K, H', W'] at the body's
    finest stride. Behind spikes the classifier integrates over time: it sees their mean over the time steps.

    Args:
        name: of the body: "fcn", "fpn" or "upernet".
        channels: of each level of the backbone.
        reductions: by how much each level has shrunk the input.
        width: channels of the head's layers.
        num_classes: K.
        neuron: makes the neurons of a spiking head, in group "head"; None = a plain one, with ReLU.

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
        neuron: NeuronFactory | None = None,
    ) -> None:
        super().__init__()
        if name not in _BODIES:
            raise unknown("segmentation head", name, _BODIES)
        self.body = _BODIES[name](channels, reductions, width, neuron)
        self.classifier = nn.Conv2d(width, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The backbone's levels to logits [B, K, H', W']."""
        x = self.body(features)
        return self.classifier(x.mean(0) if x.ndim == 5 else x)


class FCN(nn.Module):
    """Two 3x3 convolutions on the last level: the end of a fully convolutional network (arXiv 1411.4038)."""

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], width: int, neuron: NeuronFactory | None
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(conv_layer(channels[-1], width, neuron), conv_layer(width, width, neuron))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The levels to a map at the last one's stride."""
        return self.convs(features[-1])


class SemanticFPN(nn.Module):
    """The sum of a pyramid's maps, each brought to the finest in steps (Kirillov et al. 2019, arXiv 1901.02446).

    A step is a 3x3 convolution and an upsampling by 2; the finest map has the convolution alone (figure 3).
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], width: int, neuron: NeuronFactory | None
    ) -> None:
        super().__init__()
        self.pyramid = Pyramid(channels, reductions, width, pyramid_strides(reductions), neuron)
        self.steps = nn.ModuleList(
            nn.ModuleList(conv_layer(width, width, neuron) for _ in range(max(1, level)))
            for level in range(len(self.pyramid.strides))
        )
        self.upsampling = _upsampling(neuron)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The levels to the sum, at the pyramid's finest stride; of spikes it is an integer."""
        maps = self.pyramid(features)
        sizes = [x.shape[-2:] for x in maps]
        for level, convs in enumerate(self.steps):
            for i, conv in enumerate(convs.children()):
                maps[level] = resize(conv(maps[level]), sizes[max(0, level - 1 - i)], self.upsampling)
        return torch.stack(maps).sum(0)


class UPerNet(nn.Module):
    """Pyramid pooling on the last level, a pyramid, and a 3x3 convolution over all its maps.

    Of unified perceptual parsing (Xiao et al. 2018, arXiv 1807.10221, figure 4) the part for semantic segmentation.
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], width: int, neuron: NeuronFactory | None
    ) -> None:
        super().__init__()
        self.pooling = PyramidPooling(channels[-1], width, neuron)
        self.pyramid = Pyramid([*channels[:-1], width], reductions, width, pyramid_strides(reductions), neuron)
        self.fuse = conv_layer(len(self.pyramid.strides) * width, width, neuron)
        self.upsampling = _upsampling(neuron)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The levels to the fused maps, at the pyramid's finest stride."""
        maps = self.pyramid([*features[:-1], self.pooling(features[-1])])
        size = maps[0].shape[-2:]
        return self.fuse(torch.cat([resize(x, size, self.upsampling) for x in maps], -3))


class PyramidPooling(nn.Module):
    """A map beside its averages over grids of 1, 2, 3 and 6 cells a side (Zhao et al. 2017, arXiv 1612.01105).

    ``[..., C, H, W] -> [..., width, H, W]``. The averages go back to H x W before their 1x1 convolutions, whose norms
    would else see a single value for each channel where there is a single image.

    Args:
        in_channels: C.
        width: channels of the output.
        neuron: makes the neurons; None = plain layers.
    """

    BINS = (1, 2, 3, 6)

    def __init__(self, in_channels: int, width: int, neuron: NeuronFactory | None = None) -> None:
        super().__init__()
        self.branches = nn.ModuleList(conv_layer(in_channels, width, neuron, kernel_size=1) for _ in self.BINS)
        self.fuse = conv_layer(in_channels + len(self.BINS) * width, width, neuron)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., C, H, W] -> [..., width, H, W]``."""
        parts = [x]
        for bins, branch in zip(self.BINS, self.branches, strict=True):
            pooled = F.adaptive_avg_pool2d(x.flatten(0, -4), bins).reshape(*x.shape[:-2], bins, bins)
            parts.append(branch(resize(pooled, x.shape[-2:])))
        return self.fuse(torch.cat(parts, -3))


_BODIES: dict[str, type[FCN | SemanticFPN | UPerNet]] = {"fcn": FCN, "fpn": SemanticFPN, "upernet": UPerNet}


def pyramid_strides(reductions: Sequence[int]) -> list[int]:
    """Strides of a head's pyramid, for a backbone's reductions: ascending, up to the last.

    They start from the first reduction if there are several, else from a quarter, but at 2 at least and 4 at most.

    >>> pyramid_strides([4, 8, 16]), pyramid_strides([16, 16]), pyramid_strides([4, 4])
    ([4, 8, 16], [4, 8, 16], [2, 4])
    """
    first, last = min(reductions), max(reductions)
    strides = [min(4, max(2, first if first < last else last // 4))]
    while strides[-1] < last:
        strides.append(2 * strides[-1])
    return strides


def _upsampling(neuron: NeuronFactory | None) -> str:
    return "bilinear" if neuron is None else "nearest"  # spikes stay spikes
