"""Common code of the sets of series: padding, checks of keys and arrays, normalisation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig, SequenceConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import PARTS
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.hub import Rows
from step_ahsar.data.common.registry import DatasetSpec, Splits
from step_ahsar.errors import UserError

EVERY_SET = ("axis", "length", "fit")  # keys of data.sequence that apply to every set of series


class PaddedSeries:
    """Series in memory, padded or cut to the same length.

    Args:
        series: float32 [C, L_i] each.
        labels: class indices, int [N].
        length: shorter series are padded with zeros, longer ones are cut.
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


def check_keys(config: DataConfig, *used: str) -> None:
    """Raises UserError if a key of ``data.sequence`` is set that this data set does not use."""
    for key in SequenceConfig.model_fields:
        if key not in (*EVERY_SET, *used) and getattr(config.sequence, key) != getattr(SequenceConfig(), key):
            raise UserError(f"data.sequence.{key} does not apply to dataset {config.name!r}")


def take(arrays: Mapping[str, NDArray[Any]], names: Iterable[str], where: Path) -> list[NDArray[Any]]:
    """The arrays with these names. Raises DataFault if one is missing."""
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
    """The slice of each item in an array of ``total`` entries. Raises DataFault unless ``offsets`` increase in it."""
    check_integers(offsets, "offsets", where)
    offsets = offsets.astype(np.int64)
    if not len(offsets) or offsets[0] < 0 or (np.diff(offsets) <= 0).any() or offsets[-1] > total:
        raise DataFault(
            where,
            f"offsets must increase from at least 0 to at most {total}, the number of values, got "
            f"{offsets[:4].tolist()} ... {offsets[-1:].tolist()}",
        )
    return [slice(start, stop) for start, stop in pairwise(offsets.tolist())]


def outside(labels: NDArray[Any], classes: int, name: str) -> dict[int, str]:
    """Faults of labels that are not 0 .. classes - 1, by index."""
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    return {int(i): f"{name}[{i}] is {labels[i]}, labels go from 0 to {classes - 1}" for i in bad}


def standardise(
    train: Sequence[NDArray[Any]], *others: Sequence[NDArray[Any]]
) -> tuple[list[NDArray[np.float32]], ...]:
    """Normalises series [C, L_i] by the mean and the standard deviation of each channel over the training samples.

    Of a channel that is constant in training only the mean is subtracted.
    """
    count = sum(series.shape[1] for series in train)
    mean = sum(series.sum(axis=1, dtype=np.float64) for series in train) / count
    var = sum(np.square(series - mean[:, None]).sum(axis=1) for series in train) / count
    std = np.sqrt(var)
    std[std <= 1e-7 * np.abs(mean)] = 1.0  # smaller than the rounding of float32
    shift, scale = mean[:, None], std[:, None]
    return tuple([((series - shift) / scale).astype(np.float32) for series in split] for split in (train, *others))


@dataclass(frozen=True)
class Found:
    """What was found in a file or folder: samples of all parts, one after the other.

    Args:
        samples: series [C, L_i], or clips [S_i].
        labels: class indices, int [N].
        part: indices in ``PARTS``: 0 = training, 1 = validation, 2 = test; int [N].
        classes: names of the classes.
        test_held_out: whether test samples were held out because there is no test part.
    """

    samples: Sequence[NDArray[Any]]
    labels: NDArray[Any]
    part: NDArray[np.int64]
    classes: tuple[str, ...]
    test_held_out: bool = False

    @property
    def fingerprint(self) -> str:
        """Of the content, and of which sample is in which part."""
        validation = self.part == 1
        return fingerprint_arrays(
            [*self.samples, self.labels, self.part == 2, *([validation] if validation.any() else [])]
        )

    def splits(self, series: Sequence[NDArray[Any]], length: int | None, skipped: Sequence[str]) -> Splits:
        """The series [C, L_i] of the samples, normalised by those of the training part, padded or cut to a length.

        Args:
            series: one of each sample.
            length: None = that of the longest.
            skipped: files that were left out.
        """
        length = length or max(values.shape[1] for values in series)
        every = [np.flatnonzero(self.part == number).tolist() for number in range(len(PARTS))]
        normalised = standardise(*([series[i] for i in chosen] for chosen in every))
        train, validation, test = (
            PaddedSeries(values, self.labels[chosen], length) for values, chosen in zip(normalised, every, strict=True)
        )
        return Splits(
            train=train,
            test=test,
            classes=self.classes,
            fingerprint=self.fingerprint,
            validation=validation if len(validation) else None,
            test_held_out=self.test_held_out,
            skipped=tuple(skipped),
            in_chans=len(series[0]),
            size=length,
        )


def parts_of(is_test: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The part of each sample of a set without a validation part, as in :class:`Found`."""
    return 2 * is_test.astype(np.int64)


def found_in(rows: Rows, read: Callable[[int], NDArray[Any]], faults: Faults) -> Found:
    """The samples of a table that can be used.

    Args:
        rows: those of the table.
        read: makes a series or a clip of the row with a number. Raises DataFault if it cannot.
        faults: records the rows that cannot be used.
    """
    items = faults.read(range(len(rows)), lambda index: (index, read(index)))
    kept = rows.take([index for index, _ in items])
    return Found([sample for _, sample in items], kept.labels, kept.part, kept.classes, kept.test_held_out)


# What is known before it is opened of a set of series whose channels and length are its own.
series_of_any_shape = partial(
    DatasetSpec,
    in_chans=None,
    size=None,
    mean=(),
    std=(),
    num_classes=None,
    mirrors=False,
    modality="sequence",
    ndim=1,
    titles=None,
)
