"""The embedded data set: scikit-learn's handwritten digits, 1797 scans of 8x8 pixels with 17 grey levels.

A copy of the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI, 1998, CC BY 4.0).
"""

from functools import cache
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.fingerprint import fingerprint_arrays
from step_ahsar.data.images.arrays import ArrayImages
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset

TEST_SIZE = 500


def digits_split(labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices of the training and test images, the same for every run, machine and library version.

    Each class gives the test set its share of ``TEST_SIZE`` (largest remainders), namely the images whose numbers have
    the smallest SHA-256.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = TEST_SIZE * counts / len(labels)
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: TEST_SIZE - quotas.sum()]] += 1
    rank = {i: sha256(f"digits/{i}".encode()).digest() for i in range(len(labels))}
    test: set[int] = set()
    for label, quota in zip(classes, quotas, strict=True):
        test.update(sorted(np.flatnonzero(labels == label).tolist(), key=rank.__getitem__)[:quota])
    order = np.arange(len(labels))
    is_test = np.isin(order, list(test))
    return order[~is_test], order[is_test]


@cache
def _open() -> Splits:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = digits_split(labels)
    return Splits(
        train=ArrayImages(pixels[train], labels[train]),
        test=ArrayImages(pixels[test], labels[test]),
        classes=tuple("0123456789"),
        fingerprint=fingerprint_arrays([pixels, labels, train, test]),
    )


def open_digits(config: DataConfig) -> Splits:
    """1297 training and 500 test images; nothing is read from ``config``."""
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
