"""Class names of files that hold arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.faults import DataFault


def class_names(
    arrays: Mapping[str, NDArray[Any]], labels: NDArray[Any], where: Path, what: str = "sample"
) -> tuple[str, ...]:
    """The file's own names, in its array `classes`, or the labels of the training samples.

    Args:
        arrays: the file's, by name.
        labels: of the training samples, [N]; negative ones do not count.
        where: the file, for messages.
        what: a sample is called in them.

    Raises:
        DataFault: no names, and labels with a gap.
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
