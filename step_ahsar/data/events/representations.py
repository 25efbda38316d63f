"""From events to frames [T, P, H, W], P being the two polarities: off, on."""

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import EventsConfig
from step_ahsar.data.events.recording import Recording
from step_ahsar.errors import UserError

Bounds = NDArray[np.int64]  # [T + 1]: slice k holds the events from bounds[k] up to bounds[k + 1]

FRAMES_VERSION = 1  # to be raised with any change of what frames, or recordings as read, are: cached ones are made anew

_MOST = np.iinfo(np.int16).max


def check_events(config: EventsConfig) -> None:
    """Raises UserError for options that do not apply to the representation, or that it lacks."""
    name = config.representation
    if name == "window" and config.window_ms is None:
        raise UserError("data.events.window_ms is not set: representation 'window' needs the duration of a slice")
    if name != "window" and config.window_ms is not None:
        raise UserError(f"data.events.window_ms applies to representation 'window', not to {name!r}")
    if name != "time_surface" and config.tau_ms is not None:
        raise UserError(f"data.events.tau_ms applies to representation 'time_surface', not to {name!r}")


def to_frames(
    recording: Recording, config: EventsConfig, time_steps: int, size: tuple[int, int] | None = None
) -> NDArray:
    """The frames of a recording. One without events gives zeros.

    - ``time``: counts in T slices of D // T us, D being the time from the first to the last event; the last slice
      extends to the last event, which is in it. Where D < T, slices last D / T us. Where D = 0, all is in the first.
    - ``count``: numbers in T slices of N // T events; the remainder, less than T, goes to the last slice. Where N < T,
      one event each to the first N slices.
    - ``window``: counts in T windows of ``window_ms`` from the first event on. Shorter recordings end in empty slices;
      what comes after T windows is cut off, as a fixed duration implies.
    - ``voxel_grid``: each event is shared by the two nearest of T points in time, from the first to the last event
      (Zhu et al. 2019, arXiv 1812.08156, eq. 1 and 2, with the polarities apart instead of as signs).
    - ``time_surface``: exp(-(t - t_last) / tau) at the end of each slice of ``time``, t_last being when a pixel had its
      last event of that polarity up to then, 0 where it had none (HOTS, Lagorce et al. 2017, eq. 3; arXiv 1803.07913).

    ``time`` and ``count`` are SpikingJelly's fixed frame numbers; tonic's ToFrame agrees but leaves out the events at
    the end that ``time`` and ``count`` add to the last slice.

    Args:
        recording: events in the order of time.
        config: representation, window_ms and tau_ms.
        time_steps: T.
        size: (H, W) of the frames; None = the sensor's. Along an axis that is longer than the sensor's, zeros are put
            on both sides; along a shorter one, pixels are merged: x goes to x * W // sensor's W.

    Returns:
        [T, 2, H, W]; counts are int16 (saturated at 32767), voxel grids and time surfaces float32.

    Raises:
        UserError: see :func:`check_events`.
    """
    check_events(config)
    height, width = size or recording.sensor
    shape = (time_steps, 2, height, width)
    name = config.representation
    if not len(recording):
        return np.zeros(shape, np.float32 if name in ("voxel_grid", "time_surface") else np.int16)
    pixels = _pixels(recording, height, width)
    if name == "voxel_grid":
        return _voxel_grid(recording.t, pixels, shape)
    if name == "time_surface":
        return _time_surface(recording.t, pixels, shape, config.tau_ms)
    if name == "count":
        return _counts(pixels, _equal_counts(len(recording), time_steps), shape)
    if name == "window":
        assert config.window_ms is not None
        return _counts(pixels, _windows(recording.t, time_steps, 1000 * config.window_ms), shape)
    return _counts(pixels, _equal_durations(recording.t, time_steps)[0], shape)


def _pixels(recording: Recording, height: int, width: int) -> NDArray[np.int32]:
    """Index of each event into a frame [2, H, W] laid flat."""
    flat = recording.p.astype(np.int32)
    flat *= height
    flat += _resized(recording.y, recording.sensor[0], height)
    flat *= width
    flat += _resized(recording.x, recording.sensor[1], width)
    return flat


def _resized(values: NDArray[np.uint16], old: int, new: int) -> NDArray:
    """Coordinates along an axis of another length."""
    if new == old:
        return values
    table = np.arange(old, dtype=np.int32)
    table = table + (new - old) // 2 if new > old else table * new // old
    return table[values]


def _equal_durations(t: NDArray[np.int64], time_steps: int) -> tuple[Bounds, NDArray[np.float64]]:
    """Slices of equal duration, and when each of them ends, in us [T]."""
    first, last = int(t[0]), int(t[-1])
    duration = last - first
    width = duration // time_steps or duration / time_steps
    ends = first + width * np.arange(1, time_steps + 1, dtype=np.float64)
    ends[-1] = last
    if not duration:
        return np.asarray([0] + time_steps * [len(t)]), ends
    inner = np.searchsorted(t, np.ceil(ends[:-1]).astype(np.int64))
    return np.concatenate(([0], inner, [len(t)])), ends


def _equal_counts(events: int, time_steps: int) -> Bounds:
    bounds = np.minimum(np.arange(time_steps + 1) * max(events // time_steps, 1), events)
    bounds[-1] = events
    return bounds


def _windows(t: NDArray[np.int64], time_steps: int, width: float) -> Bounds:
    return np.searchsorted(t, np.ceil(t[0] + width * np.arange(time_steps + 1)).astype(np.int64))


def _counts(pixels: NDArray[np.int32], bounds: Bounds, shape: tuple[int, ...]) -> NDArray[np.int16]:
    frames = np.empty((shape[0], int(np.prod(shape[1:]))), np.int16)
    for frame, start, end in zip(frames, bounds[:-1], bounds[1:], strict=True):
        counts = np.bincount(pixels[start:end], minlength=len(frame))
        frame[:] = np.minimum(counts, _MOST, out=counts) if end - start > _MOST else counts
    return frames.reshape(shape)


def _voxel_grid(t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    points, plane = shape[0], int(np.prod(shape[1:]))
    since = (t - t[0]).astype(np.float64)
    when = since * ((points - 1) / since[-1]) if since[-1] else since
    before = np.minimum(when.astype(np.int64), points - 1)  # rounding may lead beyond the last point
    share = when - before
    flat = before * plane + pixels
    grid = np.bincount(flat, 1 - share, minlength=(points + 1) * plane)
    grid += np.bincount(flat + plane, share, minlength=(points + 1) * plane)
    return grid[: points * plane].astype(np.float32).reshape(shape)


def _time_surface(
    t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...], tau_ms: float | None
) -> NDArray[np.float32]:
    bounds, ends = _equal_durations(t, shape[0])
    tau = 1000 * tau_ms if tau_ms is not None else (t[-1] - t[0]) / shape[0] or 1.0
    last = np.full(int(np.prod(shape[1:])), -np.inf)
    frames = np.empty((shape[0], len(last)), np.float32)
    for frame, start, end, now in zip(frames, bounds[:-1], bounds[1:], ends, strict=True):
        last[pixels[start:end]] = t[start:end]  # of several events at a pixel, the last stays
        frame[:] = np.exp((last - now) / tau)
    return frames.reshape(shape)
