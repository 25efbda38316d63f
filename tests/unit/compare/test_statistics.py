import itertools
import math
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from step_ahsar.compare.statistics import (
    Ratio,
    epochs_ratio,
    epochs_to_target,
    geometric_mean,
    holm,
    interval95,
    learning_area,
    mean,
    median_to_target,
    paired_test,
)


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


# -- tests of paired differences ---------------------------------------------------------------------------------------


def test_a_paired_test_by_hand():
    """Differences 1, 2 and 3: mean 2, standard deviation 1, t = 2 sqrt 3 with 2 degrees of freedom."""
    found = paired_test([1.0, 2.0, 3.0], margin=4.0)
    t = 2 * math.sqrt(3)
    p = 1 - t / math.sqrt(2 + t * t)  # Student's distribution with 2 degrees of freedom has this closed form
    assert found.p_t == pytest.approx(p)
    assert found.effect_size == pytest.approx(2 * (1 - 3 / 7))
    assert found.p_permutation == 2 / 8  # of eight sign changes only all + and all - are as far from 0
    # The mean is 2 below +4 and 6 above -4; the nearer margin counts, and its test is one-sided.
    assert found.p_equivalence == pytest.approx(p / 2)
    assert found.detectable > 2


@given(
    st.lists(st.integers(-1000, 1000).map(lambda n: n / 1000), min_size=3, max_size=8).filter(
        lambda values: stats.sem(values) > 1e-3
    )
)
def test_paired_tests_are_those_of_a_second_implementation(values):
    from statsmodels.stats.weightstats import DescrStatsW

    found, other = paired_test(values, 0.1), DescrStatsW(values)
    assert found.p_t == pytest.approx(other.ttest_mean(0)[1], rel=1e-6)
    assert found.p_equivalence == pytest.approx(other.ttost_mean(-0.1, 0.1)[0], rel=1e-6, abs=1e-12)
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    means = (signs * values).mean(axis=1)
    assert found.p_permutation == pytest.approx((abs(means) >= abs(np.mean(values)) - 1e-12).mean())


def test_means_that_are_0_but_for_rounding_are_as_far_from_it_as_any():
    assert paired_test([0.0, 0.0, 0.0, 0.0, 0.0, 0.001, 0.086, -0.087], 0.1).p_permutation == 1


def test_the_detectable_difference_is_found_four_times_out_of_five():
    """By drawing comparisons of five seeds whose true difference it is."""
    draw = np.random.default_rng(0)
    spread = [0.01, 0.02, 0.03, 0.05, 0.04]
    detectable = paired_test(spread, 0.01).detectable
    samples = draw.normal(detectable, np.std(spread, ddof=1), size=(4000, 5))
    assert (stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.02)


def test_differences_without_spread():
    """As between backends that give the same numbers."""
    same = paired_test([0.0, 0.0, 0.0], 0.01)
    assert (same.p_t, same.p_permutation, same.p_equivalence, same.detectable) == (1.0, 1.0, 0.0, 0.0)
    assert same.effect_size is None
    moved = paired_test([0.1, 0.1, 0.1], 0.01)
    assert (moved.p_t, moved.p_permutation, moved.p_equivalence) == (None, 0.25, 1.0)


def test_one_difference_says_nothing():
    assert set(vars(paired_test([0.5], 0.01)).values()) == {None}
    assert set(vars(paired_test([], 0.01)).values()) == {None}
    two = paired_test([0.1, 0.2], 0.01)
    assert two.effect_size is None  # the correction is 0 for two
    assert two.p_t == pytest.approx(stats.ttest_1samp([0.1, 0.2], 0).pvalue)


def test_many_seeds_draw_their_signs():
    values = list(np.linspace(-0.1, 0.3, 20))
    found = paired_test(values, 0.01).p_permutation
    assert found == paired_test(values, 0.01).p_permutation
    assert found == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_holms_correction_by_hand():
    """The least of three is tripled, the next doubled; none may be less than the one before it or more than 1."""
    assert holm([0.04, None, 0.01, 0.03]) == pytest.approx([0.06, None, 0.03, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert holm([None]) == [None]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_is_that_of_statsmodels(p_values):
    with mock.patch("gc.collect"):  # statsmodels collects all garbage at each call, half a second
        theirs = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(theirs.tolist())


def test_the_learning_curves_area():
    assert learning_area([0.2, 0.4, 0.9], 3) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("reached", "epochs", "median"),
    [
        ([2, 4, 6], [9, 9, 9], 4),
        ([2, 4, 6, 8], [9, 9, 9, 9], 4),
        ([2, 4, None, None], [9, 9, 9, 9], 4),
        ([2, None, None], [9, 9, 9], None),
        ([None, None], [9, 9], None),
        ([], [], None),
        # Two runs ended after epoch 3 without having arrived. Of the others, 2 of 3 have not arrived after epoch 4, and
        # 1 of 3 after epoch 5: 4/5 after epoch 1, then 4/5 * 1/2 after epoch 5.
        ([1, None, None, 5, 6], [9, 3, 3, 9, 9], 5),
    ],
)
def test_median_epochs_to_target_with_runs_that_did_not_arrive(reached, epochs, median):
    assert median_to_target(reached, epochs) == median
