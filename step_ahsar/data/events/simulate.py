"""A simulated event sensor, and ``digits_events``: what it records of the digits' scans while they move."""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.fingerprint import fingerprint_arrays
from step_ahsar.data.images.digits import open_digits
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.seeding import derive_seed
from step_ahsar.errors import UserError

THRESHOLD = 0.5  # contrast, in log intensity
NOISE_HZ = 1.0  # events per pixel and second that nothing in the scene causes
DARK = 0.1  # added to intensity: keeps the logarithm finite, and black from being infinitely far from grey

_SIZE = 32  # side of the sensor of digits_events
_SCALE = 3  # pixels of the sensor per pixel of a scan
_PATH = ((0, -2), (2, 2), (-2, 2), (0, -2))  # (x, y) of the scan's centre between saccades, in pixels of the sensor
_SACCADE_US = 100_000
_FRAMES = 16  # per saccade
_SPREAD = 2.0  # greatest distance of the path from the sensor's centre, per axis
_VERSION = 1  # to be raised with any change of what is recorded


def simulate(
    frames: NDArray,
    times_us: NDArray | Sequence[int],
    rng: np.random.Generator,
    threshold: float = THRESHOLD,
    noise_hz: float = NOISE_HZ,
) -> Recording:
    """What an event sensor records of a moving picture.

    A pixel remembers the log intensity of its last event, first that of the first frame. Whenever its log intensity,
    linear between frames, has moved away from there by ``threshold``, there is an event, and what is remembered moves
    by ``threshold`` (ESIM, Rebecq et al., CoRL 2018, section 3). Noise is a Poisson process at every pixel, of either
    polarity. The log intensity is log(0.1 + I).

    Args:
        frames: intensities I >= 0, where 1 is white, [F, H, W], F >= 2.
        times_us: when they were taken, in microseconds, increasing, [F].
        rng: what the noise is drawn from.
        threshold: contrast that makes an event.
        noise_hz: events of noise per pixel and second.

    Raises:
        UserError: frames and times that are not as above.
    """
    times = np.asarray(times_us, dtype=np.int64)
    if np.ndim(frames) != 3 or len(frames) < 2 or times.shape != (len(frames),) or (np.diff(times) <= 0).any():
        raise UserError(
            f"an event sensor needs two or more frames [F, H, W] at increasing times [F], got frames of shape "
            f"{np.shape(frames)} and times of shape {times.shape}"
        )
    if not np.min(frames) >= 0:
        raise UserError(f"an event sensor needs intensities >= 0, got {np.min(frames)}")
    count, height, width = frames.shape
    log = np.log(np.asarray(frames, dtype=np.float64) + DARK).reshape(count, -1)
    log = (log - log[0]) / threshold  # in which what a pixel remembers is a whole number
    below, above = np.floor(log), np.ceil(log)
    remembered = np.zeros_like(log)
    for i in range(1, count):
        np.minimum(np.maximum(remembered[i - 1], below[i]), above[i], out=remembered[i])

    frame, pixel = np.divmod(np.flatnonzero(remembered[1:] != remembered[:-1]), height * width)
    step = (remembered[frame + 1, pixel] - remembered[frame, pixel]).astype(np.int64)
    many = np.abs(step)
    nth = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many) + 1  # 1, 2, ... within each step
    frame, pixel, sign = np.repeat(frame, many), np.repeat(pixel, many), np.repeat(np.sign(step), many)
    start, end = log[frame, pixel], log[frame + 1, pixel]
    share = (remembered[frame, pixel] + sign * nth - start) / (end - start)
    t = times[frame] + np.rint(share * np.diff(times)[frame]).astype(np.int64)

    noise = rng.poisson(noise_hz * height * width * (times[-1] - times[0]) * 1e-6)
    t = np.concatenate([t, rng.integers(times[0], times[-1], noise, endpoint=True)])
    pixel = np.concatenate([pixel, rng.integers(0, height * width, noise)])
    on = np.concatenate([sign > 0, rng.integers(0, 2, noise) > 0])
    order = np.argsort(t, kind="stable")
    y, x = np.divmod(pixel[order], width)
    return Recording(x.astype(np.uint16), y.astype(np.uint16), t[order], on[order].astype(np.uint8), (height, width))


class SimulatedDigits:
    """Recordings of scans, simulated when they are first asked for and kept in memory.

    Args:
        pixels: scans, uint8 [N, 8, 8].
        labels: int [N].
        name: seeds the recordings, together with their index.
    """

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], name: str) -> None:
        self.pixels, self.labels, self.name = pixels, labels, name
        self._recordings: dict[int, Recording] = {}

    def __getitem__(self, index: int) -> tuple[Recording, int]:
        if index not in self._recordings:
            rng = np.random.default_rng(derive_seed("digits_events", self.name, index))
            self._recordings[index] = record_saccades(self.pixels[index] / 255, rng)
        return self._recordings[index], int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def record_saccades(scan: NDArray[np.float64], rng: np.random.Generator) -> Recording:
    """A scan in front of the sensor, moved by three saccades along a triangle, as in N-MNIST (Orchard et al., 2015).

    Args:
        scan: intensities in [0, 1], [8, 8]; shown bilinearly at 24 x 24 pixels, on black.
        rng: what the triangle's place and the noise are drawn from.

    Returns:
        300 ms on a sensor of 32 x 32 pixels.
    """
    times, path = _trajectory()
    centre = (_SIZE - 1) / 2 + rng.uniform(-_SPREAD, _SPREAD, 2) + path
    spots = (np.arange(len(scan)) - (len(scan) - 1) / 2) * _SCALE  # of the scan's pixels about its centre
    distance = np.arange(_SIZE)[:, None] - centre.T[:, :, None, None] - spots  # [2, F, 32, 8]
    across, down = np.maximum(0, 1 - np.abs(distance) / _SCALE)  # weights of bilinear interpolation
    return simulate(down @ scan @ across.swapaxes(1, 2), times, rng)


@cache
def _trajectory() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times in microseconds, [F], and positions (x, y), [F, 2]; each saccade starts and ends slowly."""
    corners = np.array(_PATH, dtype=np.float64)
    progress = np.arange(1, _FRAMES + 1) / _FRAMES
    eased = (1 - np.cos(np.pi * progress))[:, None] / 2
    moves = [start + eased * (end - start) for start, end in pairwise(corners)]
    path = np.concatenate([corners[:1], *moves])
    return np.rint(np.linspace(0, _SACCADE_US * len(moves), len(path))).astype(np.int64), path


@cache
def _open() -> Splits:
    digits = open_digits(DataConfig())
    train, test = (
        SimulatedDigits(split.pixels, split.labels, name)  # type: ignore[attr-defined]
        for split, name in ((digits.train, "train"), (digits.test, "test"))
    )
    numbers = (_VERSION, THRESHOLD, NOISE_HZ, DARK, _SIZE, _SCALE, _SACCADE_US, _FRAMES, _SPREAD)
    arrays = (train.pixels, train.labels, test.pixels, test.labels, numbers, _PATH)
    return Splits(train, test, digits.classes, fingerprint_arrays(arrays))


def open_digits_events(config: DataConfig) -> Splits:
    """Simulated recordings of the digits, 1297 for training and 500 for testing; nothing is read from ``config``."""
    return _open()


register_dataset(
    DatasetSpec(
        name="digits_events",
        in_chans=2,
        size=_SIZE,
        mean=(),
        std=(),
        num_classes=10,
        open=open_digits_events,
        mirrors=False,
        modality="event",
    )
)
