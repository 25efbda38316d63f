"""Augmentation of recordings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.config import EventsConfig
from step_ahsar.data.events import augment as module
from step_ahsar.data.events.augment import augment, cutout, event_drop, hflip, is_augmented, jitter, roll, rotate
from step_ahsar.data.events.recording import Recording, make_recording

SENSOR = (10, 14)
EVERYTHING = EventsConfig(hflip=0.5, roll=3, rotate=30.0, cutout=0.3, drop=0.8, jitter_us=500.0)


def random_recording(count=500, seed=0, sensor=SENSOR):
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(0, size, count) for size in (sensor[1], sensor[0]))
    return make_recording(x, y, np.sort(rng.integers(0, 100_000, count)), rng.integers(0, 2, count), sensor, "random")


def grid(sensor=SENSOR):
    """One event at each pixel, at 1000 us intervals."""
    y, x = (index.ravel() for index in np.indices(sensor))
    return make_recording(x, y, 1000 * np.arange(len(x)), np.arange(len(x)) % 2, sensor, "grid")


def counts(recording):
    image = np.zeros(recording.sensor, dtype=int)
    np.add.at(image, (recording.y, recording.x), 1)
    return image


def events(recording):
    return list(zip(*(a.tolist() for a in (recording.x, recording.y, recording.t, recording.p)), strict=True))


@given(st.integers(0, 2**32), st.sampled_from([0, 1, 2, 50]))
def test_what_comes_out_is_a_recording(seed, count):
    before = random_recording(count, seed)
    after = augment(before, EVERYTHING, np.random.default_rng(seed))
    make_recording(after.x, after.y, after.t, after.p, SENSOR, "augmented")  # which checks it
    assert len(after) <= len(before)
    for name in ("x", "y", "t", "p"):
        assert getattr(after, name).dtype == getattr(before, name).dtype
    assert after.sensor == SENSOR


def test_draws_are_those_of_the_generator_and_the_input_stays():
    before, copy = random_recording(), random_recording()
    one, same, other = (augment(before, EVERYTHING, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert events(one) == events(same)
    assert events(one) != events(other)
    assert events(before) == events(copy)


def test_nothing_is_done_unless_asked_for():
    recording = random_recording()
    assert not is_augmented(EventsConfig(representation="count"))
    assert augment(recording, EventsConfig(), np.random.default_rng(0)) is recording


@pytest.mark.parametrize("key", ["hflip", "roll", "rotate", "cutout", "drop", "jitter_us"])
def test_each_key_reaches_its_place(key):
    config = EventsConfig(**{key: {"roll": 3, "rotate": 20.0, "jitter_us": 300.0}.get(key, 1.0)})
    assert is_augmented(config)
    recording = random_recording()
    changed = [
        events(augment(recording, config, np.random.default_rng(seed))) != events(recording) for seed in range(8)
    ]
    assert any(changed)


def test_hflip_mirrors_columns():
    recording = random_recording()
    np.testing.assert_array_equal(counts(hflip(recording)), counts(recording)[:, ::-1])
    assert events(hflip(hflip(recording))) == events(recording)
    rng = np.random.default_rng(0)
    flipped = [augment(recording, EventsConfig(hflip=0.25), rng) is not recording for _ in range(2000)]
    assert abs(np.mean(flipped) - 0.25) < 0.04


def test_roll_wraps():
    recording = random_recording()
    np.testing.assert_array_equal(counts(roll(recording, 3, -2)), np.roll(counts(recording), (-2, 3), (0, 1)))
    rng, one = np.random.default_rng(0), make_recording([7], [5], [0], [1], SENSOR, "one")
    moved = [augment(one, EventsConfig(roll=2), rng) for _ in range(200)]
    assert {int(m.x[0]) for m in moved} == {5, 6, 7, 8, 9}
    assert {int(m.y[0]) for m in moved} == {3, 4, 5, 6, 7}


def test_rotation_by_right_angles_is_exact():
    for sensor in ((9, 9), (8, 8)):
        recording = random_recording(sensor=sensor)
        for turns in (1, 2, 3):
            expected = np.rot90(counts(recording), -turns)
            np.testing.assert_array_equal(counts(rotate(recording, 90.0 * turns)), expected)


def test_rotation_keeps_distances_and_drops_what_leaves():
    turned = rotate(grid((31, 31)), 45.0)
    assert len(turned) < 31 * 31
    assert counts(turned)[15, 15] == 1  # the centre stays
    one = make_recording([15 + 10], [15], [0], [1], (31, 31), "one")
    moved = rotate(one, 30.0)  # clockwise, with rows running downwards
    assert (moved.x[0], moved.y[0]) == (15 + 9, 15 + 5)  # 10 cos 30 = 8.66, 10 sin 30 = 5


def test_cutout_leaves_a_square_without_events():
    image = counts(cutout(grid(), 0.4, np.random.default_rng(3)))
    rows, columns = np.nonzero(image == 0)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1, len(rows)) == (4, 4, 16)  # 0.4 of the 10 rows
    assert len(cutout(grid((6, 6)), 1.0, np.random.default_rng(0))) == 0


def test_event_drop_does_each_of_its_four_equally_often_with_the_papers_ratios():
    recording = grid((20, 20))  # 400 events, evenly in time
    shares, kinds, rng = set(), np.zeros(3), np.random.default_rng(0)
    for _ in range(1200):
        left = event_drop(recording, rng)
        gone = np.setdiff1d(recording.t, left.t)
        if not len(gone):
            kinds[0] += 1
        elif np.ptp(gone) == 1000 * (len(gone) - 1) and len(gone) > 1:
            kinds[1] += 1  # one interval of time
        else:
            kinds[2] += 1  # a box, or at random
            index = gone // 1000
            rows, columns = np.ptp(index // 20) + 1, np.ptp(index % 20) + 1
            if rows * columns != len(gone):
                shares.add(len(gone))
            else:
                assert rows == columns
                assert rows in (1, 2, 3, 4, 5)
    assert shares == {40, 80, 120, 160, 200, 240, 280, 320, 360}
    np.testing.assert_allclose(kinds / 1200, [0.25, 0.25, 0.5], atol=0.05)


def test_event_drop_leaves_something():
    one = make_recording([3], [4], [7], [0], SENSOR, "one")
    rng = np.random.default_rng(0)
    assert all(len(event_drop(one, rng)) == 1 for _ in range(50))


def test_jitter_is_gaussian_sorted_and_not_negative():
    recording = random_recording(20_000)
    moved = jitter(recording, 200.0, np.random.default_rng(0))
    assert (np.diff(moved.t) >= 0).all()
    assert moved.t.min() >= 0
    np.testing.assert_array_equal(counts(moved), counts(recording))
    still = Recording(recording.x, recording.y, np.full(20_000, 10**6), recording.p, SENSOR)
    t = jitter(still, 200.0, np.random.default_rng(0)).t - 10**6
    assert abs(t.mean()) < 6
    assert abs(t.std() - 200) < 5


def test_events_keep_their_place_and_polarity_when_time_is_jittered(monkeypatch):
    recording = make_recording([0, 1, 2], [5, 6, 7], [10, 20, 30], [1, 0, 1], SENSOR, "three")

    class Shifts:
        def normal(self, mean, deviation, count):
            return np.array([15.0, 0.0, -40.0])

    moved = module.jitter(recording, 1.0, Shifts())
    assert events(moved) == [(2, 7, 0, 1), (1, 6, 20, 0), (0, 5, 25, 1)]
