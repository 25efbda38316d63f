import pytest

from step_ahsar.report import text


def cell(**changes):
    return {
        "n": 3,
        "n_reached": 3,
        "epochs": 8,
        "mean": {"epochs_to_target": 4.333},
        "seeds": [{"status": "ok"}] * 3,
    } | changes


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "4.3"),
        ({"n_reached": 0}, "> 8"),
        ({"n_reached": 1}, "> 8 (2 of 3)"),
        ({"n": 0, "n_reached": 0}, "–"),
    ],
)
def test_epochs_to_target_never_hide_a_seed_that_missed_it(changes, shown):
    assert text.epochs_to_target(cell(**changes), 0.9) == shown
    assert text.epochs_to_target(cell(**changes), None) == "–"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.031, "+3.1"), (-0.004, "−0.4"), (-0.0001, "0.0"), (0.0, "0.0")]
)  # a true minus, no negative zero
def test_signed_points(value, shown):
    assert text.signed(value) == shown


def test_intervals():
    assert text.with_interval(0.955, [0.943, 0.967], scale=100) == "95.5 ± 1.2"
    assert text.with_interval(0.955, None, scale=100) == "95.5"
    assert text.with_interval(None, None) == "–"


@pytest.mark.parametrize(
    ("bound", "shown"), [("exact", "0.50 [0.40, 0.62]"), ("at_most", "≤ 0.50"), ("at_least", "≥ 0.50")]
)
def test_ratios_say_what_they_bound(bound, shown):
    interval = [0.4, 0.62] if bound == "exact" else None
    assert text.ratio({"mean": 0.5, "bound": bound, "ci95": interval}) == shown


def test_unknown_ratios_are_dashes():
    assert text.ratio({"mean": None, "bound": "unknown", "ci95": None}) == "–"
    assert text.ratios({"values": [0.5, None], "bounds": ["at_most", "unknown"]}) == "≤ 0.50, –"


def test_small_rates_are_not_nothing():
    rates = {"stem": 0.134, "attention": 0.0044, "mlp": 0.00002}
    assert text.by_group(rates, ["stem", "attention", "mlp", "head"]) == "0.13 / 0.004 / <0.001 / –"
    assert text.by_group({"mlp": 0.0}, ["mlp"]) == "0.00"
    assert text.by_group(None, ["mlp"]) == "–"


def test_seeds_are_counted_by_how_they_ended():
    assert text.seeds(cell()) == "3"
    runs = [{"status": status} for status in ("failed", "ok", "unfinished", "failed")]
    assert text.seeds(cell(n=1, seeds=runs)) == "1, 2 failed, 1 unfinished"
