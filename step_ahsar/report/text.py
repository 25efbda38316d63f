"""Numbers as the reader sees them, the same in the terminal's table and in the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
SHOWN = 3  # of a list of files
_BOUNDS = {"exact": "", "at_most": "≤ ", "at_least": "≥ "}
_METRICS = {"acc1": "accuracy", "miou": "mIoU", "iou": "IoU", "map": "mAP", "mask_map": "mask mAP", "ap": "AP"}
_DEFINITIONS = {
    "miou": "mIoU is the mean over classes of intersection over union, each pooled over all pixels of the test set",
    "map": "mAP is COCO’s average precision, averaged over classes and over IoU thresholds from 0.5 to 0.95",
}


def metric(name: str) -> str:
    """A metric's name for readers.

    >>> metric("acc1"), metric("map_50"), metric("iou_traffic_light"), metric("pixel_accuracy")
    ('accuracy', 'mAP 50', 'IoU traffic light', 'pixel accuracy')
    """
    if name in _METRICS:
        return _METRICS[name]
    first, *others = name.split("_")
    return " ".join([_METRICS.get(first, first), *others])


def title(name: str) -> str:
    """A metric's name as the first words of a heading: 'Accuracy', 'mIoU'."""
    shown = metric(name)
    return shown.capitalize() if shown.islower() else shown


def common_metric(cells: Sequence[dict[str, Any]]) -> str | None:
    """The name, for readers, of the metric that all cells are judged by; None where they differ or nothing is known."""
    names = {cell["metric"] for cell in cells} - {None}
    return metric(names.pop()) if len(names) == 1 else None


def definitions(cells: Sequence[dict[str, Any]]) -> list[str]:
    """What the cells' metrics are, where that needs to be said."""
    names = dict.fromkeys(cell["metric"] for cell in cells)
    return [_DEFINITIONS[name] for name in names if name in _DEFINITIONS]


def place(cell: dict[str, Any]) -> str:
    """The data set, and the task where it is another than classification: 'camvid (segmentation)'."""
    return cell["dataset"] if cell["task"] == "classification" else f"{cell['dataset']} ({cell['task']})"


def neuron(cell: dict[str, Any]) -> str:
    """'lif', or 'ahsar' with its base where that is not lif."""
    base = cell["base"]
    return cell["neuron"] if base in (None, "lif") else f"{cell['neuron']}({base})"


def signed(value: float) -> str:
    """A fraction as signed percentage points, with a true minus and no negative zero: '+3.1', '−0.4', '0.0'."""
    points = round(100 * value, 1)
    return "0.0" if points == 0 else f"{points:+.1f}".replace("-", "−")


def score(cell: dict[str, Any], name: str | None = None) -> str:
    """Mean over seeds of a metric on the test set in percent, with half the width of its 95 % interval: '95.5 ± 1.2'.

    Args:
        cell: an entry of `cells`.
        name: the metric; None for the one that the cell is judged by.
    """
    means, intervals = (cell[key]["metrics"] or {} for key in ("mean", "ci95"))
    name = name or cell["metric"]
    return with_interval(means.get(name), intervals.get(name), scale=100)


def named_score(cell: dict[str, Any], common: str | None) -> str:
    """The judged metric, with its name where it is not the one that all cells have in common."""
    shown = score(cell)
    return shown if common or shown == NONE else f"{shown} {metric(cell['metric'])}"


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


def difference(metric_difference: dict[str, Any]) -> str:
    """'+3.1 [−0.4, +6.6]' in percentage points."""
    if metric_difference["mean"] is None:
        return NONE
    interval = metric_difference["ci95"]
    text = signed(metric_difference["mean"])
    return text + (f" [{signed(interval[0])}, {signed(interval[1])}]" if interval else "")


def differences(metric_difference: dict[str, Any]) -> str:
    """The difference of every seed, in percentage points."""
    return ", ".join(map(signed, metric_difference["values"])) or NONE


def skipped(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each data set some of whose files were left out: how many, and the first of them with their faults."""
    lines = []
    for data in datasets:
        if faults := data.get("skipped"):
            files = "1 file" if len(faults) == 1 else f"{len(faults)} files"
            more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
            lines.append(f"{files} of {data['name']} left out: {'; '.join(faults[:SHOWN])}{more}")
    return list(dict.fromkeys(lines))


def failures(cells: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """(cell, seed, error) of every run that failed."""
    return [
        (cell["id"], seed["seed"], seed["error"])
        for cell in cells
        for seed in cell["seeds"]
        if seed["status"] == "failed"
    ]
