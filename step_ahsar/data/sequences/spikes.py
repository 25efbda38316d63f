"""Spike audio: the Spiking Heidelberg Digits and the Spiking Speech Commands, from their HDF5 files.

B. Cramer, Y. Stradmann, J. Schemmel and F. Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of
Spiking Neural Networks", IEEE TNNLS 2022, arXiv 1910.07407. An artificial cochlea of 700 channels converted spoken
words to spikes. SSC has a validation split as well.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, not_found
from step_ahsar.data.common.fingerprint import fingerprint_files
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.sequences.arrays import check_integers, check_keys, outside
from step_ahsar.errors import UserError

UNITS = 700
_SOURCE = "https://zenkelab.org/datasets/"
_ARRAYS = ("spikes/times", "spikes/units", "labels")


def bin_spikes(
    times: NDArray[Any], units: NDArray[Any], bins: int, channels: int, duration: float
) -> NDArray[np.float32]:
    """Counts of spikes, float32 [channels, bins].

    Bin b covers the times from b * duration / bins up to the next bin. Spikes after the last bin are counted in it.
    Neighbouring units are merged: unit u belongs to channel floor(u * channels / 700).

    Args:
        times: times in seconds, [N].
        units: units from 0 to 699, [N].
        bins: number of bins, of equal width.
        channels: number of channels, at most 700.
        duration: duration of all bins together, in seconds.
    """
    step = np.minimum(times.astype(np.float64) * (bins / duration), bins - 1).astype(np.int64)
    channel = units.astype(np.int64) * channels // UNITS
    counts = np.bincount(channel * bins + step, minlength=channels * bins)
    return counts.reshape(channels, bins).astype(np.float32)


class SpikeSeries:
    """Recordings in one HDF5 file. They are read and binned when they are needed; counts are not normalised.

    Args:
        path: the file.
        indices: indices of the chosen recordings in the file.
        every_label: labels of all recordings in the file.
        classes: number of classes.
        bins: see :func:`bin_spikes`.
        channels: see :func:`bin_spikes`.
        duration: see :func:`bin_spikes`.
    """

    def __init__(
        self,
        path: Path,
        indices: list[int],
        every_label: NDArray[Any],
        classes: int,
        *,
        bins: int,
        channels: int,
        duration: float,
    ) -> None:
        self.path, self.indices, self.every_label = path, indices, every_label
        self.faults = outside(every_label, classes, "labels")
        self.binning = partial(bin_spikes, bins=bins, channels=channels, duration=duration)

    @property
    def labels(self) -> NDArray[Any]:
        """Class indices of the chosen recordings."""
        return self.every_label[self.indices]

    def read(self, index: int) -> tuple[NDArray[np.float32], int]:
        """The recording with this index in the file. Raises DataFault if it cannot be used."""
        h5py = _h5py()
        where = f"{self.path}, sample {index}"
        if index in self.faults:
            raise DataFault(self.path, self.faults[index])
        try:
            # Opened for every sample (0.2 ms), because an open file must not be passed to a loading process.
            with h5py.File(self.path, "r") as file:
                times, units = file["spikes/times"][index], file["spikes/units"][index]
        except (OSError, KeyError) as error:
            raise DataFault(where, f"cannot be read: {error}") from error
        if len(times) != len(units):
            raise DataFault(where, f"must have one unit per spike time, got {len(times)} times and {len(units)} units")
        if not np.isfinite(times).all() or (times < 0).any():
            raise DataFault(where, "spike times must be numbers >= 0, in seconds")
        if len(units) and (units.min() < 0 or units.max() >= UNITS):
            raise DataFault(where, f"units must be from 0 to {UNITS - 1}, got {units.min()} to {units.max()}")
        return self.binning(times, units), int(self.every_label[index])

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
    """The labels in a file, and the names of the classes if it has them."""
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
    """``<prefix>_train.h5``, ``<prefix>_test.h5`` and, if it exists, ``<prefix>_valid.h5`` in ``config.root``.

    Series are counts [``sequence.channels``, ``sequence.bins``], see :func:`bin_spikes`.

    Raises:
        UserError: a file is not found or still compressed, h5py is missing, there are more channels than units.
        DataFault: a file or recording that cannot be used.
    """
    check_keys(config, "bins", "channels")
    sequence = config.sequence
    if sequence.channels > UNITS:
        raise UserError(f"data.sequence.channels must be <= {UNITS}, got {sequence.channels}")
    _h5py()
    holds = f"{prefix}_train.h5 and {prefix}_test.h5"
    root = existing_root(config, holds, _SOURCE)
    parts = {"train": root / f"{prefix}_train.h5", "test": root / f"{prefix}_test.h5"}
    for file in parts.values():
        packed = [path for path in (file.with_name(f"{file.name}.{end}") for end in ("gz", "zip")) if path.exists()]
        if not file.exists() and packed:
            raise UserError(f"dataset {config.name!r}: {packed[0]} is compressed: unpack it to {file.name}")
        if not file.exists():
            raise not_found(config, holds, _SOURCE)
    if config.validation and (valid := root / f"{prefix}_valid.h5").exists():
        parts["validation"] = valid
    splits: dict[str, SpikeSeries] = {}
    faults = Faults(config)
    names: tuple[str, ...] = ()
    for part, file in parts.items():
        labels, keys = _inspect(file)
        names = names or keys
        every = SpikeSeries(
            file, [], labels, num_classes, bins=sequence.bins, channels=sequence.channels, duration=duration
        )
        every.indices = faults.readable(range(len(labels)), every.read)
        splits[part] = every
    return Splits(
        train=splits["train"],
        test=splits["test"],
        classes=names if len(names) == num_classes else tuple(map(str, range(num_classes))),
        fingerprint=fingerprint_files(root, {part: [file] for part, file in parts.items()}, config),
        validation=splits.get("validation"),
        skipped=tuple(faults.found),
        in_chans=sequence.channels,
        size=sequence.bins,
    )


def _register(name: str, num_classes: int, duration: float) -> None:
    opener = partial(open_spikes, prefix=name, num_classes=num_classes, duration=duration)
    register_dataset(
        DatasetSpec(name, None, None, (), (), num_classes, opener, mirrors=False, modality="sequence", ndim=1)
    )


# Durations in seconds: the longest word of SHD is a little shorter than 1.4, the clips of SSC last 1.
_register("shd", 20, 1.4)
_register("ssc", 35, 1.0)
