"""The building blocks of every model: convolution or linear layer, norm, neuron."""

from typing import ClassVar

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn.init import trunc_normal_

from step_ahsar.layers.pool import MaxPool

CONV: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
NORM: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


class SpikingConv(nn.Module):
    """Convolution, batch norm, neuron, and optionally a max pool (kernel 3, stride 2) before or after the neuron.

    ``[T, B, C_in, *S] -> spikes [T, B, C_out, *S']``. Convolution, norm and pool treat every time step alike; their
    input is [T*B, ...]. Initial weights are PyTorch's default, as in the papers' public code.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        neuron: the spiking neuron.
        ndim: spatial dimensions, 2 for images and 1 for sequences and tokens.
        kernel_size: odd; the padding keeps the size.
        stride: of the convolution.
        bias: whether the convolution has a bias.
        pool: whether there is a pool, which halves the size.
        pool_first: pool the norm's output instead of the spikes.
    """

    folds_into_weights: ClassVar[bool] = True

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
        """``[T, B, C_in, *S] -> [T, B, C_out, *S']``."""
        steps = len(x)
        x = self._convolve(x)
        if self.pool is not None and self.pool_first:
            return self.neuron(over_time(self.pool(self.norm(x)), steps))
        x = self.neuron(over_time(x, steps), self.norm)
        if self.pool is not None:
            x = over_time(self.pool(rearrange(x, "t b ... -> (t b) ...")), steps)
        return x

    def _convolve(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T*B, C_out, *S']``."""
        if x.stride(0):
            return self.conv(rearrange(x, "t b ... -> (t b) ..."))
        # x is one image expanded over time. The convolution is the same at every time step and is computed once.
        return repeat(self.conv(x[0]), "b ... -> (t b) ...", t=len(x))

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Divides the neuron's input by ``scale`` > 0, which has the same effect as multiplying its threshold by it."""
        self.norm.weight.div_(scale)
        self.norm.bias.div_(scale)


def over_time(x: Tensor, steps: int) -> Tensor:
    """``[T*B, ...] -> [T, B, ...]``."""
    return rearrange(x, "(t b) ... -> t b ...", t=steps)


class SpikingLinear(SpikingConv):
    """Linear, batch norm, neuron, over tokens: ``[T, B, C_in, N] -> spikes [T, B, C_out, N]``.

    The channels come before the tokens, so the linear layer is a convolution of kernel size 1. As for the linear layers
    in the papers' public code, initial weights are drawn from a truncated normal distribution of standard deviation
    0.02, and the initial bias is 0.
    """

    def __init__(self, in_channels: int, out_channels: int, neuron: nn.Module, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, neuron, ndim=1, kernel_size=1, bias=bias)
        trunc_normal_(self.conv.weight, std=0.02)
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)
