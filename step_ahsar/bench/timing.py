"""Timing contenders in turn, so that a machine whose speed wanders slows all of them alike."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, NamedTuple

import torch
from scipy.stats import quantile_test

from step_ahsar.progress import followed

Step = Callable[[], Any]

_LEAST_SECONDS = 0.01  # shorter steps are repeated until they take as long, or the clock would be part of the result
_WARMUP = 3


class Ratio(NamedTuple):
    """A median of paired ratios with its 95 % interval, (low, high); an interval needs six rounds or more."""

    median: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Row:
    """One thing that was measured for several contenders.

    Args:
        part: of the benchmark.
        case: what was measured.
        unit: of the values; less is better.
        values: by contender, one value for each round. The first contender is the one that the others stand beside.
        skipped: contenders that could not be measured, and why.
        at: the place on the axis of a plot, such as T; None if the row is in none.
    """

    part: str
    case: str
    unit: str
    values: Mapping[str, list[float]]
    skipped: Mapping[str, str] = field(default_factory=dict)
    at: float | None = None

    def medians(self) -> dict[str, float]:
        """The median of each contender's values."""
        return {name: median(values) for name, values in self.values.items()}

    def ratios(self) -> dict[str, Ratio]:
        """The first contender's values divided by those of each other one, round by round."""
        ours, *others = self.values or [""]
        return {name: ratio(self.values[ours], self.values[name]) for name in others}

    def stored(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        ratios = {
            name: {"median": found.median, "low": found.low, "high": found.high}
            for name, found in self.ratios().items()
        }
        return {**asdict(self), "medians": self.medians(), "ratios": ratios}


def ratio(ours: list[float], theirs: list[float]) -> Ratio:
    """The median of ours / theirs by rounds. The interval is exact for a median: it is one of order statistics.

    >>> ratio([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    Ratio(median=1.0, low=None, high=None)
    """
    by_round = [a / b for a, b in zip(ours, theirs, strict=True)]
    if len(by_round) < 6:  # of five values not even their whole range has 95 %
        return Ratio(median(by_round), None, None)
    bounds = quantile_test(by_round, q=1, p=0.5).confidence_interval(0.95)
    return Ratio(median(by_round), float(bounds.low), float(bounds.high))


class Times(NamedTuple):
    """Milliseconds of a step by contender, one value for each round."""

    wall: dict[str, list[float]]
    cpu: dict[str, list[float]]  # of all threads of the process


def interleaved(what: str, steps: Mapping[str, Step], rounds: int, device: torch.device) -> Times:
    """Times each step once a round. Every round begins with another contender.

    Args:
        what: for whoever is told about the progress.
        steps: by contender.
        rounds: how many.
        device: what they run on; with an accelerator, a step has ended when the device has.
    """
    names = list(steps)
    repeats = {name: _warm(step, device) for name, step in steps.items()}
    times = Times({name: [] for name in names}, {name: [] for name in names})
    for i in followed(what, range(rounds)):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            wall, cpu = _timed(steps[name], repeats[name], device)
            times.wall[name].append(wall)
            times.cpu[name].append(cpu)
    return times


def _warm(step: Step, device: torch.device) -> int:
    """Runs a step until it is compiled and its memory is there. Returns how often it is repeated for one value."""
    for _ in range(_WARMUP - 1):
        step()
    return max(1, math.ceil(1e3 * _LEAST_SECONDS / _timed(step, 1, device)[0]))


def _timed(step: Step, repeats: int, device: torch.device) -> tuple[float, float]:
    """Milliseconds of a step, by the clock and on the processor."""
    wait(device)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        step()
    wait(device)
    return 1e3 * (time.perf_counter() - wall) / repeats, 1e3 * (time.process_time() - cpu) / repeats


def wait(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize()
