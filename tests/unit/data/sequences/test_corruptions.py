"""Faults of recorded series."""

import numpy as np
import pytest

from step_ahsar.config import load_config
from step_ahsar.data import open_data
from step_ahsar.data.sequences.corruptions import CORRUPTIONS, corrupt
from step_ahsar.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)


def recorded(length=400):
    t = np.arange(length) / 20
    return np.stack([np.sin(t), 5 + 3 * np.cos(2.3 * t)]).astype(np.float32)


def at(name, severity, series=None, seed=0):
    return corrupt(recorded() if series is None else series, name, severity, np.random.default_rng(seed))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name):
    levels = [
        np.mean([np.abs(at(name, severity, seed=seed) - recorded()).mean() for seed in range(30)])
        for severity in SEVERITIES
    ]
    assert levels[0] > 0
    assert (np.diff(levels) > 0).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("length", [1, 2, 7, 400])
def test_shape_type_and_the_original_stay(name, length):
    before = recorded(length)
    for severity in SEVERITIES:
        after = at(name, severity, before)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert np.isfinite(after).all()
    assert (before == recorded(length)).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_only_the_generator_decides(name):
    assert (at(name, 3) == at(name, 3)).all()
    assert (at(name, 3) != at(name, 3, seed=1)).any()


def test_noise_is_relative_to_each_channel():
    noise = at("gaussian_noise", 3, np.tile(recorded(), 50)) - np.tile(recorded(), 50)
    assert noise.std(1) == pytest.approx(0.4 * recorded().std(1), rel=0.03)


@pytest.mark.parametrize(("severity", "share"), list(zip(SEVERITIES, (0.05, 0.1, 0.2, 0.35, 0.5), strict=True)))
def test_gaps_hold_the_mean_and_are_as_long_as_they_say(severity, share):
    after = at("gaps", severity)
    missing = np.isclose(after, recorded().mean(1, keepdims=True)).all(0)
    assert missing.mean() == pytest.approx(share, abs=0.012)
    assert (after[:, ~missing] == recorded()[:, ~missing]).all()
    starts = np.flatnonzero(np.diff(missing.astype(int), prepend=0) == 1)
    assert len(starts) == 4
    assert (starts // 100 == np.arange(4)).all()  # one in each quarter


def test_a_warped_series_runs_through_the_same_values_in_the_same_order():
    ramp = np.arange(100.0)[None]
    after = at("time_warp", 5, ramp)[0]
    assert (after[0], after[-1]) == (0, pytest.approx(99))
    steps = np.diff(after)
    assert (steps > 0).all()
    assert steps.max() > 1.5 * steps.min()


def test_what_does_not_exist():
    with pytest.raises(UserError, match="unknown corruption of series 'gap'; did you mean 'gaps'"):
        at("gap", 1)
    with pytest.raises(UserError, match="severity of a corruption is 1, 2, 3, 4 or 5, got 6"):
        at("gaps", 6)


def test_test_series_are_corrupted_and_others_are_not():
    few = ["data.train_limit=8", "data.test_limit=4", "data.batch_size=4"]
    clean, noisy = (
        open_data(load_config("classification/sequence/digits_sequence", [*few, *corruption]))
        for corruption in ((), ["data.corruption=gaps:5"])
    )
    validation, test = (
        [next(iter(batches()))[0] for batches in both]
        for both in zip(*((data.validation_batches, data.test_batches) for data in (clean, noisy)), strict=True)
    )
    assert (validation[0] == validation[1]).all()
    assert (test[0] != test[1]).any()
