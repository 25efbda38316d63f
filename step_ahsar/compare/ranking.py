"""Which of several methods is best across data sets: ranks, Friedman's test, interquartile means.

A cell is a method at a place. The place is made of the settings that `compare.places` names, by default all of the
data, the task and the model; the method is everything else in which cells differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from step_ahsar.config.grid import name_of

_RESAMPLES = 2000


def rank(cells: Sequence[dict[str, Any]], places: Sequence[str]) -> dict[str, Any] | None:
    """The ranking (`schema.Ranking`) of the methods that have results at every place.

    Metrics of all tasks lie between 0 and 1. Ranks compare them within a place alone; the interquartile mean does not.

    Args:
        cells: entries of `cells` of a summary.
        places: keys, or sections of keys, that say at which place a cell is.

    Returns:
        None if there are fewer than three such methods, or fewer than two places.
    """

    def is_of_place(key: str) -> bool:
        return any(key == place or key.startswith(f"{place}.") for place in places)

    trained = [cell for cell in cells if cell["n"]]
    # A file's path says no more than the data set's name.
    settings = [{k: v for k, v in cell["settings"].items() if k != "data.root"} for cell in trained]
    telling = _telling([{k: v for k, v in each.items() if is_of_place(k)} for each in settings])
    at: dict[str, dict[str, dict[str, Any]]] = {}
    for cell, own in zip(trained, settings, strict=True):
        place = name_of((key, own[key]) for key in telling if key in own)
        method = name_of(item for item in own.items() if not is_of_place(item[0]))
        at.setdefault(method, {})[place] = cell
    found = list(dict.fromkeys(place for by_place in at.values() for place in by_place))
    methods = [method for method, by_place in at.items() if len(by_place) == len(found)]
    if len(methods) < 3 or len(found) < 2:
        return None
    scores = [[_scores(at[method][place]) for place in found] for method in methods]
    means = np.array([[np.mean(values) for values in row] for row in scores])  # [methods, places]
    ranks = _ranks(means)
    return {
        "places": found,
        "methods": [
            {"name": method, "rank": float(ranks[i]), "iqm": iqm(scores[i]), "ci95": iqm_interval(scores[i])}
            for i, method in enumerate(methods)
        ],
        "p_friedman": _friedman(means),
        "critical_difference": critical_difference(len(methods), len(found)),
    }


def _telling(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The first keys that are enough to tell the different ones of the settings apart.

    >>> _telling([{"data": "a", "T": 4}, {"data": "b", "T": 2}, {"data": "b", "T": 2}])
    ['data']
    """
    telling: list[str] = []
    for key in dict.fromkeys(key for each in settings for key in each):
        with_key, without = (
            {repr([each.get(k) for k in ks]) for each in settings} for ks in ([*telling, key], telling)
        )
        if len(with_key) > len(without):
            telling.append(key)
    return telling


def critical_difference(methods: int, places: int) -> float:
    """The least difference of two mean ranks that Nemenyi's test at 5 % calls one (Demšar 2006, section 3.2.2).

    >>> round(critical_difference(4, 14), 2)  # Demšar's example has 1.25, with a rounded quantile
    1.25
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(0.95, methods, np.inf)) / 2**0.5
    return quantile * (methods * (methods + 1) / (6 * places)) ** 0.5


def iqm(scores: Sequence[Sequence[float]]) -> float:
    """The interquartile mean over places and seeds (Agarwal et al. 2021, arXiv 2108.13264): that of the middle half."""
    from scipy.stats import trim_mean

    return float(trim_mean(np.concatenate([np.asarray(values) for values in scores]), 0.25))


def iqm_interval(scores: Sequence[Sequence[float]]) -> tuple[float, float]:
    """95 % percentile interval of :func:`iqm`. Seeds are drawn with replacement within each place."""
    from scipy.stats import trim_mean

    draw = np.random.default_rng(0)
    drawn = np.concatenate([draw.choice(values, (_RESAMPLES, len(values))) for values in scores], axis=1)
    low, high = np.quantile(trim_mean(drawn, 0.25, axis=1), (0.025, 0.975))
    return float(low), float(high)


def _scores(cell: dict[str, Any]) -> list[float]:
    return [seed["metrics"][cell["metric"]] for seed in cell["seeds"] if seed["status"] == "ok"]


def _ranks(means: np.ndarray) -> np.ndarray:
    """Mean rank of each method over the places; 1 is the best."""
    from scipy.stats import rankdata

    return rankdata(-means, axis=0).mean(axis=1)


def _friedman(means: np.ndarray) -> float | None:
    """That all methods have the same mean rank. None if all are equal everywhere."""
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*means).pvalue) if (means != means[0]).any() else None
