"""The re-parameterised convolution of the later spike-driven transformers."""

from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from step_ahsar.layers.blueprint import CONV, Blueprint
from step_ahsar.layers.conv import SpikingConv
from step_ahsar.neurons.norms import BATCH_NORM


class RepConv(nn.Module):
    """Three convolutions that are one 3x3 convolution in evaluation (Meta-SpikeFormer, arXiv 2404.03663, section 3.3).

    1x1, norm, depthwise 3x3, 1x1, norm. ``[N, C_in, *S] -> [N, C_out, *S]``. Behind the first norm a border is added
    that holds what this norm makes of 0, so that the whole is a convolution with zero padding. The border is computed
    from the norm's running averages, in training too.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        blueprint: makes the convolutions.
        ndim: spatial dimensions.
    """

    def __init__(self, in_channels: int, out_channels: int, blueprint: Blueprint, *, ndim: int = 2) -> None:
        super().__init__()
        conv, norm = partial(blueprint.new_conv, ndim=ndim, bias=False), BATCH_NORM[ndim]
        self.first = conv(in_channels, in_channels, 1)
        self.first_norm = norm(in_channels)
        self.depthwise = conv(in_channels, in_channels, 3, groups=in_channels)
        self.last = conv(in_channels, out_channels, 1)
        self.last_norm = norm(out_channels)
        self.ndim = ndim

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C_in, *S] -> [N, C_out, *S]``."""
        inside = self.first_norm(self.first(x))
        border = _affine(self.first_norm)[1].detach().to(inside.dtype)
        sizes = [size + 2 for size in inside.shape[2:]]
        padded = border.view(-1, *[1] * self.ndim).expand(*inside.shape[:2], *sizes).clone()
        within: Any = (..., *[slice(1, -1)] * self.ndim)
        padded[within] = inside
        return self.last_norm(self.last(self.depthwise(padded)))

    @torch.no_grad()
    def merged(self) -> nn.Conv1d | nn.Conv2d:
        """The one convolution of kernel 3, with zero padding and a bias, that does the same in evaluation."""
        first_weight, first_bias = _affine(self.first_norm)
        last_weight, last_bias = _affine(self.last_norm)
        first = rearrange(self.first.weight, "m i ... -> m (i ...)") * first_weight[:, None]
        depthwise = rearrange(self.depthwise.weight, "m 1 ... -> m (...)")
        last = rearrange(self.last.weight, "o m ... -> o (m ...)") * last_weight[:, None]
        kernel = torch.einsum("om,mk,mi->oik", last, depthwise, first)
        bias = last @ (depthwise.sum(1) * first_bias) + last_bias
        merged = CONV[self.ndim](self.first.in_channels, self.last.out_channels, 3, padding=1)
        merged.to(kernel.device, kernel.dtype)
        merged.weight.copy_(kernel.view_as(merged.weight))
        assert merged.bias is not None
        merged.bias.copy_(bias)
        return merged


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Factor and summand, [C] each, of a batch norm in evaluation."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    weight = norm.weight / (norm.running_var + norm.eps).sqrt()
    return weight, norm.bias - norm.running_mean * weight


class SpikingRepConv(SpikingConv):
    """:class:`RepConv`, norm and neuron: ``[T, B, C_in, *S] -> spikes [T, B, C_out, *S]``.

    Arguments: :class:`SpikingConv`.
    """

    def __init__(
        self, in_channels: int, out_channels: int, blueprint: Blueprint, group: str | None, **options: Any
    ) -> None:
        conv = RepConv(in_channels, out_channels, blueprint, ndim=options.get("ndim", 2))
        super().__init__(in_channels, out_channels, blueprint, group, conv=conv, **options)
