"""``digits_events``: recordings of the moving digits by a simulated event camera."""

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.seeding import derive_seed
from step_ahsar.data.embedded.digits import CLASSES, digit_images
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.simulate import DARK, NOISE_HZ, THRESHOLD, simulate

_SIZE = 32  # side of the sensor of digits_events
_SCALE = 3  # pixels of the sensor per pixel of a scan
_PATH = ((0, -2), (2, 2), (-2, 2), (0, -2))  # (x, y) of the scan's centre between saccades, in pixels of the sensor
_SACCADE_US = 100_000
_FRAMES = 16  # per saccade
_SPREAD = 2.0  # largest distance of the path's centre from the sensor's centre, per axis
_VERSION = 1  # must be raised with any change of the recordings


class SimulatedDigits:
    """Recordings of scans. They are simulated at their first access and kept in memory.

    Args:
        pixels: scans, uint8 [N, 8, 8].
        labels: int [N].
        name: part of the seed of each recording, together with its index.
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
        rng: generator of the triangle's place and of the noise.

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
    train, test = (
        SimulatedDigits(images.pixels, images.labels, name)
        for images, name in zip(digit_images(), ("train", "test"), strict=True)
    )
    numbers = (_VERSION, THRESHOLD, NOISE_HZ, DARK, _SIZE, _SCALE, _SACCADE_US, _FRAMES, _SPREAD)
    arrays = (train.pixels, train.labels, test.pixels, test.labels, numbers, _PATH)
    return Splits(train, test, CLASSES, fingerprint_arrays(arrays))


def open_digits_events(config: DataConfig) -> Splits:
    """Simulated recordings of the digits, 1297 for training and 500 for testing; ``config`` has no effect."""
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
