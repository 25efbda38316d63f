import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from step_ahsar.compare.statistics import Ratio, epochs_ratio, epochs_to_target, geometric_mean, interval95, mean


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_interval_is_students(values):
    centre = math.fsum(values) / len(values)
    error = stats.sem(values)
    low, high = interval95(values)
    if error == 0:
        assert low == pytest.approx(high) == pytest.approx(centre)
    else:
        expected = stats.t.interval(0.95, len(values) - 1, loc=centre, scale=error)
        assert (low, high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_one_value_has_no_interval_and_none_has_no_mean():
    assert interval95([0.5]) is None
    assert interval95([]) is None
    assert mean([0.5]) == 0.5
    assert mean([]) is None


@pytest.mark.parametrize(
    ("metrics", "target", "epoch"),
    [([0.1, 0.9, 0.8], 0.9, 2), ([0.95], 0.9, 1), ([0.1, 0.2], 0.9, None), ([], 0.9, None)],
)
def test_epochs_to_target_is_the_first_that_reaches_it(metrics, target, epoch):
    assert epochs_to_target(metrics, target) == epoch


@pytest.mark.parametrize(
    ("run", "control", "expected"),
    [
        (4, 8, Ratio(0.5, "exact")),
        (4, None, Ratio(4 / 11, "at_most")),  # the control needs 11 or more
        (None, 4, Ratio(11 / 4, "at_least")),
        (None, None, Ratio(None, "unknown")),
    ],
)
def test_a_target_not_reached_in_ten_epochs_bounds_the_ratio(run, control, expected):
    assert epochs_ratio(run, 10, control, 10) == expected


def test_geometric_mean_of_exact_ratios_has_an_interval():
    overall, interval = geometric_mean([Ratio(0.5, "exact"), Ratio(2.0, "exact"), Ratio(1.0, "exact")])
    assert overall == Ratio(pytest.approx(1.0), "exact")
    # on logarithms: mean 0, standard deviation ln 2, so half the interval is 4.303 ln 2 / sqrt 3
    assert math.log(interval[1]) == pytest.approx(4.303 * math.log(2) / math.sqrt(3), rel=1e-3)
    assert interval[0] == pytest.approx(1 / interval[1])


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (["exact", "at_most"], "at_most"),
        (["at_least", "at_least"], "at_least"),
        (["at_most", "at_least"], "unknown"),
        (["exact", "unknown"], "unknown"),
        ([], "unknown"),
    ],
)
def test_bounds_carry_over_where_they_agree(bounds, expected):
    overall, interval = geometric_mean([Ratio(None if b == "unknown" else 0.5, b) for b in bounds])
    assert overall.bound == expected
    assert (overall.value is None) == (expected == "unknown")
    assert interval is None


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=6))
def test_swapping_the_two_cells_inverts_the_ratio(pairs):
    there, _ = geometric_mean([epochs_ratio(a, 50, b, 50) for a, b in pairs])
    back, _ = geometric_mean([epochs_ratio(b, 50, a, 50) for a, b in pairs])
    assert there.value * back.value == pytest.approx(1)
