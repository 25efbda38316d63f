"""A run's robustness in a few figures."""

import pytest

from step_ahsar.robustness import SCORES, scores

GAINS = {"gain_thresholds", "gain_norm"}


def record(acc1, ece=None):
    return {"metrics": None if acc1 is None else {"acc1": acc1} | ({} if ece is None else {"ece": ece})}


OURS = {
    "clean": record(0.9, 0.02),
    "jpeg:1": record(0.8, 0.1),
    "jpeg:2": record(0.6, 0.3),
    "contrast:1": record(0.5, 0.2),
    "contrast:2": record(0.3, 0.4),
    "threshold:0.5": record(0.1, 0.9),
}
ADAPTED = {
    "clean+thresholds": record(0.1),
    "jpeg:1+thresholds": record(0.9),
    "jpeg:2+thresholds": record(0.7),
    "contrast:1+thresholds": record(0.7),
    "contrast:2+thresholds": record(0.6),
}
THEIRS = {
    "clean": record(0.8),
    "jpeg:1": record(0.7),
    "jpeg:2": record(0.5),
    "contrast:1": record(0.6),
    "contrast:2": record(0.2),
}


def test_by_hand():
    found = scores(OURS, "acc1", THEIRS)
    assert set(found) == set(SCORES) - GAINS
    assert found["corrupted"] == pytest.approx((0.7 + 0.4) / 2)
    assert found["relative"] == pytest.approx(0.55 / 0.9)
    assert found["ece"] == 0.02
    assert found["ece_corrupted"] == pytest.approx((0.2 + 0.3) / 2)
    assert found["mce"] == pytest.approx((0.6 / 0.8 + 1.2 / 1.2) / 2)
    # What errors exceed the clean ones by: 0.1 each, ours, and 0.2 each, theirs.
    assert found["relative_mce"] == pytest.approx(((0.6 - 0.2) / (0.8 - 0.4) + (1.2 - 0.2) / (1.2 - 0.4)) / 2)


def test_a_run_beside_itself_has_an_error_of_one():
    found = scores(OURS, "acc1", OURS)
    assert (found["mce"], found["relative_mce"]) == (1, 1)


def test_only_what_was_measured():
    assert scores({}, "acc1") == {}
    assert scores({"clean": record(0.9)}, "acc1") == {}
    assert scores({"clean": record(0.9, 0.1), "threshold:2": record(0.5, 0.1)}, "acc1") == {"ece": 0.1}
    assert set(scores(THEIRS, "acc1")) == {"corrupted", "relative"}
    assert set(scores(OURS, "acc1", THEIRS | {"jpeg:3": record(0.1)})) == set(SCORES) - GAINS - {"mce", "relative_mce"}
    assert set(scores(OURS, "acc1", {"clean": record(0.8)})) == set(SCORES) - GAINS - {"mce", "relative_mce"}
    assert scores({"clean": record(0.9), "jpeg:1": record(None)}, "acc1") == {}


def test_errors_that_cannot_be_divided_by():
    perfect = {name: record(1.0) for name in THEIRS}
    assert "mce" not in scores(OURS, "acc1", perfect)
    assert "relative" not in scores({"clean": record(0.0), "jpeg:1": record(0.0)}, "acc1")


def test_what_adaptation_gains():
    plain = scores(OURS, "acc1", THEIRS)
    found = scores({**OURS, **ADAPTED}, "acc1", THEIRS)
    assert found.pop("gain_thresholds") == pytest.approx((0.8 + 0.65) / 2 - (0.7 + 0.4) / 2)
    assert found == plain  # what was adapted is in no other score
    less = {name: row for name, row in ADAPTED.items() if not name.startswith("jpeg:2")}
    assert scores({**OURS, **less}, "acc1", THEIRS) == plain  # of the same corruptions and severities alone
    norm = {name.replace("thresholds", "norm"): row for name, row in ADAPTED.items()}
    assert scores({**OURS, **norm}, "acc1")["gain_norm"] == pytest.approx(0.725 - 0.55)
