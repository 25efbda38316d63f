"""The embedded data set: scikit-learn's handwritten digits, 1797 scans of 8x8 pixels with 17 grey levels.

A copy of the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI, 1998, CC BY 4.0).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.splits import held_out, in_total
from step_ahsar.data.images.arrays import ArrayImages

TEST_SIZE = 500
CLASSES = tuple("0123456789")


def digits_split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the training and test images, the same for every run, machine and library version.

    The test set has ``TEST_SIZE`` images, of each class in proportion (largest remainders): those whose numbers have
    the smallest SHA-256.
    """
    is_test = held_out([f"digits/{i}" for i in range(len(labels))], labels, in_total(labels, TEST_SIZE))
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


@cache
def _scans() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All scans, [N, 8, 8], and their labels, [N]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


@cache
def digit_images() -> tuple[ArrayImages, ArrayImages]:
    """The training and the test images, from which the other embedded sets are made as well."""
    pixels, labels = _scans()
    train, test = (ArrayImages(pixels[part], labels[part]) for part in digits_split(labels))
    return train, test


@cache
def _open() -> Splits:
    pixels, labels = _scans()
    train, test = digit_images()
    return Splits(train, test, CLASSES, fingerprint_arrays([pixels, labels, *digits_split(labels)]))


def open_digits(config: DataConfig) -> Splits:
    """1297 training and 500 test images; ``config`` has no effect."""
    return _open()


register_dataset(
    DatasetSpec(
        name="digits",
        in_chans=1,
        size=16,
        mean=(0.3054,),
        std=(0.3760,),
        num_classes=10,
        open=open_digits,
        mirrors=False,
    )
)
