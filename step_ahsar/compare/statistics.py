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

import numpy as np
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


def on_line(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """The height at ``x`` of the line through points (x, y), between those beside it; None outside of them.

    Of points at the same place the highest counts.

    >>> on_line([(4.0, 0.9), (1.0, 0.3)], 2.0), on_line([(4.0, 0.9), (1.0, 0.3)], 5.0)
    (0.5, None)
    >>> on_line([(1.0, 0.3), (1.0, 0.2), (2.0, 0.5), (1.0, 0.1)], 1.0)
    0.3
    """
    highest: dict[float, float] = {}
    for place, height in points:
        highest[place] = max(height, highest.get(place, height))
    places = sorted(highest)
    if len(places) < 2 or not places[0] <= x <= places[-1]:
        return None
    return float(np.interp(x, places, [highest[place] for place in places]))


@dataclass(frozen=True)
class PairedTest:
    """What n paired differences say about their true mean. A value is None where there are too few differences.

    Args:
        effect_size: Hedges' g: the mean in standard deviations of the differences, times 1 - 3 / (4 (n - 1) - 1), which
            removes the bias of few pairs (Hedges 1981).
        p_t: Student's t-test that the mean is 0, two-sided.
        p_permutation: that the signs of the differences are random: over all 2^n signs up to n = 12, otherwise over
            10,000 draws. It cannot be less than 2^(1 - n).
        p_equivalence: two one-sided t-tests: small if the mean lies within the margin.
        detectable: the least true mean that such a t-test at 5 % would have found in 80 % of such comparisons.
    """

    effect_size: float | None
    p_t: float | None
    p_permutation: float | None
    p_equivalence: float | None
    detectable: float | None


def paired_test(values: Sequence[float], margin: float) -> PairedTest:
    """Tests of paired differences.

    Args:
        values: the differences, one for each seed.
        margin: means between -margin and +margin are no difference that matters.
    """
    from scipy import stats
    from statsmodels.stats.power import TTestPower

    n = len(values)
    if n < 2:
        return PairedTest(None, None, None, None, None)
    centre = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1))
    if deviation <= 1e-12 * abs(centre) or deviation == 0:  # equal but for rounding: there is no noise to compare with
        inside = 0.0 if abs(centre) < margin else 1.0
        return PairedTest(None, 1.0 if centre == 0 else None, _signs(values), inside, 0.0)
    correction = 1 - 3 / (4 * (n - 1) - 1) if n > 2 else 0.0
    below = stats.ttest_1samp(values, margin, alternative="less").pvalue
    above = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    return PairedTest(
        correction * centre / deviation if n > 2 else None,
        float(stats.ttest_1samp(values, 0).pvalue),
        _signs(values),
        float(max(below, above)),
        deviation * float(TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8)),
    )


def _signs(values: Sequence[float]) -> float:
    """The share of sign changes of the values that give a mean at least as far from 0."""
    from scipy import stats

    found = stats.permutation_test(
        (list(values), [0.0] * len(values)),
        lambda x, y, axis: np.mean(x - y, axis=axis).round(12),  # equal means may differ by rounding, also around 0
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**12 if len(values) <= 12 else 10_000,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction of the p-values of one table (Holm 1979). Those that are None are no tests."""
    # Not by statsmodels, which collects all of Python's garbage at each call: a third of a second for three numbers.
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for before, (p, place) in enumerate(known):
        corrected[place] = least = max(least, min(1.0, (len(known) - before) * p))
    return corrected


def learning_area(metrics: Sequence[float], epochs: int) -> float:
    """The area under the learning curve, divided by the number of epochs: the mean metric over the epochs.

    A run that ended early keeps its last model, and so its last metric.

    >>> learning_area([0.25, 0.5, 0.75], epochs=3), learning_area([0.25, 0.5], epochs=4)
    (0.5, 0.4375)
    """
    rest = max(0, epochs - len(metrics)) * [metrics[-1]]
    return math.fsum([*metrics, *rest]) / (len(metrics) + len(rest))


def median_to_target(reached: Sequence[int | None], epochs: Sequence[int]) -> float | None:
    """The median over runs of the epochs to the target; None if half of the runs may never reach it.

    A run that did not reach it within its epochs needs more than these, however many: its time is censored. The median
    is that of Kaplan and Meier's estimate (1958): the first epoch at which it says that half of the runs have arrived.

    Args:
        reached: the epoch, from 1, at which each run reached the target; None if it did not.
        epochs: how many epochs each run was trained.

    >>> median_to_target([3, 5, None], [10, 10, 10]), median_to_target([3, None, None], [10, 10, 10])
    (5.0, None)
    """
    from scipy import stats

    arrived = [epoch for epoch in reached if epoch is not None]
    if not arrived:
        return None
    missed = [number for epoch, number in zip(reached, epochs, strict=True) if epoch is None]
    waiting = stats.ecdf(stats.CensoredData(uncensored=arrived, right=missed)).sf
    half = [float(q) for q, p in zip(waiting.quantiles, waiting.probabilities, strict=True) if p <= 0.5 + 1e-12]
    return half[0] if half else None


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
