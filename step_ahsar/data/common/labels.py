"""Class labels and class names in files of arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.faults import DataFault

_NAMES = ("label", "labels", "y")


def find_labels(arrays: Mapping[str, NDArray[Any]], besides: str = "") -> str:
    """Name of the array with the classes of a file's samples; "label" if there is none.

    Args:
        arrays: the file's arrays, by name. In a file of events (with polarities ``p``), ``y`` is not a class but a row.
        besides: a further name, which takes precedence.
    """
    names = [name for name in (besides, *_NAMES) if name and not (name == "y" and "p" in arrays)]
    return next((name for name in names if name in arrays), "label")


def class_names(
    arrays: Mapping[str, NDArray[Any]], labels: NDArray[Any], where: Path, what: str = "sample"
) -> tuple[str, ...]:
    """Names of the classes: the file's array `classes`, or else the labels of the training samples.

    Args:
        arrays: the file's arrays, by name.
        labels: labels of the training samples, [N]; negative ones are ignored.
        where: the file, for messages.
        what: what a sample is called in messages.

    Raises:
        DataFault: there are no names, and the labels have a gap.
    """
    if "classes" in arrays:
        return tuple(map(str, arrays["classes"].ravel()))
    present = np.unique(labels[labels >= 0])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps):
        raise DataFault(
            where,
            f"labels go up to {present[-1]}, but no training {what} has label {gaps[0]}; an array `classes` may name "
            f"classes without {what}s",
        )
    return tuple(map(str, present))
