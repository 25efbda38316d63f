"""Faults of an event sensor, at five severities, to test a trained model on."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.corruptions import find
from step_ahsar.data.events.augment import select
from step_ahsar.data.events.recording import Recording
from step_ahsar.registry import Registry

Corruption = Callable[[Recording, int, np.random.Generator], Recording]

CORRUPTIONS = Registry[Corruption]("corruption of events")


def corrupt(recording: Recording, name: str, severity: int, rng: np.random.Generator) -> Recording:
    """A recording with a fault, on the same sensor. No event is before the original first or after the original last.

    Args:
        recording: as recorded; without events it stays as it is.
        name: one of :data:`CORRUPTIONS`.
        severity: from 1 to 5.
        rng: random generator.

    Raises:
        UserError: a corruption or a severity that does not exist.
    """
    apply = find(CORRUPTIONS, name, severity)
    return apply(recording, severity, rng) if len(recording) else recording


@CORRUPTIONS.register("background_noise")
def background_noise(recording: Recording, severity: int, rng: np.random.Generator) -> Recording:
    """Adds events at random places, times and polarities: 0.1, 0.25, 0.5, 1 or 2 times the number of events."""
    count = round((0.1, 0.25, 0.5, 1.0, 2.0)[severity - 1] * len(recording))
    pixels = rng.integers(0, np.prod(recording.sensor), count)
    t = rng.integers(recording.t[0], recording.t[-1], count, endpoint=True)
    return _with(recording, pixels, t, rng.integers(0, 2, count))


@CORRUPTIONS.register("dropped_events")
def dropped_events(recording: Recording, severity: int, rng: np.random.Generator) -> Recording:
    """Drops each event with probability 0.1, 0.25, 0.5, 0.75 or 0.9."""
    kept = rng.random(len(recording)) >= (0.1, 0.25, 0.5, 0.75, 0.9)[severity - 1]
    return select(recording, kept)


@CORRUPTIONS.register("time_jitter")
def time_jitter(recording: Recording, severity: int, rng: np.random.Generator) -> Recording:
    """Adds Gaussian noise to every timestamp, with a deviation of 0.01, 0.02, 0.05, 0.1 or 0.2 of the duration.

    Timestamps beyond the first or the last event are moved to it.
    """
    start, end = recording.t[0], recording.t[-1]
    deviation = (0.01, 0.02, 0.05, 0.1, 0.2)[severity - 1] * (end - start)
    t = np.rint(recording.t + deviation * rng.standard_normal(len(recording))).astype(np.int64).clip(start, end)
    moved = Recording(recording.x, recording.y, t, recording.p, recording.sensor)
    return select(moved, np.argsort(t, kind="stable"))


@CORRUPTIONS.register("hot_pixels")
def hot_pixels(recording: Recording, severity: int, rng: np.random.Generator) -> Recording:
    """Some pixels fire all the time: 0.001, 0.005, 0.01, 0.02 or 0.05 of all pixels, at least one.

    Each has one polarity, a rate of 100 events per second, and a phase of its own.
    """
    total = int(np.prod(recording.sensor))
    hot = rng.permutation(total)[: max(1, round((0.001, 0.005, 0.01, 0.02, 0.05)[severity - 1] * total))]
    start, end = recording.t[0], recording.t[-1]
    ticks = np.arange(start, end + 1, 10_000)
    t = ticks + rng.integers(0, 10_000, (len(hot), 1))
    pixels, polarities = (np.repeat(values, len(ticks)) for values in (hot, rng.integers(0, 2, len(hot))))
    there = t.ravel() <= end
    return _with(recording, pixels[there], t.ravel()[there], polarities[there])


def _with(recording: Recording, pixels: NDArray, t: NDArray, p: NDArray) -> Recording:
    """The recording with further events, in the order of time. Pixels are counted row by row."""
    row, column = np.divmod(pixels, recording.sensor[1])
    x = np.concatenate([recording.x, column.astype(np.uint16)])
    y = np.concatenate([recording.y, row.astype(np.uint16)])
    times = np.concatenate([recording.t, t])
    both = Recording(x, y, times, np.concatenate([recording.p, p.astype(np.uint8)]), recording.sensor)
    return select(both, np.argsort(times, kind="stable"))
