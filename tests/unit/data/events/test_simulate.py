"""The simulated event sensor."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.data.events.recording import make_recording
from step_ahsar.data.events.simulate import DARK, simulate
from step_ahsar.errors import UserError


def still(rng_seed=0):
    return np.random.default_rng(rng_seed)


def of_log(levels, times, threshold=1.0):
    """Recording of one pixel whose log intensity, less its first, takes these values. Without noise."""
    frames = DARK * np.exp(np.asarray(levels, dtype=np.float64)).reshape(-1, 1, 1) * np.e**4 - DARK
    return simulate(frames, times, still(), threshold=threshold, noise_hz=0)


def events(recording):
    return list(zip(recording.t.tolist(), recording.p.tolist(), strict=True))


def test_events_come_where_a_ramp_crosses_the_threshold():
    # from 0 to 2.5 in 1000 us: 1 is crossed at 400 us, 2 at 800 us
    assert events(of_log([0, 2.5], [0, 1000])) == [(400, 1), (800, 1)]
    assert events(of_log([0, -2.5], [50, 1050])) == [(450, 0), (850, 0)]
    assert events(of_log([0, 2.5], [0, 1000], threshold=1.25 - 1e-9)) == [(500, 1), (1000, 1)]


def test_what_a_pixel_remembers_lasts_over_frames_and_reversals():
    # after the event at 1, it takes a fall to 0 for an off event, and a rise to 2 for an on event
    assert events(of_log([0, 1.5, 0.5, 1.5, -0.5], [0, 300, 600, 900, 1300])) == [(200, 1), (1200, 0)]
    assert events(of_log([0, 0.6, 1.2], [0, 600, 1200])) == [(1000, 1)]
    assert events(of_log([0, 0.9, -0.9, 0.9], [0, 10, 20, 30])) == []


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12), st.floats(0.1, 1.5))
def test_events_add_up_to_the_change_of_log_intensity(levels, threshold):
    levels = [0.0, *levels]
    recording = of_log(levels, 1000 * np.arange(len(levels)), threshold)
    reached = np.sum(np.where(recording.p > 0, 1, -1)) * threshold
    assert abs(reached - levels[-1]) < threshold + 1e-6
    make_recording(recording.x, recording.y, recording.t, recording.p, (1, 1), "simulated")  # which checks it


def test_agrees_with_a_sensor_written_out_pixel_by_pixel():
    rng = still(3)
    frames = np.cumsum(rng.normal(0, 0.08, (9, 4, 5)), axis=0)
    frames -= frames.min()
    times = np.cumsum(rng.integers(100, 900, 9))
    recording = simulate(frames, times, rng, threshold=0.2, noise_hz=0)
    expected = []
    for y, x in np.ndindex(4, 5):
        log = [float(np.log(DARK + value)) for value in frames[:, y, x]]
        memory = log[0]
        for i in range(1, 9):
            way = 1 if log[i] > log[i - 1] else -1
            while way * (log[i] - memory) >= 0.2:
                memory += way * 0.2
                share = (memory - log[i - 1]) / (log[i] - log[i - 1])
                expected.append((times[i - 1] + share * (times[i] - times[i - 1]), x, y, way > 0))
    assert len(recording) == len(expected) > 50
    found = sorted(zip(recording.x, recording.y, recording.t, recording.p, strict=True))
    wanted = sorted((x, y, t, p) for t, x, y, p in expected)
    np.testing.assert_allclose(np.array(found, float), np.array(wanted, float), atol=0.5001)


def test_noise_is_a_poisson_process_at_every_pixel():
    frames = np.full((2, 20, 30), 0.5)
    recording = simulate(frames, [0, 2_000_000], still(1), noise_hz=5.0)
    expected = 5 * 20 * 30 * 2
    assert abs(len(recording) - expected) < 4 * expected**0.5
    assert abs(recording.p.mean() - 0.5) < 0.03
    assert (np.diff(recording.t) >= 0).all()
    for values, size in ((recording.x, 30), (recording.y, 20), (recording.t, 2_000_001)):
        mean, deviation = (size - 1) / 2, size / 12**0.5 / len(recording) ** 0.5
        assert abs(values.mean() - mean) < 4 * deviation
    assert len(simulate(frames, [0, 2_000_000], still(1), noise_hz=0)) == 0


@pytest.mark.parametrize(
    ("shape", "times"), [((1, 4, 4), [0]), ((4, 4), [0, 1, 2, 3]), ((3, 4, 4), [0, 10]), ((3, 4, 4), [0, 10, 10])]
)
def test_frames_without_a_course_of_time(shape, times):
    with pytest.raises(UserError, match=r"two or more frames \[F, H, W\] at increasing times"):
        simulate(np.zeros(shape), times, still())


def test_intensities_that_are_none():
    for bad in (-0.1, np.nan):
        with pytest.raises(UserError, match=f"needs intensities >= 0, got {bad}"):
            simulate(np.full((2, 3, 3), bad), [0, 10], still())
