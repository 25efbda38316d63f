"""Representations of events as frames [T, P, H, W]. P are the two polarities, off and on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import EventsConfig
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.transforms import transformed
from step_ahsar.errors import UserError
from step_ahsar.registry import Registry

Bounds = NDArray[np.int64]  # [T + 1]: slice k holds the events from bounds[k] up to bounds[k + 1]

FRAMES_VERSION = 1  # must be raised with any change of reading or converting, so that cached frames are made anew

_MOST = np.iinfo(np.int16).max


@dataclass(frozen=True)
class Representation:
    """An entry of :data:`REPRESENTATIONS`.

    Args:
        make: a function of timestamps [N], the events' indices into a flattened frame [2, H, W], [N], the shape
            [T, 2, H, W] and the config, which gives frames of that shape.
        dtype: type of the frames; integers are counts.
        options: keys of ``data.events`` that apply to this representation only.
        needs: those options that must be set.
    """

    make: Callable[[NDArray[np.int64], NDArray[np.int32], tuple[int, ...], EventsConfig], NDArray]
    dtype: type = np.int16
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


REPRESENTATIONS = Registry[Representation]("representation of events")


def check_events(config: EventsConfig) -> None:
    """Raises UserError for an unknown representation, a missing option, or an option of another representation."""
    name, chosen = config.representation, REPRESENTATIONS[config.representation]
    for key in chosen.needs:
        if getattr(config, key) is None:
            raise UserError(f"data.events.{key} is not set: representation {name!r} needs it")
    for other, representation in REPRESENTATIONS.items():
        for key in representation.options:
            if key not in chosen.options and getattr(config, key) is not None:
                raise UserError(f"data.events.{key} applies to representation {other!r}, not to {name!r}")


def to_frames(
    recording: Recording, config: EventsConfig, time_steps: int, size: tuple[int, int] | None = None
) -> NDArray:
    """Converts a recording to frames, after ``config.transforms``. A recording without events gives zeros.

    - ``time``: counts of events in T slices of D // T us, where D is the time from the first to the last event. The
      last slice extends to the last event and includes it. If D < T, slices last D / T us; if D = 0, all events are in
      the first slice.
    - ``count``: counts of events in T slices of N // T events each. The remainder is added to the last slice. If N < T,
      the first N slices have one event each.
    - ``window``: counts of events in T windows of ``window_ms``, starting at the first event. A shorter recording ends
      in empty slices; events after the last window are left out.
    - ``voxel_grid``: each event is distributed to the two nearest of T points in time between the first and the last
      event (Zhu et al. 2019, arXiv 1812.08156, eq. 1 and 2, with separate polarities instead of signs).
    - ``time_surface``: exp(-(t - t_last) / tau) at the end of each slice of ``time``, where t_last is the time of the
      last event of that polarity at the pixel; 0 if there was none (HOTS, Lagorce et al. 2017, eq. 3; arXiv
      1803.07913).

    ``time`` and ``count`` are as in SpikingJelly with a fixed number of frames. They are also as in tonic's ToFrame,
    except that tonic leaves out the remaining events, which are added to the last slice here.

    Args:
        recording: events in the order of time.
        config: transforms, representation, window_ms and tau_ms.
        time_steps: T.
        size: (H, W) of the frames; None = the sensor's. If an axis is longer than the sensor's, zeros are added on both
            sides; if it is shorter, pixels are merged: x becomes x * W // (sensor's W).

    Returns:
        [T, 2, H, W]; counts are int16 (saturated at 32767), voxel grids and time surfaces float32.

    Raises:
        UserError: see :func:`check_events`, or a transform that fails.
    """
    check_events(config)
    recording = transformed(recording, config, "transforms")
    representation = REPRESENTATIONS[config.representation]
    height, width = size or recording.sensor
    shape = (time_steps, 2, height, width)
    if not len(recording):
        return np.zeros(shape, representation.dtype)
    return representation.make(recording.t, _pixels(recording, height, width), shape, config)


def _pixels(recording: Recording, height: int, width: int) -> NDArray[np.int32]:
    """Index of each event into a flattened frame [2, H, W]."""
    flat = recording.p.astype(np.int32)
    flat *= height
    flat += _resized(recording.y, recording.sensor[0], height)
    flat *= width
    flat += _resized(recording.x, recording.sensor[1], width)
    return flat


def _resized(values: NDArray[np.uint16], old: int, new: int) -> NDArray:
    """Coordinates converted to an axis of another length."""
    if new == old:
        return values
    table = np.arange(old, dtype=np.int32)
    table = table + (new - old) // 2 if new > old else table * new // old
    return table[values]


def _equal_durations(t: NDArray[np.int64], time_steps: int) -> tuple[Bounds, NDArray[np.float64]]:
    """Slices of equal duration, and the end of each slice in us, [T]."""
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


def _time(
    t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...], config: EventsConfig
) -> NDArray[np.int16]:
    return _counts(pixels, _equal_durations(t, shape[0])[0], shape)


def _count(
    t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...], config: EventsConfig
) -> NDArray[np.int16]:
    return _counts(pixels, _equal_counts(len(t), shape[0]), shape)


def _window(
    t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...], config: EventsConfig
) -> NDArray[np.int16]:
    assert config.window_ms is not None
    return _counts(pixels, _windows(t, shape[0], 1000 * config.window_ms), shape)


def _voxel_grid(
    t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...], config: EventsConfig
) -> NDArray[np.float32]:
    points, plane = shape[0], int(np.prod(shape[1:]))
    since = (t - t[0]).astype(np.float64)
    when = since * ((points - 1) / since[-1]) if since[-1] else since
    before = np.minimum(when.astype(np.int64), points - 1)  # rounding may exceed the last point
    share = when - before
    flat = before * plane + pixels
    grid = np.bincount(flat, 1 - share, minlength=(points + 1) * plane)
    grid += np.bincount(flat + plane, share, minlength=(points + 1) * plane)
    return grid[: points * plane].astype(np.float32).reshape(shape)


def _time_surface(
    t: NDArray[np.int64], pixels: NDArray[np.int32], shape: tuple[int, ...], config: EventsConfig
) -> NDArray[np.float32]:
    bounds, ends = _equal_durations(t, shape[0])
    tau = 1000 * config.tau_ms if config.tau_ms is not None else (t[-1] - t[0]) / shape[0] or 1.0
    last = np.full(int(np.prod(shape[1:])), -np.inf)
    frames = np.empty((shape[0], len(last)), np.float32)
    for frame, start, end, now in zip(frames, bounds[:-1], bounds[1:], ends, strict=True):
        last[pixels[start:end]] = t[start:end]  # of several events at a pixel, the last one counts
        frame[:] = np.exp((last - now) / tau)
    return frames.reshape(shape)


REPRESENTATIONS.add("time", Representation(_time))
REPRESENTATIONS.add("count", Representation(_count))
REPRESENTATIONS.add("window", Representation(_window, options=("window_ms",), needs=("window_ms",)))
REPRESENTATIONS.add("voxel_grid", Representation(_voxel_grid, np.float32))
REPRESENTATIONS.add("time_surface", Representation(_time_surface, np.float32, options=("tau_ms",)))
