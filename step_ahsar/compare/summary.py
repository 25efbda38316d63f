"""From runs to summary.json: averages over seeds, comparisons paired over seeds, reading and atomic writing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from step_ahsar.compare import statistics
from step_ahsar.compare.schema import Summary
from step_ahsar.errors import UserError

SUMMARY = "summary.json"

# What two cells must share for one to be the control of the other: everything but the neuron and its options.
_SHARED = ("task", "modality", "dataset", "model", "backend", "time_steps")


def summarise(manifest: dict[str, Any], cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The summary (`schema.Summary`) of `cells`, each a `schema.Cell` without n, n_reached, mean and ci95."""
    finished = [cell | _over_seeds(cell["seeds"]) for cell in cells]
    summary = {"manifest": manifest, "cells": finished, "comparisons": _comparisons(finished)}
    return Summary.model_validate(summary).model_dump(mode="json")


def write(summary: dict[str, Any], directory: Path) -> None:
    """Write DIRECTORY/summary.json atomically: a reader, or a crash, sees the old file or the new one, whole."""
    text = Summary.model_validate(summary).model_dump_json()
    temporary = directory / f"{SUMMARY}.partial"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / SUMMARY)
    except OSError as error:
        raise UserError(f"cannot write {directory / SUMMARY}: {error}") from error


def load(directory: Path) -> dict[str, Any]:
    """Read DIRECTORY/summary.json. Raises UserError where it is missing or is not in the format of `schema.Summary`."""
    path = directory / SUMMARY
    try:
        return Summary.model_validate_json(path.read_bytes()).model_dump(mode="json")
    except FileNotFoundError:
        raise UserError(f"{directory} holds no {SUMMARY}: give the folder of a comparison or of a run") from None
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path} is not a summary of this version: {where}: {first['msg']}") from None


def _over_seeds(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts, means and intervals over the seeds that ended well."""
    good = [seed for seed in seeds if seed["status"] == "ok"]
    reached = [seed["epochs_to_target"] for seed in good if seed["epochs_to_target"] is not None]
    columns: dict[str, Any] = {
        "acc1": [seed["acc1"] for seed in good],
        "train_loss": [seed["epochs"][-1]["train_loss"] for seed in good],
        # A mean over the seeds that got there alone would flatter a cell whose other seeds did not.
        "epochs_to_target": reached if len(reached) == len(good) else [],
        "step_ms": [seed["step_ms"] for seed in good],
        "peak_memory_mib": [seed["peak_memory_mib"] for seed in good],
        "firing_rate": _by_group(seed["firing_rate"] for seed in good),
        "threshold_scale": _by_group(seed["threshold_scale"] for seed in good),
        "dead_fraction": [seed["dead_fraction"] for seed in good],
    }
    return {
        "n": len(good),
        "n_reached": len(reached),
        "mean": {name: _each(statistics.mean, values) for name, values in columns.items()},
        "ci95": {name: _each(statistics.interval95, values) for name, values in columns.items()},
    }


def _by_group(rows: Iterable[dict[str, float] | None]) -> dict[str, list[float]] | None:
    """[{group: value}, ...] -> {group: [value, ...]}; None where no row has any."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for group, value in (row or {}).items():
            columns.setdefault(group, []).append(value)
    return columns or None


def _each(statistic: Any, column: Any) -> Any:
    """Apply a statistic to a column of values (nulls dropped), or to each group of a grouped column."""
    if column is None:
        return None
    if isinstance(column, dict):
        groups = {group: statistic(values) for group, values in column.items()}
        return groups if all(value is not None for value in groups.values()) else None
    return statistic([value for value in column if value is not None])


def _comparisons(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every regulated cell beside every plain cell of its base neuron that shares model and data."""
    return [
        _compare(cell, control)
        for cell in cells
        if cell["neuron"] == "ahsar"
        for control in cells
        if control["neuron"] == cell["base"] and all(control[key] == cell[key] for key in _SHARED)
    ]


def _compare(cell: dict[str, Any], control: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = ({s["seed"]: s for s in c["seeds"] if s["status"] == "ok"} for c in (cell, control))
    paired = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    differences = [a["acc1"] - b["acc1"] for a, b in paired]
    ratios = [
        statistics.epochs_ratio(a["epochs_to_target"], len(a["epochs"]), b["epochs_to_target"], len(b["epochs"]))
        for a, b in paired
    ]
    overall, interval = statistics.geometric_mean(ratios)
    return {
        "cell": cell["id"],
        "control": control["id"],
        "seeds": [a["seed"] for a, _ in paired],
        "acc1_difference": {
            "values": differences,
            "mean": statistics.mean(differences),
            "ci95": statistics.interval95(differences),
        },
        "epochs_ratio": {
            "values": [ratio.value for ratio in ratios],
            "bounds": [ratio.bound for ratio in ratios],
            "mean": overall.value,
            "bound": overall.bound,
            "ci95": interval,
        },
    }
