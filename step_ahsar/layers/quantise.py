"""Weights of few bits, learnt by learned step size quantisation (LSQ; Esser et al., ICLR 2020, arXiv 1902.08153)."""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from step_ahsar.errors import UserError


class LearnedStepSize(nn.Module):
    """Rounds weights to multiples of a learnt step for each output channel.

    :math:`w_q = a \\cdot \\mathrm{round}(\\mathrm{clip}(w / a, -2^{b-1}, 2^{b-1} - 1))`. The gradient passes straight
    through the rounding. The step's own gradient is divided by the square root of the number of weights times the
    largest level (LSQ, eq. 3 and section 2.2).

    Args:
        weight: the initial weight [C_out, ...]; the steps start from 2 mean |w| / sqrt(2^(b-1) - 1) of each channel.
        bits: b, from 2 to 8.
    """

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.low, self.high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        self.step = nn.Parameter(self.first_step(weight))  # without weight decay, as it has one dimension
        self.factor = 1 / sqrt(weight.numel() * self.high)

    def first_step(self, weight: Tensor) -> Tensor:
        """The steps from which training starts, [C_out], of weights [C_out, ...]."""
        return 2 * weight.detach().abs().flatten(1).mean(1).clamp(min=1e-8) / sqrt(self.high)

    def forward(self, weight: Tensor) -> Tensor:
        """``[C_out, ...]`` to the quantised weight of the same shape."""
        step = self.step * self.factor + (self.step * (1 - self.factor)).detach()
        step = step.view(-1, *[1] * (weight.ndim - 1))
        levels = (weight / step).clamp(self.low, self.high)
        return step * (levels + (levels.round() - levels).detach())


def quantise(layer: nn.Module, bits: int) -> None:
    """Lets ``layer`` compute with quantised weights. Its trained weight is then ``parametrizations.weight.original``.

    With 32 bits nothing changes.

    Raises:
        UserError: bits out of range.
    """
    if bits == 32:
        return
    if not 2 <= bits <= 8:
        raise UserError(f"weight_bits must be from 2 to 8, or 32 for full precision, got {bits}")
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    parametrize.register_parametrization(layer, "weight", LearnedStepSize(weight, bits), unsafe=False)


class LayerScale(nn.Module):
    """A learnt factor for each channel, behind a branch. ``[T, B, C, *S] -> [T, B, C, *S]``.

    Args:
        channels: C.
        start: initial value.
    """

    def __init__(self, channels: int, start: float = 1e-6) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        return x * self.scale.view(-1, *[1] * (x.ndim - 3))
