"""Faults of a recorded series, at five severities, to test a trained model on."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.corruptions import find
from step_ahsar.registry import Registry

Series = NDArray[np.floating]  # [C, L]
Corruption = Callable[[Series, int, np.random.Generator], Series]

CORRUPTIONS = Registry[Corruption]("corruption of series")

_GAPS = 4
_KNOTS = 8


def corrupt(series: Series, name: str, severity: int, rng: np.random.Generator) -> Series:
    """A series with a fault, of the same shape and dtype.

    Args:
        series: [C, L].
        name: one of :data:`CORRUPTIONS`.
        severity: from 1 to 5.
        rng: random generator.

    Raises:
        UserError: a corruption or a severity that does not exist.
    """
    apply = find(CORRUPTIONS, name, severity)
    return apply(series, severity, rng).astype(series.dtype)


@CORRUPTIONS.register("gaussian_noise")
def gaussian_noise(series: Series, severity: int, rng: np.random.Generator) -> Series:
    """Gaussian noise, of 0.1, 0.2, 0.4, 0.7 or 1 times the standard deviation of each channel of this series."""
    deviation = (0.1, 0.2, 0.4, 0.7, 1.0)[severity - 1] * series.std(1, keepdims=True)
    return series + deviation * rng.standard_normal(series.shape)


@CORRUPTIONS.register("gaps")
def gaps(series: Series, severity: int, rng: np.random.Generator) -> Series:
    """Four gaps of equal length, in all channels, which hold each channel's mean: a twentieth of the series to half."""
    length = series.shape[1]
    missing = (0.05, 0.1, 0.2, 0.35, 0.5)[severity - 1] * length
    found = series.copy()
    # Each quarter of the series has one gap, so that gaps do not overlap and severities are what they say.
    edges = np.linspace(0, length, _GAPS + 1)
    for start, end in pairwise(edges):
        size = missing / _GAPS
        begin = start + rng.random() * (end - start - size)
        found[:, round(begin) : round(begin + size)] = series.mean(1, keepdims=True)
    return found


@CORRUPTIONS.register("time_warp")
def time_warp(series: Series, severity: int, rng: np.random.Generator) -> Series:
    """Time runs faster and slower: speeds at eight knots are log-normal with a deviation of 0.1, 0.2, 0.4, 0.6 or 0.8.

    The first and the last sample stay where they are; values in between are interpolated linearly.
    """
    deviation, length = (0.1, 0.2, 0.4, 0.6, 0.8)[severity - 1], series.shape[1]
    if length < 2:
        return series
    speeds = np.exp(deviation * rng.standard_normal(_KNOTS))
    speed = np.interp(np.linspace(0, _KNOTS - 1, length - 1), np.arange(_KNOTS), speeds)
    at = np.concatenate([[0.0], np.cumsum(speed)])
    at *= (length - 1) / at[-1]
    return np.stack([np.interp(at, np.arange(length), channel) for channel in series])
