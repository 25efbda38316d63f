"""What the sets of series share: where they are, which keys apply, faults of items, statistics, padding."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from lzma import LZMAError
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig, SequenceConfig
from step_ahsar.data.faults import DataFault
from step_ahsar.data.root import given_root
from step_ahsar.errors import UserError

T = TypeVar("T")
R = TypeVar("R")


class PaddedSeries:
    """Series held in memory, all given the same length.

    Args:
        series: float32 [C, L_i] each.
        labels: class indices, int [N].
        length: zeros follow up to here, and longer series are cut.
    """

    def __init__(self, series: Sequence[NDArray[np.float32]], labels: NDArray[Any], length: int) -> None:
        self.series, self.labels, self.length = series, labels, length

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        series = self.series[index]
        whole = np.zeros((len(series), self.length), np.float32)
        whole[:, : series.shape[1]] = series[:, : self.length]
        return whole, int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def find_root(config: DataConfig, holds: str, source: str) -> Path:
    """Where ``data.root`` points. Raises UserError, saying what is looked for and where it comes from, if not there."""
    root = given_root(config, f"{holds}; from {source}")
    if not root.exists():
        raise not_found(config, holds, source)
    return root


def not_found(config: DataConfig, holds: str, source: str) -> UserError:
    """The error for a root that does not hold the set."""
    hint = "; nothing is fetched for this set by data.download" if config.download else ""
    return UserError(
        f"dataset {config.name!r}: looked for {holds} in {config.root} (data.root), not found; get it from "
        f"{source}{hint}"
    )


def check_keys(config: DataConfig, *used: str) -> None:
    """Raises UserError for keys of ``data.sequence`` that this set does not use; ``axis`` is every set's."""
    for key in SequenceConfig.model_fields:
        if key not in ("axis", *used) and getattr(config.sequence, key) != getattr(SequenceConfig(), key):
            raise UserError(f"data.sequence.{key} does not apply to dataset {config.name!r}")


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file. Raises DataFault if it is no ``.npz``, is damaged or holds Python objects."""
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except (BadZipFile, LZMAError, ZlibError, EOFError, OSError, ValueError, AttributeError, TypeError) as error:
        if "Object arrays" in str(error):
            raise DataFault(
                path, "holds Python objects; series of several lengths go one after the other, with an array `offsets`"
            ) from error
        raise DataFault(path, f"cannot be read as .npz: {error or type(error).__name__}") from error


def take(arrays: Mapping[str, NDArray[Any]], names: Iterable[str], where: Path) -> list[NDArray[Any]]:
    """The arrays so named. Raises DataFault if one is missing."""
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataFault(where, f"has no array {missing[0]!r}; found {', '.join(sorted(arrays)) or 'none'}")
    return [arrays[name] for name in names]


def check_integers(values: NDArray[Any], name: str, where: Path, count: int | None = None) -> None:
    """Raises DataFault unless ``values`` are integers [N], one for each of ``count`` samples if that is given."""
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise DataFault(where, f"{name} must be integers [N], got {values.dtype} {list(values.shape)}")
    if count is not None and len(values) != count:
        raise DataFault(where, f"{name} has {len(values)} values for {count} samples")


def check_offsets(offsets: NDArray[Any], total: int, where: Path) -> list[slice]:
    """Where each item lies in arrays of ``total`` entries. Raises DataFault unless ``offsets`` rise within them."""
    check_integers(offsets, "offsets", where)
    offsets = offsets.astype(np.int64)
    if not len(offsets) or offsets[0] < 0 or (np.diff(offsets) <= 0).any() or offsets[-1] > total:
        raise DataFault(where, f"offsets must rise from at least 0 to at most {total}, the length of what they divide")
    return [slice(start, stop) for start, stop in pairwise(offsets.tolist())]


def check_split(is_test: NDArray[np.bool_], config: DataConfig, where: Path, hint: str = "") -> None:
    """Raises UserError unless there are samples both to train and to test on."""
    for part, chosen in (("training", ~is_test), ("test", is_test)):
        if not chosen.any():
            raise UserError(f"dataset {config.name!r}: {where} has no usable {part} samples{hint}")


def outside(labels: NDArray[Any], classes: int, name: str) -> dict[int, str]:
    """Faults of labels that are not 0 .. classes - 1, by index."""
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    return {int(i): f"{name}[{i}] is {labels[i]}, labels go from 0 to {classes - 1}" for i in bad}


def usable(faults: Mapping[int, str], count: int, where: Path, config: DataConfig) -> tuple[NDArray[Any], list[str]]:
    """The indices below ``count`` without fault, and "file: fault" of the others.

    Raises:
        DataFault: the first fault, unless ``on_error`` is ``skip``.
    """
    skipped = [DataFault(where, faults[i]) for i in sorted(faults)]
    if skipped and config.on_error == "raise":
        raise skipped[0]
    return np.setdiff1d(np.arange(count), list(faults)), list(map(str, skipped))


def read_all(items: Iterable[T], read: Callable[[T], R], config: DataConfig) -> tuple[list[R], list[str]]:
    """What ``read`` makes of each item, and "file: fault" of those left out; see :func:`usable`."""
    values, skipped = [], []
    for item in items:
        try:
            values.append(read(item))
        except DataFault as fault:
            if config.on_error == "raise":
                raise
            skipped.append(str(fault))
    return values, skipped


def standardise(
    train: Sequence[NDArray[Any]], test: Sequence[NDArray[Any]]
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Series [C, L_i] less the mean of their channel, in its standard deviations, both of the training samples alone.

    A channel that is constant in training only loses its mean.
    """
    count = sum(series.shape[1] for series in train)
    mean = sum(series.sum(axis=1, dtype=np.float64) for series in train) / count
    var = sum(np.square(series - mean[:, None]).sum(axis=1) for series in train) / count
    std = np.sqrt(var)
    std[std <= 1e-7 * np.abs(mean)] = 1.0  # below what float32 resolves
    shift, scale = mean[:, None], std[:, None]
    normalised = [[((series - shift) / scale).astype(np.float32) for series in split] for split in (train, test)]
    return normalised[0], normalised[1]
