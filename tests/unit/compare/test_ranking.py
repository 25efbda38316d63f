"""Ranks of methods across places."""

import numpy as np
import pytest
from scipy import stats

from step_ahsar.compare.ranking import critical_difference, iqm, iqm_interval, rank

PLACES = ["data", "task", "model.name"]


def cell(metrics, n=None, metric="acc1", **settings):
    seeds = [{"status": "ok", "metrics": {metric: value, "other": 0.0}} for value in metrics]
    seeds.append({"status": "failed", "metrics": None})
    keyed = {key.replace("__", "."): value for key, value in settings.items()}
    return {"n": len(metrics) if n is None else n, "metric": metric, "seeds": seeds, "settings": keyed}


def grid(scores, **more):
    """Cells of {neuron: {data set: metrics}}."""
    return [
        cell(metrics, data__name=data, data__root=f"/somewhere/{data}", model__neuron=neuron, **more)
        for neuron, by_data in scores.items()
        for data, metrics in by_data.items()
    ]


SCORES = {
    "lif": {"a": [0.5, 0.7], "b": [0.2, 0.2], "c": [0.4, 0.4]},
    "plif": {"a": [0.8, 0.8], "b": [0.2, 0.2], "c": [0.3, 0.3]},
    "ahsar": {"a": [0.7, 0.9], "b": [0.5, 0.3], "c": [0.6, 0.8]},
}


def test_ranks_by_hand():
    """At a: plif and ahsar share 1.5, lif 3. At b: ahsar 1, the others share 2.5. At c: ahsar 1, lif 2, plif 3."""
    found = rank(grid(SCORES), PLACES)
    assert found["places"] == ["a", "b", "c"]
    assert {m["name"]: m["rank"] for m in found["methods"]} == {
        "lif": pytest.approx((3 + 2.5 + 2) / 3),
        "plif": pytest.approx((1.5 + 2.5 + 3) / 3),
        "ahsar": pytest.approx((1.5 + 1 + 1) / 3),
    }
    expected = stats.friedmanchisquare([0.6, 0.2, 0.4], [0.8, 0.2, 0.3], [0.8, 0.4, 0.7]).pvalue
    assert found["p_friedman"] == pytest.approx(expected)
    # Demšar's table of the quantile for three methods: 2.343.
    assert found["critical_difference"] == pytest.approx(2.343 * (3 * 4 / (6 * 3)) ** 0.5, rel=1e-3)
    lif = found["methods"][0]
    assert lif["iqm"] == pytest.approx((0.2 + 0.4 + 0.4 + 0.5) / 4)  # the middle half of 0.2 0.2 0.4 0.4 0.5 0.7
    # Of the seeds of a, 0.5 twice, both, and 0.7 twice are drawn: the last gives (0.2 + 0.4 + 0.4 + 0.7) / 4.
    assert lif["ci95"] == (pytest.approx(0.375), pytest.approx(0.425))


def test_only_methods_that_are_everywhere_are_ranked():
    without = {**SCORES, "if": {"a": [0.9], "b": [0.9]}}
    assert [m["name"] for m in rank(grid(without), PLACES)["methods"]] == ["lif", "plif", "ahsar"]
    failed = [each | {"n": 0} if each["settings"]["model.neuron"] == "plif" else each for each in grid(SCORES)]
    assert rank(failed, PLACES) is None  # two are left


def test_one_place_is_no_ranking():
    assert rank([each for each in grid(SCORES) if each["settings"]["data.name"] == "a"], PLACES) is None


def test_places_are_what_they_are_said_to_be():
    cells = [
        cell([0.1 * depth + 0.01 * time], model__args__depth=depth, model__time_steps=time)
        for depth in (2, 4) for time in (1, 2, 4)
    ]  # fmt: skip
    assert rank(cells, PLACES) is None
    found = rank(cells, ["model.args.depth"])
    assert found["places"] == ["depth2", "depth4"]
    assert [m["rank"] for m in found["methods"]] == [3, 2, 1]
    assert rank(cells, ["model.args"])["places"] == ["depth2", "depth4"]
    assert rank(cells, ["model.arg"]) is None


def test_equal_methods_have_no_friedman_test():
    same = {neuron: {"a": [0.5, 0.5], "b": [0.2, 0.2]} for neuron in ("lif", "plif", "ahsar")}
    found = rank(grid(same), PLACES)
    assert found["p_friedman"] is None
    assert [m["rank"] for m in found["methods"]] == [2, 2, 2]


@pytest.mark.parametrize(("methods", "quantile"), [(2, 1.960), (5, 2.728), (10, 3.164)])  # Demšar 2006, table 5a
def test_critical_differences_are_nemenyis(methods, quantile):
    expected = quantile * (methods * (methods + 1) / (6 * 20)) ** 0.5
    assert critical_difference(methods, 20) == pytest.approx(expected, rel=1e-3)


def test_the_interval_draws_seeds_within_places():
    """Two places far from each other: drawing across places would make the interval wide."""
    scores = [[0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.9, 0.9]]
    assert iqm_interval(scores) == (pytest.approx(0.5), pytest.approx(0.5))
    draw = np.random.default_rng(1)
    noisy = [draw.normal(0.5, 0.1, 50), draw.normal(0.5, 0.1, 50)]
    low, high = iqm_interval(noisy)
    assert low < iqm(noisy) < high
    assert 0.02 < high - low < 0.08
