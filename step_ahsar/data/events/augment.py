"""Augmentation of recordings: moving their events in space and time, and dropping some of them."""

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import EventsConfig
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.transforms import transformed


def is_augmented(config: EventsConfig) -> bool:
    """Whether training recordings are augmented."""
    moved = config.hflip or config.roll or config.rotate
    return bool(moved or config.cutout or config.drop or config.jitter_us or config.train_transforms)


def augment(recording: Recording, config: EventsConfig, rng: np.random.Generator) -> Recording:
    """Augments as the config says: flip, roll, rotation, cut-out, EventDrop, jitter of time, then tonic's transforms.

    The sensor does not change but by tonic's transforms, which draw from NumPy's global generator. Events are in the
    order of time.
    """
    if config.hflip and rng.random() < config.hflip:
        recording = hflip(recording)
    if config.roll:
        recording = roll(recording, *(int(shift) for shift in rng.integers(-config.roll, config.roll + 1, 2)))
    if config.rotate:
        recording = rotate(recording, rng.uniform(-config.rotate, config.rotate))
    if config.cutout:
        recording = cutout(recording, config.cutout, rng)
    if config.drop and rng.random() < config.drop:
        recording = event_drop(recording, rng)
    if config.jitter_us:
        recording = jitter(recording, config.jitter_us, rng)
    return transformed(recording, config, "train_transforms")


def select(recording: Recording, which: NDArray) -> Recording:
    """Some of the events: ``which`` is a mask [N], or indices in the order wanted."""
    return Recording(recording.x[which], recording.y[which], recording.t[which], recording.p[which], recording.sensor)


def hflip(recording: Recording) -> Recording:
    """Mirrored left to right."""
    x = (recording.sensor[1] - 1 - recording.x).astype(np.uint16)
    return Recording(x, recording.y, recording.t, recording.p, recording.sensor)


def roll(recording: Recording, dx: int, dy: int) -> Recording:
    """Moved by ``dx`` columns and ``dy`` rows. Events that leave on one side enter on the other."""
    height, width = recording.sensor
    x = ((recording.x.astype(np.int64) + dx) % width).astype(np.uint16)
    y = ((recording.y.astype(np.int64) + dy) % height).astype(np.uint16)
    return Recording(x, y, recording.t, recording.p, recording.sensor)


def rotate(recording: Recording, degrees: float) -> Recording:
    """Turned clockwise about the sensor's centre, to the nearest pixel; events that leave the sensor are dropped."""
    height, width = recording.sensor
    x, y = recording.x - (width - 1) / 2, recording.y - (height - 1) / 2
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned_x = np.rint(cos * x - sin * y + (width - 1) / 2)
    turned_y = np.rint(sin * x + cos * y + (height - 1) / 2)
    inside = (turned_x >= 0) & (turned_x < width) & (turned_y >= 0) & (turned_y < height)
    turned_x, turned_y = (values[inside].astype(np.uint16) for values in (turned_x, turned_y))
    return Recording(turned_x, turned_y, recording.t[inside], recording.p[inside], recording.sensor)


def cutout(recording: Recording, share: float, rng: np.random.Generator) -> Recording:
    """Drops the events in a random square on the sensor, whose side is ``share`` of the sensor's shorter side.

    DeVries and Taylor, arXiv 1708.04552.
    """
    side = round(share * min(recording.sensor))
    return select(recording, ~_in_box(recording, side, side, rng))


def event_drop(recording: Recording, rng: np.random.Generator) -> Recording:
    """EventDrop (Gu et al., IJCAI 2021, arXiv 2106.05836), with its authors' ratios.

    One of four operations, with equal probability: nothing is dropped; or the events in an interval of 0.1, 0.2, ...
    0.9 of the duration, which may extend beyond the end; or those in a box of 0.05, 0.1, ... 0.25 of the sensor's width
    and height; or 0.1, 0.2, ... 0.9 of all events. If no event would be left, nothing is dropped.
    """
    count = len(recording)
    if not count:
        return recording
    match rng.integers(4):
        case 0:
            return recording
        case 1:
            duration = recording.t[-1] - recording.t[0]
            start, share = rng.random(), rng.integers(1, 10) / 10
            when = recording.t - recording.t[0]
            kept = (when < start * duration) | (when > (start + share) * duration)
        case 2:
            share = rng.integers(1, 6) / 20
            height, width = (max(1, round(share * size)) for size in recording.sensor)
            kept = ~_in_box(recording, height, width, rng)
        case _:
            dropped = rng.choice(count, int(rng.integers(1, 10) / 10 * count), replace=False)
            kept = np.ones(count, dtype=bool)
            kept[dropped] = False
    return select(recording, kept) if kept.any() else recording


def jitter(recording: Recording, deviation: float, rng: np.random.Generator) -> Recording:
    """Adds Gaussian noise of ``deviation`` microseconds to every timestamp (not below 0), and sorts the events."""
    shifts = np.rint(rng.normal(0, deviation, len(recording))).astype(np.int64)
    t = np.maximum(recording.t + shifts, 0)
    order = np.argsort(t, kind="stable")
    return select(Recording(recording.x, recording.y, t, recording.p, recording.sensor), order)


def _in_box(recording: Recording, height: int, width: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    top, left = (
        int(rng.integers(size - side + 1)) for size, side in zip(recording.sensor, (height, width), strict=True)
    )
    x, y = recording.x, recording.y
    return (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
