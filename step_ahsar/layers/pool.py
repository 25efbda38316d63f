"""Max pooling that keeps less for the backward pass."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from step_ahsar import internals


class MaxPool(nn.Module):
    """Max pool of kernel 3, stride 2, padding 1: ``[B, C, *S] -> [B, C, *ceil(S / 2)]``, S of one or two dimensions.

    It gives the same numbers as nn.MaxPool1d and nn.MaxPool2d. Those keep their whole input for the backward pass, of
    which only the shape is used; this one keeps the shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, N] -> [B, C, ceil(N / 2)]`` or ``[B, C, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)]``."""
        return _MaxPool.apply(x) if x.ndim == 4 else F.max_pool1d(x, *_SETTINGS[:3])


_SETTINGS = (3, 2, 1, 1, False)  # kernel, stride, padding, dilation, ceil mode


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out, indices = F.max_pool2d(x, *_SETTINGS, return_indices=True)
        ctx.save_for_backward(indices)
        ctx.shape = x.shape
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (indices,) = ctx.saved_tensors
        kernel, stride, padding = _SETTINGS[:3]
        return internals.max_pool2d_gradient(grad, ctx.shape, indices, kernel, stride, padding)
