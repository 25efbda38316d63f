"""Faults of an event sensor."""

import numpy as np
import pytest

from step_ahsar.data.events.corruptions import CORRUPTIONS, corrupt
from step_ahsar.data.events.recording import make_recording
from step_ahsar.errors import UserError

SENSOR = (40, 50)
SEVERITIES = (1, 2, 3, 4, 5)


def recorded(count=4000, start=5000):
    rng = np.random.default_rng(0)
    x, y = rng.integers(10, 20, count), rng.integers(5, 15, count)
    t = start + np.sort(rng.integers(0, 300_000, count))
    return make_recording(x, y, t, rng.integers(0, 2, count), SENSOR, "recorded")


def at(name, severity, recording=None, seed=0):
    return corrupt(recorded() if recording is None else recording, name, severity, np.random.default_rng(seed))


def events(recording):
    return list(zip(*(a.tolist() for a in (recording.x, recording.y, recording.t, recording.p)), strict=True))


def damage(before, after):
    """Distance of the frames of ten slices of time from what they were."""

    def frames(recording):
        counted = np.zeros((10, 2, *SENSOR))
        slot = np.minimum((recording.t - before.t[0]) * 10 // (before.t[-1] - before.t[0] + 1), 9)
        np.add.at(counted, (slot, recording.p, recording.y, recording.x), 1)
        return counted

    return np.abs(frames(after) - frames(before)).sum()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name):
    levels = [damage(recorded(), at(name, severity)) for severity in SEVERITIES]
    assert levels[0] > 0
    assert (np.diff(levels) > 0).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_what_comes_out_is_a_recording_of_the_same_time(name, severity):
    before = recorded()
    after = at(name, severity)
    make_recording(after.x, after.y, after.t, after.p, SENSOR, name)  # which checks it
    assert [getattr(after, key).dtype for key in "xytp"] == [getattr(before, key).dtype for key in "xytp"]
    assert after.t[0] >= before.t[0]
    assert after.t[-1] <= before.t[-1]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_only_the_generator_decides(name):
    before = recorded()
    assert events(at(name, 3)) == events(at(name, 3))
    assert events(at(name, 3)) != events(at(name, 3, seed=1))
    assert events(before) == events(recorded())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_hardly_any_events(name):
    nothing = make_recording([], [], [], [], SENSOR, "nothing")
    assert len(at(name, 5, nothing)) == 0
    one = make_recording([3], [4], [7], [1], SENSOR, "one")
    after = at(name, 5, one)
    make_recording(after.x, after.y, after.t, after.p, SENSOR, name)


def test_background_noise_is_added_anywhere():
    after = at("background_noise", 4)
    assert len(after) == 8000
    assert not set(events(recorded())) - set(events(after))
    outside = (after.x < 10) | (after.x >= 20) | (after.y < 5) | (after.y >= 15)
    assert abs(outside.sum() - 4000 * (1 - 100 / 2000)) < 60


@pytest.mark.parametrize(("severity", "share"), [(1, 0.1), (2, 0.25), (3, 0.5), (4, 0.75), (5, 0.9)])
def test_dropped_events_are_so_many(severity, share):
    after = at("dropped_events", severity)
    assert abs(len(after) - (1 - share) * 4000) < 4 * (4000 * share * (1 - share)) ** 0.5
    assert set(events(after)) < set(events(recorded()))


def test_time_jitter_moves_only_times():
    middle = make_recording(*np.full((2, 4002), 3), [0, *[500_000] * 4000, 1_000_000], [1] * 4002, SENSOR, "middle")
    after = at("time_jitter", 4, middle)
    assert abs(np.std(after.t) - 100_000) < 4000
    for key in "xyp":
        counted = [np.bincount(getattr(recording, key)) for recording in (recorded(), at("time_jitter", 5))]
        np.testing.assert_array_equal(*counted)


def test_hot_pixels_fire_on_end():
    one = make_recording([0, 0], [0, 0], [0, 1_000_000], [1, 1], SENSOR, "a second")
    after = at("hot_pixels", 3, one)
    pixels, times = np.unique(after.y.astype(int) * 50 + after.x, return_counts=True)
    hot = (pixels > 0) & (times > 1)
    assert hot.sum() == 20  # 0.01 of 2000
    assert set(times[hot]) <= {100, 101}
    for pixel in pixels[hot]:
        mine = after.y.astype(int) * 50 + after.x == pixel
        assert set(np.diff(after.t[mine])) == {10_000}
        assert len(set(after.p[mine])) == 1


def test_unknown_names_and_severities():
    with pytest.raises(UserError, match="unknown corruption of events 'hot_pixel'; did you mean 'hot_pixels'"):
        at("hot_pixel", 1)
    for severity in (0, 6, 2.5):
        with pytest.raises(UserError, match=f"severity of a corruption is 1, 2, 3, 4 or 5, got {severity}"):
            at("hot_pixels", severity)
