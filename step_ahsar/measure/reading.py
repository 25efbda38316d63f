"""Reading tensors as spikes or real numbers, and the geometry of convolutions: what counting is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """How often the values of a tensor count.

    Args:
        amounts: the number of spikes along some axes, or of values that are not 0 if ``analog``.
        total: the sum of the amounts.
        nonzero: the number of values that are not 0.
        analog: whether they are real numbers, not whole numbers of spikes.
    """

    amounts: Tensor
    total: float
    nonzero: int
    analog: bool


def reading_of(
    x: Tensor, spike_values: Sequence[float], axes: int | tuple[int, ...] | None, known: bool = False
) -> Reading:
    """The reading of ``x``.

    Args:
        x: any tensor.
        spike_values: the values that a spike may have.
        axes: those that are summed over in the amounts; None = all.
        known: whether ``x`` is known to be made of spikes of the first value.
    """
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    if not x.numel():
        return Reading(x.sum(axes, dtype=exact), 0.0, 0, False)
    lowest, highest = (bound.item() for bound in x.aminmax())
    value = spike_values[0] if known else _spike_value(x, spike_values)
    if value is None:
        amounts = (x != 0).sum(axes).to(exact)
        return Reading(amounts, total := amounts.sum().item(), int(total), True)
    size = x if lowest >= 0 else x.abs()
    first = tuple(range(x.ndim - 1)) if axes is None else axes
    sums = size.sum(first)
    # Sums of whole numbers are exact in fp32 up to 2^24, and faster than in fp64.
    if not (x.dtype == torch.float32 and value == 1 and max(highest, -lowest) * x.numel() < 2**24 * sums.numel()):
        sums = size.sum(first, dtype=exact)
    amounts = sums.to(exact) if value == 1 else (sums.to(exact) / value).round()
    total = amounts.sum().item()
    nonzero = int(total) if lowest >= 0 and highest <= value else int(x.count_nonzero())
    return Reading(amounts, total, nonzero, False)


def _spike_value(x: Tensor, spike_values: Sequence[float]) -> float | None:
    """The value of one spike, if ``x`` is made of whole numbers of spikes; None if it is made of real numbers."""
    for value in spike_values:
        if value == 1:
            if not x.frac().any():
                return value
        elif not ((x / value).frac().sub_(0.5).abs_() < 0.499).any():  # 1/3 and sums of it are not exact
            return value
    return None


def per_axis(setting: Sequence[int], number: int) -> list[int]:
    """A convolution's setting for each of so many axes."""
    return list(setting) * number if len(setting) == 1 else list(setting)


@lru_cache(maxsize=1024)
def fan_of(size: int, out: int, kernel: int, stride: int, padding: int, dilation: int, transposed: bool) -> Tensor:
    """For each position of an input along one axis the number of positions of the output that it reaches, [size]."""
    fan = torch.zeros(size, dtype=torch.float64)
    for k in range(kernel):
        for i in range(out if not transposed else size):
            there = i * stride - padding + k * dilation
            if transposed and 0 <= there < out:
                fan[i] += 1
            elif not transposed and 0 <= there < size:
                fan[there] += 1
    return fan


def outer(fans: Sequence[Tensor]) -> Tensor:
    """The product of [n], [m], ... to [n, m, ...]."""
    fan = fans[0]
    for each in fans[1:]:
        fan = fan[..., None] * each
    return fan
