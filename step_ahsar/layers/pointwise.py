"""Convolutions of kernel size 1, as matrix products."""

import torch.nn.functional as F
from torch import Tensor, nn


class _Pointwise(nn.Module):
    """A convolution of kernel size 1, stride 1 and no groups: a product with the channels of each position.

    ``[N, C_in, *S] -> [N, C_out, *S]``, both with the channels last in memory. In that order the product needs no copy
    of its input, and its backward pass is two such products.
    """

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C_in, *S] -> [N, C_out, *S]``."""
        return F.linear(x.movedim(1, -1).contiguous(), self.weight.flatten(1), self.bias).movedim(-1, 1)


class PointwiseConv1d(_Pointwise, nn.Conv1d):
    """An nn.Conv1d of kernel size 1 over [N, C, L]."""


class PointwiseConv2d(_Pointwise, nn.Conv2d):
    """An nn.Conv2d of kernel size 1 over [N, C, H, W]."""
