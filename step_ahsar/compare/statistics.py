"""Statistics over seeds: means, Student-t intervals, and comparisons paired seed by seed.

A comparison has only a few seeds, so intervals are Student's. Two cells share initial weights, data order and
augmentation draws under one seed. They are compared by their differences within a seed, which removes this common
noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit

Bound = Literal["exact", "at_most", "at_least", "unknown"]


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean; None if there is no value."""
    return math.fsum(values) / len(values) if values else None


def interval95(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % Student-t interval of the mean, (low, high); None for fewer than two values.

    >>> low, high = interval95([0.90, 0.92, 0.94])
    >>> round(low, 4), round(high, 4)
    (0.8703, 0.9697)
    """
    n = len(values)
    if n < 2:
        return None
    centre = math.fsum(values) / n
    variance = math.fsum((v - centre) ** 2 for v in values) / (n - 1)
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    return centre - half, centre + half


def epochs_to_target(metrics: Sequence[float], target: float) -> int | None:
    """The first epoch (1-based) whose metric is at least `target`; None when none is.

    >>> epochs_to_target([0.4, 0.91, 0.89], 0.9)
    2
    """
    return next((epoch for epoch, metric in enumerate(metrics, start=1) if metric >= target), None)


@dataclass(frozen=True)
class Ratio:
    """Epochs to the target of one run divided by those of another, and whether this is a value or a bound.

    A run that did not reach the target in its E epochs needs at least E + 1, so the ratio is only a bound. `at_most`:
    the true ratio is this or less; `at_least`: this or more; `unknown`: neither run reached the target.
    """

    value: float | None
    bound: Bound


def epochs_ratio(run: int | None, run_epochs: int, control: int | None, control_epochs: int) -> Ratio:
    """Epochs-to-target of `run` over those of `control` (both 1-based, None = not reached in the epochs trained).

    >>> epochs_ratio(4, 10, 8, 10)
    Ratio(value=0.5, bound='exact')
    >>> epochs_ratio(4, 9, None, 9)  # the control needs at least 10
    Ratio(value=0.4, bound='at_most')
    """
    if run is None and control is None:
        return Ratio(None, "unknown")
    if control is None:
        assert run is not None
        return Ratio(run / (control_epochs + 1), "at_most")
    if run is None:
        return Ratio((run_epochs + 1) / control, "at_least")
    return Ratio(run / control, "exact")


def geometric_mean(ratios: Sequence[Ratio]) -> tuple[Ratio, tuple[float, float] | None]:
    """Geometric mean of paired ratios, with its 95 % interval (Student-t on the logarithms).

    If some ratios are bounds of the same kind, the mean is such a bound. With bounds of both kinds, or an unknown
    ratio, the mean is unknown. There is an interval only if every ratio is exact.
    """
    logs = [math.log(ratio.value) for ratio in ratios if ratio.value is not None]
    bounds = {ratio.bound for ratio in ratios} - {"exact"}
    if not ratios or "unknown" in bounds or len(bounds) > 1:
        return Ratio(None, "unknown"), None
    centre = math.exp(math.fsum(logs) / len(logs))
    if bounds:
        return Ratio(centre, bounds.pop()), None
    interval = interval95(logs)
    return Ratio(centre, "exact"), interval and (math.exp(interval[0]), math.exp(interval[1]))
