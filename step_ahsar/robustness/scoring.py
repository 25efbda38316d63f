"""A run's robustness in a few figures, from its metrics under each condition."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from step_ahsar.robustness.conditions import ADAPTED, CLEAN, CONDITIONS

# Names of the figures, and what they are.
SCORES = {
    "corrupted": "the judged metric under corruption: mean over severities, then over corruptions",
    "relative": "the same, divided by the metric on the clean test set",
    "mce": "mean corruption error: for each corruption the errors (1 - metric) of all severities over those of the "
    "reference run with the same seed; mean over corruptions (Hendrycks and Dietterich 2019)",
    "relative_mce": "the same with what each error exceeds the clean one by",
    "ece": "expected calibration error on the clean test set, 15 bins",
    "ece_corrupted": "the same under corruption: mean over severities, then over corruptions",
    "gain_thresholds": "what the judged metric under corruption gains where thresholds are adapted to the test data",
    "gain_norm": "what it gains where norms are",
}

Conditions = Mapping[str, dict[str, Any]]


def scores(found: Conditions, metric: str, reference: Conditions | None = None) -> dict[str, float]:
    """The figures of :data:`SCORES` that the measured conditions allow.

    Args:
        found: for each condition its record, of which ``metrics`` is None if it could not be measured.
        metric: the one that runs are judged by.
        reference: the records of the run that corruption errors are relative to.
    """
    values = _values(found, metric)
    if CLEAN not in values:
        return {}
    clean, calibration = values[CLEAN], _values(found, "ece")
    result = {} if CLEAN not in calibration else {"ece": calibration[CLEAN]}
    corrupted = _by_corruption(values)
    if not corrupted:
        return result
    mean = _mean(corrupted)
    result |= {"corrupted": mean} | ({"relative": mean / clean} if clean else {})
    if calibrations := _by_corruption(calibration):
        result["ece_corrupted"] = _mean(calibrations)
    for adapt in ADAPTED:
        adapted = _by_corruption(values, f"+{adapt}")
        if _severities(adapted) == _severities(corrupted):
            result[f"gain_{adapt}"] = _mean(adapted) - mean
    if reference is not None:
        theirs = _values(reference, metric)
        result |= _corruption_errors(corrupted, clean, _by_corruption(theirs), theirs.get(CLEAN))
    return result


def _values(found: Conditions, metric: str) -> dict[str, float]:
    """The metric under each condition that was measured."""
    return {name: row["metrics"][metric] for name, row in found.items() if metric in (row["metrics"] or ())}


def _by_corruption(values: Mapping[str, float], adapted: str = "") -> dict[str, dict[str, float]]:
    """The values of each corruption, by severity; ``adapted``: the end of their names."""
    found: dict[str, dict[str, float]] = {}
    for name, value in values.items():
        base, plus, adapt = name.partition("+")
        kind, _, severity = base.partition(":")
        if plus + adapt != adapted:
            continue
        if kind != CLEAN and kind not in CONDITIONS:
            found.setdefault(kind, {})[severity] = value
    return found


def _mean(found: dict[str, dict[str, float]]) -> float:
    """Over the severities of each corruption, then over corruptions."""
    return fmean(fmean(each.values()) for each in found.values())


def _severities(found: dict[str, dict[str, float]]) -> dict[str, set[str]]:
    """Of each corruption those that were measured."""
    return {kind: set(levels) for kind, levels in found.items()}


def _corruption_errors(
    ours: dict[str, dict[str, float]], clean: float, theirs: dict[str, dict[str, float]], their_clean: float | None
) -> dict[str, float]:
    """Mean corruption errors; left out where the reference was not measured alike or made no error to divide by."""
    if their_clean is None or any(theirs.get(kind, {}).keys() != levels.keys() for kind, levels in ours.items()):
        return {}

    def errors(levels: Mapping[str, float], less: float) -> float:
        return sum(1 - value - less for value in levels.values())

    plain = {kind: (errors(levels, 0), errors(theirs[kind], 0)) for kind, levels in ours.items()}
    excess = {kind: (errors(levels, 1 - clean), errors(theirs[kind], 1 - their_clean)) for kind, levels in ours.items()}
    named = {"mce": plain, "relative_mce": excess}
    return {
        name: fmean(mine / other for mine, other in pairs.values())
        for name, pairs in named.items()
        if all(other > 0 for _, other in pairs.values())
    }
