"""From runs to summary.json: averages over seeds, comparisons paired over seeds, reading and atomic writing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from step_ahsar.compare import statistics
from step_ahsar.compare.pairs import Pair, pairs_of, unpaired
from step_ahsar.compare.ranking import rank
from step_ahsar.compare.schema import Summary
from step_ahsar.errors import UserError
from step_ahsar.files import sealed, unsealed, write_file
from step_ahsar.robustness import scores

SUMMARY = "summary.json"

DIGITS = 6  # significant digits of every number
_Point = tuple[float, float]
ROBUSTNESS = ("corrupted", "relative")  # the scores of robustness that pairs are compared by


def summarise(manifest: dict[str, Any], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary (`schema.Summary`) of `cells`, each a `schema.Cell` without n, n_reached, mean and ci95.

    Numbers outside the manifest, except settings, have DIGITS significant digits. The numbers of runs are rounded
    before they are averaged, so that the file's means are the means of the file's numbers.
    """
    finished = [_rounded(cell | _over_seeds(cell)) for cell in _scored(_rounded(cells), manifest.get("reference"))]
    for cell, given in zip(finished, cells, strict=True):
        cell["settings"] = given["settings"]  # as they are: a rounded setting could be that of another cell
    pairs = pairs_of(finished, manifest["pairs"])
    summary = {
        "manifest": manifest,
        "cells": finished,
        "comparisons": _comparisons(pairs, manifest["margin"]),
        "unpaired": unpaired(finished, pairs) if len(finished) > 1 else [],
        "ranking": _rounded(rank(finished, manifest["places"])),
    }
    return _dumped(summary)


def write(summary: dict[str, Any], directory: Path) -> None:
    """Writes DIRECTORY/summary.json atomically. Raises UserError if it cannot be written."""
    text = Summary.model_validate(summary).model_dump_json(exclude={"checksum"})
    try:
        write_file(directory / SUMMARY, sealed(text))
    except OSError as error:
        raise UserError(f"cannot write {directory / SUMMARY}: {error}") from error


def load(directory: Path) -> dict[str, Any]:
    """Reads DIRECTORY/summary.json. Raises UserError if it is missing or not in the format of `schema.Summary`."""
    path = directory / SUMMARY
    try:
        return _dumped(unsealed(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{directory} holds no {SUMMARY}: give the folder of a comparison or of a run") from None
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} is not a summary of this version: {where}: {first['msg']}") from None
    except ValueError as fault:
        raise UserError(f"{path} is damaged: {fault}") from None


def _dumped(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary of plain values, checked."""
    return Summary.model_validate(summary).model_dump(mode="json", exclude={"checksum"})


def _rounded(value: Any) -> Any:
    """`value` with its floats, however deep inside, rounded to DIGITS significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _scored(cells: list[dict[str, Any]], reference: str | None) -> list[dict[str, Any]]:
    """The cells with the scores of robustness of each seed, relative to the same seed of the reference cell."""
    runs = [seed for cell in cells if cell["id"] == reference for seed in cell["seeds"]]
    theirs = {seed["seed"]: seed.get("conditions") for seed in runs}

    def scored(cell: dict[str, Any], seed: dict[str, Any]) -> dict[str, Any]:
        found = scores(seed.get("conditions") or {}, cell["metric"], theirs.get(seed["seed"]))
        return seed | {"robustness": _rounded(found) or None}

    return [cell | {"seeds": [scored(cell, seed) for seed in cell["seeds"]]} for cell in cells]


def _over_seeds(cell: dict[str, Any]) -> dict[str, Any]:
    """Counts, means and intervals over the seeds that ended well."""
    good = [seed for seed in cell["seeds"] if seed["status"] == "ok"]
    reached = [seed["epochs_to_target"] for seed in good if seed["epochs_to_target"] is not None]
    columns: dict[str, Any] = {
        "metrics": _by_name(seed["metrics"] for seed in good),
        "best_metrics": _by_name(seed["best"]["metrics"] for seed in good),
        "train_loss": [seed["epochs"][-1]["train_loss"] for seed in good],
        # No mean unless every seed reached the target: a mean over those that did would be too good.
        "epochs_to_target": reached if len(reached) == len(good) else [],
        "step_ms": [seed["step_ms"] for seed in good],
        "peak_memory_mib": [seed["peak_memory_mib"] for seed in good],
        "firing_rate": _by_name(seed["firing_rate"] for seed in good),
        "threshold_scale": _by_name(seed["threshold_scale"] for seed in good),
        "dead_fraction": [seed["dead_fraction"] for seed in good],
        "operations": _by_name(seed.get("operations") for seed in good),
        "energy": _by_name(seed.get("energy") for seed in good),
        "conditions": _by_name(_judged(seed.get("conditions"), cell["metric"]) for seed in good),
        "robustness": _of_all(seed["robustness"] for seed in good),
        "energy_without_spikes": _by_name(seed.get("energy_without_spikes") for seed in good),
        "early_exit": _by_name(_at_exit(seed.get("early_exit")) for seed in good),
    }
    return {
        "n": len(good),
        "n_reached": len(reached),
        "median_epochs_to_target": statistics.median_to_target(
            [seed["epochs_to_target"] for seed in good], [len(seed["epochs"]) for seed in good]
        ),
        "mean": {name: _each(statistics.mean, values) for name, values in columns.items()},
        "ci95": {name: _each(statistics.interval95, values) for name, values in columns.items()},
    }


def _at_exit(found: dict[str, Any] | None) -> dict[str, float]:
    """Accuracy, time steps and operations at the chosen threshold, and of all steps."""
    if found is None:
        return {}
    chosen = next(point for point in found["points"] if point["threshold"] == found["chosen"])
    every = found["points"][-1]
    figures = {"acc1": chosen["acc1"], "time_steps": chosen["time_steps"], "acc1_all": every["acc1"]}
    if every["operations"]:
        figures["operations_share"] = chosen["operations"] / every["operations"]
    return figures


def _judged(conditions: dict[str, Any] | None, metric: str) -> dict[str, float]:
    """The judged metric under each condition that was measured."""
    return {name: row["metrics"][metric] for name, row in (conditions or {}).items() if row["metrics"]}


def _by_name(rows: Iterable[dict[str, float] | None]) -> dict[str, list[float]] | None:
    """From [{name: value}, ...] to {name: [value, ...]}; None if there is no value."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in (row or {}).items():
            columns.setdefault(name, []).append(value)
    return columns or None


def _of_all(rows: Iterable[dict[str, float] | None]) -> dict[str, list[float]] | None:
    """:func:`_by_name` of what every row has: a mean over some of the seeds would hide which."""
    known = list(rows)
    columns = _by_name(known) or {}
    return {name: values for name, values in columns.items() if len(values) == len(known)} or None


def _each(statistic: Any, column: Any) -> Any:
    """Applies a statistic to a column of values, without its nulls, or to each of several columns by name."""
    if column is None:
        return None
    if isinstance(column, dict):
        known = {name: statistic(values) for name, values in column.items()}
        return {name: value for name, value in known.items() if value is not None} or None
    return statistic([value for value in column if value is not None])


def _comparisons(pairs: list[Pair], margin: float) -> list[dict[str, Any]]:
    found = [_compare(pair, margin) for pair in pairs]
    for factor in dict.fromkeys(pair.factor for pair in pairs):
        of_factor = [each for each in found if each["factor"] == factor]
        _correct([each["test"] for each in of_factor])
        for line in LINES:
            _correct([each[line]["test"] for each in of_factor if each[line]])
        for score in ROBUSTNESS:
            tested = [each["robustness"] for each in of_factor if score in (each["robustness"] or ())]
            _correct([each[score]["test"] for each in tested])
    return [_rounded(each) | {"differs": pair.differs} for each, pair in zip(found, pairs, strict=True)]


def _compare(pair: Pair, margin: float) -> dict[str, Any]:
    ours, theirs = ({s["seed"]: s for s in c["seeds"] if s["status"] == "ok"} for c in (pair.cell, pair.control))
    paired = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    metric = pair.cell["metric"]
    differences = [a["metrics"][metric] - b["metrics"][metric] for a, b in paired]
    areas = [_area(a, metric, pair.cell["epochs"]) - _area(b, metric, pair.control["epochs"]) for a, b in paired]
    ratios = [
        statistics.epochs_ratio(a["epochs_to_target"], len(a["epochs"]), b["epochs_to_target"], len(b["epochs"]))
        for a, b in paired
    ]
    overall, interval = statistics.geometric_mean(ratios)
    return {
        "cell": pair.cell["id"],
        "control": pair.control["id"],
        "factor": pair.factor,
        "chosen_from": [each["id"] for each in pair.chosen_from],
        "chosen_on": pair.control["chosen_on"] if pair.chosen_from else None,
        "seeds": [a["seed"] for a, _ in paired],
        "metric_difference": _difference(differences),
        "test": _test(differences, margin),
        "wins": {
            "win": sum(d > 0 for d in differences),
            "tie": sum(d == 0 for d in differences),
            "loss": sum(d < 0 for d in differences),
        },
        "area_difference": _difference(areas),
        "robustness": _robustness(paired, margin),
        **{name: _beside_the_line(pair, [a for a, _ in paired], point, margin) for name, point in LINES.items()},
        "epochs_ratio": {
            "values": [ratio.value for ratio in ratios],
            "bounds": [ratio.bound for ratio in ratios],
            "mean": overall.value,
            "bound": overall.bound,
            "ci95": interval,
        },
    }


def _robustness(paired: list[tuple[dict[str, Any], dict[str, Any]]], margin: float) -> dict[str, Any] | None:
    """Differences of the scores of robustness that both cells have, with their tests; None if they have none."""
    found = {}
    for score in ROBUSTNESS:
        both = [(a["robustness"] or {}, b["robustness"] or {}) for a, b in paired]
        values = [a[score] - b[score] for a, b in both if score in a and score in b]
        if values:
            found[score] = {"difference": _difference(values), "test": _test(values, margin)}
    return found or None


def _beside_the_line(
    pair: Pair, seeds: list[dict[str, Any]], point: Callable[[dict[str, Any], str], _Point | None], margin: float
) -> dict[str, Any] | None:
    """The height of a cell above the line through its fixed thresholds, seed by seed; None without these.

    Args:
        pair: the cell, which is regulated or penalised, and the thresholds.
        seeds: the cell's runs.
        point: from a run and the judged metric to its place along the line and its height; None if it was not measured.
        margin: differences that do not matter.
    """
    metric, values, outside = pair.cell["metric"], [], 0
    theirs = [seed for cell in pair.chosen_from for seed in cell["seeds"] if seed["status"] == "ok"]
    for seed in seeds:
        ours = point(seed, metric)
        line = [at for each in theirs if each["seed"] == seed["seed"] and (at := point(each, metric)) is not None]
        if ours is None or not line:
            return None
        height = statistics.on_line(line, ours[0])
        if height is None:
            outside += 1
        else:
            values.append(ours[1] - height)
    if not seeds:
        return None
    return {"difference": _difference(values), "test": _test(values, margin), "outside": outside}


def _operations_and_metric(seed: dict[str, Any], metric: str) -> _Point | None:
    counted = seed.get("operations")
    return (counted["synaptic_operations"], seed["metrics"][metric]) if counted else None


def _rate_and_metric(seed: dict[str, Any], metric: str) -> _Point | None:
    counted = seed.get("operations") or {}
    known = "spikes" in counted and counted["updates"] > 0  # earlier versions did not keep the spikes
    return (counted["spikes"] / counted["updates"], seed["metrics"][metric]) if known else None


def _metric_and_corrupted(seed: dict[str, Any], metric: str) -> _Point | None:
    corrupted = (seed.get("robustness") or {}).get("corrupted")
    return None if corrupted is None else (seed["metrics"][metric], corrupted)


# What stands beside the line of fixed thresholds, and how a run is placed along it.
LINES: dict[str, Callable[[dict[str, Any], str], _Point | None]] = {
    "equal_rate": _rate_and_metric,
    "equal_operations": _operations_and_metric,
    "equal_accuracy": _metric_and_corrupted,
}


def _test(values: list[float], margin: float) -> dict[str, Any]:
    """Tests of differences; their `p_holm` is written by :func:`_correct`, which sees all tests of a factor."""
    return asdict(statistics.paired_test(values, margin)) | {"p_holm": None}


def _correct(tests: list[dict[str, Any]]) -> None:
    """Writes the p values that Holm's correction over these tests gives."""
    for test, p_holm in zip(tests, statistics.holm([test["p_t"] for test in tests]), strict=True):
        test["p_holm"] = p_holm


def _difference(values: list[float]) -> dict[str, Any]:
    return {"values": values, "mean": statistics.mean(values), "ci95": statistics.interval95(values)}


def _area(seed: dict[str, Any], metric: str, epochs: int) -> float:
    return statistics.learning_area([epoch["metrics"][metric] for epoch in seed["epochs"]], epochs)
