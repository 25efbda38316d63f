"""Numbers as the reader sees them, the same in the terminal's table and in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
_BOUNDS = {"exact": "", "at_most": "≤ ", "at_least": "≥ "}


def neuron(cell: dict[str, Any]) -> str:
    """'lif', or 'ahsar' with its base where that is not lif."""
    base = cell["base"]
    return cell["neuron"] if base in (None, "lif") else f"{cell['neuron']}({base})"


def signed(value: float) -> str:
    """A fraction as signed percentage points, with a true minus and no negative zero: '+3.1', '−0.4', '0.0'."""
    points = round(100 * value, 1)
    return "0.0" if points == 0 else f"{points:+.1f}".replace("-", "−")


def accuracy(cell: dict[str, Any]) -> str:
    """Mean test accuracy in percent, with half the width of its 95 % interval: '95.5 ± 1.2'."""
    return with_interval(cell["mean"]["acc1"], cell["ci95"]["acc1"], scale=100)


def with_interval(mean: float | None, interval: Sequence[float] | None, scale: float = 1.0, digits: int = 1) -> str:
    """'mean ± half width of the interval', or the mean alone."""
    if mean is None:
        return NONE
    text = f"{scale * mean:.{digits}f}"
    return text if interval is None else f"{text} ± {scale * (interval[1] - interval[0]) / 2:.{digits}f}"


def epochs_to_target(cell: dict[str, Any], target: float | None) -> str:
    """The mean over seeds where all got there; else '> epochs', with the number of seeds that did not."""
    n, reached = cell["n"], cell["n_reached"]
    if not n or target is None:
        return NONE
    if reached == n:
        return f"{cell['mean']['epochs_to_target']:.1f}"
    missed = f"> {cell['epochs']}"
    return missed if reached == 0 else f"{missed} ({n - reached} of {n})"


def by_group(values: Mapping[str, float] | None, groups: Sequence[str], between: str = " / ") -> str:
    """'0.13 / 0.06 / 0.07' in the order of `groups`."""
    if not values:
        return NONE
    return between.join(_small(values[group]) if group in values else NONE for group in groups)


def _small(value: float) -> str:
    """Two decimals, or three where two would say 0.00 of something that is not nothing."""
    if value >= 0.01 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def seeds(cell: dict[str, Any]) -> str:
    """How many runs ended well, how many failed, how many have not ended."""
    others = [status for seed in cell["seeds"] if (status := seed["status"]) != "ok"]
    counts = [f"{others.count(status)} {status}" for status in ("failed", "unfinished") if status in others]
    return ", ".join([str(cell["n"]), *counts])


def ratio(epochs_ratio: dict[str, Any]) -> str:
    """'0.52 [0.41, 0.66]', or a bound: '≤ 0.40'."""
    if epochs_ratio["mean"] is None:
        return NONE
    text = f"{_BOUNDS[epochs_ratio['bound']]}{epochs_ratio['mean']:.2f}"
    interval = epochs_ratio["ci95"]
    return text + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def ratios(epochs_ratio: dict[str, Any]) -> str:
    """The ratio of every seed."""
    pairs = zip(epochs_ratio["values"], epochs_ratio["bounds"], strict=True)
    return ", ".join(NONE if value is None else f"{_BOUNDS[bound]}{value:.2f}" for value, bound in pairs) or NONE


def difference(acc1_difference: dict[str, Any]) -> str:
    """'+3.1 [−0.4, +6.6]' in percentage points."""
    if acc1_difference["mean"] is None:
        return NONE
    interval = acc1_difference["ci95"]
    text = signed(acc1_difference["mean"])
    return text + (f" [{signed(interval[0])}, {signed(interval[1])}]" if interval else "")


def differences(acc1_difference: dict[str, Any]) -> str:
    """The difference of every seed, in percentage points."""
    return ", ".join(map(signed, acc1_difference["values"])) or NONE


def failures(cells: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """(cell, seed, error) of every run that failed."""
    return [
        (cell["id"], seed["seed"], seed["error"])
        for cell in cells
        for seed in cell["seeds"]
        if seed["status"] == "failed"
    ]
