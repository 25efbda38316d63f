"""The building block of every model here: weight, norm, neuron."""

import torch
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from step_ahsar.layers.pool import MaxPool

CONV: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
NORM: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


class SpikingConv(nn.Module):
    """Convolution, batch norm, neuron, and a max pool (3, stride 2) before or after the neuron if asked for.

    ``[T, B, C_in, *S] -> spikes [T, B, C_out, *S']``. Convolution, norm and pool know no time: they see [T*B, ...].
    Weights start from PyTorch's default, as in the papers' public code.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        neuron: what fires.
        ndim: spatial dimensions, 2 for images and 1 for sequences and tokens.
        kernel_size: odd; the padding keeps the size.
        stride: of the convolution.
        bias: of the convolution.
        pool: halve the size.
        pool_first: pool the norm's output rather than the spikes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        neuron: nn.Module,
        *,
        ndim: int = 2,
        kernel_size: int = 3,
        stride: int = 1,
        bias: bool = False,
        pool: bool = False,
        pool_first: bool = False,
    ) -> None:
        super().__init__()
        self.conv = CONV[ndim](
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
        )
        self.norm = NORM[ndim](out_channels)
        self.neuron = neuron
        self.pool = MaxPool() if pool else None
        self.pool_first = pool_first

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T, B, C_out, *S']``. Here alone a norm meets its neuron."""
        steps, batch = x.shape[:2]
        x = self._convolve(x)
        if self.pool is not None and self.pool_first:
            return self.neuron(self.pool(self.norm(x)).unflatten(0, (steps, batch)))
        x = self.neuron(x.unflatten(0, (steps, batch)), self.norm)
        if self.pool is not None:
            x = self.pool(x.flatten(0, 1)).unflatten(0, (steps, batch))
        return x

    def _convolve(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T*B, C_out, *S']``."""
        if x.stride(0):
            return self.conv(x.flatten(0, 1))
        # one image expanded over time: what is the same at every step is computed once
        return self.conv(x[0]).repeat(x.shape[0], *[1] * (x.ndim - 2))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Divides what the neuron receives by ``scale`` > 0, which is the same as a threshold times ``scale``."""
        self.norm.weight.div_(scale)
        self.norm.bias.div_(scale)


class SpikingLinear(SpikingConv):
    """Linear, batch norm, neuron, over tokens: ``[T, B, C_in, N] -> spikes [T, B, C_out, N]``.

    Channels stay first, so the linear layer is a convolution of kernel 1. Its weights start from a truncated normal of
    deviation 0.02 and its bias from 0, as Linear layers do in the papers' public code.
    """

    def __init__(self, in_channels: int, out_channels: int, neuron: nn.Module, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, neuron, ndim=1, kernel_size=1, bias=bias)
        trunc_normal_(self.conv.weight, std=0.02)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
