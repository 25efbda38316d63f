"""Spike audio: the Spiking Heidelberg Digits and the Spiking Speech Commands, from their HDF5 files.

B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of
Spiking Neural Networks", IEEE TNNLS 2022, arXiv 1910.07407. An artificial cochlea of 700 channels turned spoken words
into spikes. The published splits are train and test; the validation split of SSC is left alone.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.faults import DataFault, screen
from step_ahsar.data.fingerprint import fingerprint_files
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.sequences.arrays import check_integers, check_keys, find_root, not_found, outside
from step_ahsar.errors import UserError

UNITS = 700
_SOURCE = "https://zenkelab.org/datasets/"
_ARRAYS = ("spikes/times", "spikes/units", "labels")


def bin_spikes(
    times: NDArray[Any], units: NDArray[Any], bins: int, channels: int, duration: float
) -> NDArray[np.float32]:
    """Counts of spikes, float32 [channels, bins].

    Bin b holds the times from b duration / bins up to the next bin; later spikes are counted in the last bin, so that
    none is dropped. Neighbouring units share a channel: unit u goes to channel floor(u channels / 700).

    Args:
        times: seconds, [N].
        units: 0 .. 699, [N].
        bins: of equal width.
        channels: at most 700.
        duration: of all bins, in seconds.
    """
    step = np.minimum(times.astype(np.float64) * (bins / duration), bins - 1).astype(np.int64)
    channel = units.astype(np.int64) * channels // UNITS
    counts = np.bincount(channel * bins + step, minlength=channels * bins)
    return counts.reshape(channels, bins).astype(np.float32)


class SpikeSeries:
    """Recordings of one HDF5 file, read and binned when they are asked for. Counts are not normalised.

    Args:
        path: the file.
        indices: of the recordings, in the file.
        labels: of all recordings in the file.
        classes: how many there are.
        bins: see :func:`bin_spikes`.
        channels: see :func:`bin_spikes`.
        duration: see :func:`bin_spikes`.
    """

    def __init__(
        self,
        path: Path,
        indices: list[int],
        labels: NDArray[Any],
        classes: int,
        *,
        bins: int,
        channels: int,
        duration: float,
    ) -> None:
        self.path, self.indices, self.labels = path, indices, labels
        self.faults = outside(labels, classes, "labels")
        self.binning = partial(bin_spikes, bins=bins, channels=channels, duration=duration)

    def read(self, index: int) -> tuple[NDArray[np.float32], int]:
        """The recording at this index of the file. Raises DataFault if it is wrong."""
        h5py = _h5py()
        where = f"{self.path}, sample {index}"
        if index in self.faults:
            raise DataFault(self.path, self.faults[index])
        try:
            # Opened anew each time (0.2 ms), for an open file must not cross into a loading process.
            with h5py.File(self.path, "r") as file:
                times, units = file["spikes/times"][index], file["spikes/units"][index]
        except (OSError, KeyError) as error:
            raise DataFault(where, f"cannot be read: {error}") from error
        if len(times) != len(units):
            raise DataFault(where, f"{len(times)} spike times and {len(units)} units")
        if not np.isfinite(times).all() or (times < 0).any():
            raise DataFault(where, "spike times must be numbers >= 0, in seconds")
        if len(units) and (units.min() < 0 or units.max() >= UNITS):
            raise DataFault(where, f"units must be from 0 to {UNITS - 1}, got {units.min()} to {units.max()}")
        return self.binning(times, units), int(self.labels[index])

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        return self.read(self.indices[index])

    def __len__(self) -> int:
        return len(self.indices)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise UserError("spike audio needs h5py: pip install 'step-ahsar[events]'") from error
    return h5py


def _inspect(path: Path) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Labels of a file, and names of its classes if it has them."""
    try:
        with _h5py().File(path, "r") as file:
            missing = [name for name in _ARRAYS if name not in file]
            if missing:
                raise DataFault(path, f"has no {missing[0]!r}; spike audio has {', '.join(_ARRAYS)}")
            labels = file["labels"][()]
            lengths = {name: len(file[name]) for name in _ARRAYS}
            keys = file["extra/keys"][()] if "extra/keys" in file else ()
    except OSError as error:
        raise DataFault(path, f"cannot be read as HDF5, it may be truncated: {error}") from error
    if len(set(lengths.values())) > 1:
        raise DataFault(path, "arrays differ in length: " + ", ".join(f"{k} {n}" for k, n in lengths.items()))
    check_integers(labels, "labels", path)
    return labels.astype(np.int64), tuple(key.decode() if isinstance(key, bytes) else str(key) for key in keys)


def open_spikes(config: DataConfig, prefix: str, num_classes: int, duration: float) -> Splits:
    """``<prefix>_train.h5`` and ``<prefix>_test.h5`` in ``config.root``.

    Series are counts [``sequence.channels``, ``sequence.bins``], see :func:`bin_spikes`.

    Raises:
        UserError: not found, still compressed, h5py is missing, more channels than units; DataFault: a file or, when
            it is read, a recording that cannot be used.
    """
    check_keys(config, "bins", "channels")
    sequence = config.sequence
    if sequence.channels > UNITS:
        raise UserError(f"data.sequence.channels must be <= {UNITS}, got {sequence.channels}")
    _h5py()
    holds = f"{prefix}_train.h5 and {prefix}_test.h5"
    root = find_root(config, holds, _SOURCE)
    files = [root / f"{prefix}_{part}.h5" for part in ("train", "test")]
    for file in files:
        packed = [path for path in (file.with_name(f"{file.name}.{end}") for end in ("gz", "zip")) if path.exists()]
        if not file.exists() and packed:
            raise UserError(f"dataset {config.name!r}: {packed[0]} is compressed: unpack it to {file.name}")
        if not file.exists():
            raise not_found(config, holds, _SOURCE)
    splits: list[SpikeSeries] = []
    skipped: list[str] = []
    names: tuple[str, ...] = ()
    for file in files:
        labels, keys = _inspect(file)
        names = names or keys
        every = SpikeSeries(
            file, [], labels, num_classes, bins=sequence.bins, channels=sequence.channels, duration=duration
        )
        every.indices, faults = screen(range(len(labels)), every.read, config)
        splits.append(every)
        skipped += faults
    return Splits(
        train=splits[0],
        test=splits[1],
        classes=names if len(names) == num_classes else tuple(map(str, range(num_classes))),
        fingerprint=fingerprint_files(root, files),
        skipped=tuple(skipped),
        in_chans=sequence.channels,
        size=sequence.bins,
    )


def _register(name: str, num_classes: int, duration: float) -> None:
    opener = partial(open_spikes, prefix=name, num_classes=num_classes, duration=duration)
    register_dataset(
        DatasetSpec(name, None, None, (), (), num_classes, opener, mirrors=False, modality="sequence", ndim=1)
    )


# Durations that hold the recordings, in seconds: the longest word of SHD lasts a little less, the clips of SSC one.
_register("shd", 20, 1.4)
_register("ssc", 35, 1.0)
