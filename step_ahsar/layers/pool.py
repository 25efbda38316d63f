"""Max pooling that keeps less for the backward pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from step_ahsar import internals
from step_ahsar.neurons.kernels import run_pass
from step_ahsar.neurons.memory import ordered


class MaxPool(nn.Module):
    """Max pool of kernel 3, stride 2, padding 1: ``[B, C, *S] -> [B, C, *ceil(S / 2)]``, S of one or two dimensions.

    It gives the same numbers as nn.MaxPool1d and nn.MaxPool2d. Those keep their whole input for the backward pass,
    which needs none of its values; over images this one does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N] -> [B, C, ceil(N / 2)]`` or ``[B, C, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)]``."""
        if x.ndim == 3:
            return F.max_pool1d(x, *_SETTINGS)
        # A model that is compiled as a whole cannot have compiled passes in it.
        return F.max_pool2d(x, *_SETTINGS) if internals.is_compiling() else _MaxPool.apply(x)


_SETTINGS = (3, 2, 1)  # kernel, stride, padding


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, indices = F.max_pool2d(x, *_SETTINGS, return_indices=True)
        ctx.save_for_backward(indices)
        ctx.odd = x.shape[2] % 2, x.shape[3] % 2
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # torch's own is slow where the channels are last in memory
        (indices,) = ctx.saved_tensors
        # A graph is made for each length of the first axis, which therefore is 1: [1, B, H, W, C].
        flat = (ordered(each[None], last=True).data for each in (grad, indices))
        return run_pass(_backward_pass, ctx.odd, *flat)[0][0].movedim(-1, 1)


def _backward_pass(odd_height: int, odd_width: int, grad: Tensor, indices: Tensor) -> tuple[Tensor]:
    """The gradient of the input, from that of the output and the positions of the maxima, row by row.

    Windows overlap in every second row and column. There the gradients of two windows are added, or of four.
    """
    height, width = 2 * grad.shape[2] - odd_height, 2 * grad.shape[3] - odd_width
    rows, columns = (torch.arange(-1, 2 * n - 1, 2, device=grad.device) for n in grad.shape[2:4])
    corners = (rows[:, None] * width + columns)[..., None]  # of the windows, [H / 2, W / 2, 1]

    def of(row: int, column: int) -> Tensor:
        return torch.where(indices == corners + (row * width + column), grad, 0.0)

    def below(found: Tensor) -> Tensor:  # what the window below gives to the last row of the one above it
        return F.pad(found, (0, 0, 0, 0, 0, 1))[:, :, 1:]

    def right(found: Tensor) -> Tensor:
        return F.pad(found, (0, 0, 0, 1))[:, :, :, 1:]

    even_row = of(1, 1), of(1, 2) + right(of(1, 0))
    odd_row = of(2, 1) + below(of(0, 1)), of(2, 2) + right(of(2, 0)) + below(of(0, 2)) + below(right(of(0, 0)))
    pairs = torch.stack([torch.stack(row, 4) for row in (even_row, odd_row)], 3)  # [1, B, H / 2, 2, W / 2, 2, C]
    return (pairs.flatten(4, 5).flatten(2, 3)[:, :, :height, :width].contiguous(),)
