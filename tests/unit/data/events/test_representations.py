"""Events to frames: against tonic, SpikingJelly, and sums written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ahsar.config import EventsConfig
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.representations import check_events, to_frames
from step_ahsar.errors import UserError

COUNTS = ("time", "count", "window")
REAL = ("voxel_grid", "time_surface")
SENSOR = (5, 7)


def record(events, sensor=SENSOR):
    """Of rows x, y, t, p."""
    x, y, t, p = np.asarray(events, np.int64).reshape(-1, 4).T
    return Recording(x.astype(np.uint16), y.astype(np.uint16), t, p.astype(np.uint8), sensor)


def random_recording(seed, events=500, duration=10_000, sensor=SENSOR, start=1234):
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, high, events) for high in (sensor[1], sensor[0], 2))
    t = start + np.sort(rng.integers(0, duration + 1, events))
    return record(np.stack((x, y, t, p), 1), sensor)


def config(name, **options):
    if name == "window":
        options.setdefault("window_ms", 2.0)
    return EventsConfig(representation=name, **options)


def structured(recording):
    events = np.zeros(len(recording), [("x", int), ("y", int), ("t", int), ("p", int)])
    for name in "xytp":
        events[name] = getattr(recording, name)
    return events


def counted(recording, slices, time_steps):
    """The frames of events whose slice is known; of no slice = None."""
    frames = np.zeros((time_steps, 2, *recording.sensor), np.int16)
    for x, y, p, k in zip(recording.x, recording.y, recording.p, slices, strict=True):
        if k is not None:
            frames[k, p, y, x] += 1
    return frames


recordings = st.builds(
    random_recording,
    st.integers(0, 10**6),
    events=st.integers(0, 60),
    duration=st.sampled_from([0, 1, 3, 17, 1000, 9999]),
)


@pytest.mark.parametrize("time_steps", [1, 3, 4, 16])
@pytest.mark.parametrize("seed", range(5))
def test_time_is_tonics_plus_the_events_that_it_leaves_out(seed, time_steps):
    transforms = pytest.importorskip("tonic.transforms")
    recording = random_recording(seed, duration=9999 + seed)
    theirs = transforms.ToFrame(sensor_size=(7, 5, 2), n_time_bins=time_steps)(structured(recording))
    ours = to_frames(recording, config("time"), time_steps)
    assert ours.dtype == theirs.dtype == np.int16
    assert (ours[:-1] == theirs[:-1]).all()
    width = (recording.t[-1] - recording.t[0]) // time_steps
    trailing = recording.t >= recording.t[0] + time_steps * width
    rest = counted(recording, [0 if late else None for late in trailing], 1)
    assert trailing.any()
    assert (ours[-1] == theirs[-1] + rest[0]).all()


@pytest.mark.parametrize("time_steps", [1, 3, 4, 16])
def test_count_is_tonics_plus_the_events_that_it_leaves_out(time_steps):
    transforms = pytest.importorskip("tonic.transforms")
    recording = random_recording(0, events=500)
    theirs = transforms.ToFrame(sensor_size=(7, 5, 2), n_event_bins=time_steps)(structured(recording))
    ours = to_frames(recording, config("count"), time_steps)
    assert (ours[:-1] == theirs[:-1]).all()
    rest = counted(recording, [0 if i >= 500 // time_steps * time_steps else None for i in range(500)], 1)
    assert (ours[-1] == theirs[-1] + rest[0]).all()


@pytest.mark.parametrize("window_ms", [0.1, 1.0, 2.5, 3.3337])
def test_window_is_tonics(window_ms):
    transforms = pytest.importorskip("tonic.transforms")
    recording = random_recording(1)
    transform = transforms.ToFrame(sensor_size=(7, 5, 2), time_window=1000 * window_ms, include_incomplete=True)
    theirs = transform(structured(recording))[:3]
    ours = to_frames(recording, config("window", window_ms=window_ms), 3)
    assert (ours == theirs).all()


@pytest.mark.parametrize("time_steps", [1, 4, 7])
@pytest.mark.parametrize(("name", "theirs"), [("time", "time"), ("count", "number")])
def test_counts_are_spikingjellys(name, theirs, time_steps):
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    recording = random_recording(2)
    events = {key: getattr(recording, key) for key in "xytp"}
    frames = utils.integrate_events_by_fixed_frames_number(events, theirs, time_steps, *SENSOR)
    assert (to_frames(recording, config(name), time_steps) == frames).all()


def test_time_by_hand():
    recording = record([(0, 0, 100, 0), (1, 0, 102, 1), (2, 0, 103, 1), (2, 1, 107, 0), (6, 4, 108, 1), (6, 4, 108, 1)])
    frames = to_frames(recording, config("time"), 4)  # 8 us: from 100, 102, 104 and 106 on, to 108
    assert (frames == counted(recording, [0, 1, 1, 3, 3, 3], 4)).all()


def test_time_shorter_than_its_slices():
    recording = record([(0, 0, 10, 0), (1, 0, 11, 1), (2, 0, 12, 1), (3, 0, 13, 0)])
    frames = to_frames(recording, config("time"), 6)  # 3 us: slices of half a microsecond
    assert (frames == counted(recording, [0, 2, 4, 5], 6)).all()


def test_fewer_events_than_slices_of_equal_count():
    recording = record([(0, 0, 10, 0), (1, 0, 11, 1)])
    assert (to_frames(recording, config("count"), 4) == counted(recording, [0, 1], 4)).all()


def test_window_cuts_what_is_later_and_pads_what_is_shorter():
    recording = record([(0, 0, 500, 0), (1, 0, 1499, 1), (2, 0, 1500, 1), (3, 0, 2500, 0)])
    assert (to_frames(recording, config("window", window_ms=1), 2) == counted(recording, [0, 0, 1, None], 2)).all()
    assert (to_frames(recording, config("window", window_ms=1), 4) == counted(recording, [0, 0, 1, 2], 4)).all()


@given(recordings, st.integers(1, 9), st.sampled_from(["time", "count", "voxel_grid"]))
@settings(max_examples=60, deadline=None)
def test_no_event_is_lost(recording, time_steps, name):
    frames = to_frames(recording, config(name), time_steps)
    assert frames.shape == (time_steps, 2, *SENSOR)
    everything = counted(recording, [0] * len(recording), 1)[0]
    np.testing.assert_allclose(frames.sum(0), everything, atol=1e-5)


@given(recordings, st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_slices_come_in_order_and_count_evenly(recording, time_steps):
    sizes = to_frames(recording, config("count"), time_steps).sum((1, 2, 3))
    whole = len(recording) // time_steps
    if whole:
        assert (sizes[:-1] == whole).all()
        assert whole <= sizes[-1] < whole + time_steps
    else:
        assert (sizes == [1] * len(recording) + [0] * (time_steps - len(recording))).all()


@given(recordings, st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_voxel_grid_is_equation_1(recording, time_steps):
    expected = np.zeros((time_steps, 2, *SENSOR))
    for x, y, t, p in zip(recording.x, recording.y, recording.t, recording.p, strict=True):
        duration = recording.t[-1] - recording.t[0]
        when = (time_steps - 1) * (t - recording.t[0]) / duration if duration else 0.0
        for k in range(time_steps):
            expected[k, p, y, x] += max(0.0, 1 - abs(k - when))
    frames = to_frames(recording, config("voxel_grid"), time_steps)
    assert frames.dtype == np.float32
    np.testing.assert_allclose(frames, expected, atol=1e-5)


@given(recordings, st.integers(1, 6), st.sampled_from([None, 0.5, 3.0]))
@settings(max_examples=40, deadline=None)
def test_time_surface_is_its_definition(recording, time_steps, tau_ms):
    frames = to_frames(recording, config("time_surface", tau_ms=tau_ms), time_steps)
    assert frames.dtype == np.float32
    expected = np.zeros((time_steps, 2, *SENSOR))
    if len(recording):
        first, last = recording.t[0], recording.t[-1]
        width = (last - first) // time_steps or (last - first) / time_steps
        tau = 1000 * tau_ms if tau_ms else (last - first) / time_steps or 1.0
        for k in range(time_steps):
            end = last if k == time_steps - 1 else first + (k + 1) * width
            for x, y, t, p in zip(recording.x, recording.y, recording.t, recording.p, strict=True):
                if t < end or (t == last and (k == time_steps - 1 or first == last)):
                    expected[k, p, y, x] = np.exp((t - end) / tau)
    np.testing.assert_allclose(frames, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", COUNTS + REAL)
def test_no_event_gives_zeros(name):
    frames = to_frames(record([]), config(name), 3)
    assert frames.shape == (3, 2, *SENSOR)
    assert frames.dtype == (np.float32 if name in REAL else np.int16)
    assert not frames.any()


@pytest.mark.parametrize("name", COUNTS + REAL)
def test_one_event_is_placed(name):
    frames = to_frames(record([(6, 2, 77, 1)]), config(name), 3)
    assert frames[0, 1, 2, 6] == 1
    assert (frames != 0).sum() == (3 if name == "time_surface" else 1)
    assert frames.dtype == (np.float32 if name in REAL else np.int16)


@pytest.mark.parametrize("name", COUNTS + REAL)
def test_a_larger_size_pads_around_the_centre(name):
    recording = random_recording(3)
    frames = to_frames(recording, config(name), 3, (8, 11))
    assert (frames == np.pad(to_frames(recording, config(name), 3), ((0, 0), (0, 0), (1, 2), (2, 2)))).all()


def test_a_smaller_size_merges_pixels_and_loses_no_event():
    recording = random_recording(4, sensor=(6, 8))
    whole = to_frames(recording, config("time"), 3)
    frames = to_frames(recording, config("time"), 3, (3, 4))
    assert (frames == whole.reshape(3, 2, 3, 2, 4, 2).sum((3, 5))).all()


def test_a_size_that_does_not_divide_the_sensor():
    recording = record([(x, 0, x, 0) for x in range(7)])
    assert to_frames(recording, config("time"), 1, (5, 3))[0, 0, 0].tolist() == [3, 2, 2]  # x * 3 // 7


def test_axes_are_resized_each_for_itself():
    recording = random_recording(5, sensor=(4, 8))
    whole = to_frames(recording, config("count"), 2)
    frames = to_frames(recording, config("count"), 2, (6, 4))
    expected = np.pad(whole.reshape(2, 2, 4, 4, 2).sum(-1), ((0, 0), (0, 0), (1, 1), (0, 0)))
    assert (frames == expected).all()


def test_counts_saturate():
    recording = record(np.repeat([[1, 2, 5, 1]], 40_000, 0))
    frames = to_frames(recording, config("time"), 2)
    assert frames[0, 1, 2, 1] == 32767
    assert frames.sum() == 32767


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"representation": "window"}, "data.events.window_ms is not set"),
        ({"representation": "time", "window_ms": 3}, "window_ms applies to representation 'window', not to 'time'"),
        ({"representation": "voxel_grid", "tau_ms": 3}, "tau_ms applies to representation 'time_surface'"),
    ],
)
def test_options_that_do_not_apply(options, message):
    with pytest.raises(UserError, match=message):
        check_events(EventsConfig(**options))
    with pytest.raises(UserError, match=message):
        to_frames(record([]), EventsConfig(**options), 2)


@pytest.mark.parametrize("name", COUNTS + REAL)
def test_legal_options(name):
    check_events(config(name))
    check_events(config("time_surface", tau_ms=5))
