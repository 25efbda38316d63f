"""Images held in memory, and ``images``: a plain .npz file of images and labels."""

import zipfile
import zlib
from hashlib import sha256
from lzma import LZMAError
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.faults import DataFault
from step_ahsar.data.fingerprint import fingerprint_arrays
from step_ahsar.data.labels import class_names
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.root import given_root
from step_ahsar.errors import UserError

_SPLIT = ("x_train", "y_train", "x_test", "y_test")
_WHOLE = ("images", "labels")
_WANTED = f"{', '.join(_SPLIT)}, or {' and '.join(_WHOLE)} (and is_test)"
TEST_SHARE = 0.2


class ArrayImages:
    """Images held in memory: ``pixels`` uint8 [N, H, W] or [N, H, W, 3], ``labels`` int [N]."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.pixels, self.labels = pixels, labels

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def open_arrays(config: DataConfig) -> Splits:
    """An .npz file, all of it read: images uint8 [N, H, W] or [N, H, W, C] with C = 1 or 3, and labels, integers [N].

    Its arrays are ``x_train``, ``y_train``, ``x_test`` and ``y_test``; or ``images`` and ``labels``, of which a boolean
    ``is_test`` [N] tells the test images, or else :func:`choose_test`. ``classes`` may name the classes; without it
    they are the labels of the training images, which must then have no gaps. Mean and standard deviation are those of
    the training images.

    Raises:
        UserError: data.root is not set, or is no file.
        DataFault: not such a file, truncated, without those arrays, or with arrays of other types and shapes; labels
            out of range, unless ``on_error`` is ``skip``.
    """
    file = given_root(config, f"an .npz file of {_WANTED}")
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "is not there"
        raise UserError(
            f"dataset {config.name!r}: looked for an .npz file of {_WANTED} at {file} (data.root), which {what}"
        )
    arrays = _read(file)
    if all(key in arrays for key in _SPLIT):
        parts = [_check(file, arrays, images, labels) for images, labels in (_SPLIT[:2], _SPLIT[2:])]
    elif all(key in arrays for key in _WHOLE):
        images, labels = _check(file, arrays, *_WHOLE)
        test = _is_test(file, arrays, labels)
        parts = [(images[~test], labels[~test]), (images[test], labels[test])]
    else:
        raise DataFault(file, f"looked for arrays {_WANTED}; found {', '.join(sorted(arrays)) or 'none'}")
    classes = class_names(arrays, parts[0][1], file, "image")
    skipped: list[str] = []
    for i, (images, labels) in enumerate(parts):
        kept, faults = _in_range(file, labels, len(classes), ("training", "test")[i], config)
        if faults:
            parts[i] = images[kept], labels[kept]
            skipped += faults
    (train_images, train_labels), (test_images, test_labels) = parts
    if train_images.shape[1:] != test_images.shape[1:]:
        raise DataFault(
            file, f"images of shape {train_images.shape[1:]} in x_train, and of {test_images.shape[1:]} in x_test"
        )
    height, width = train_images.shape[1:3]
    mean, std = _statistics(train_images)
    return Splits(
        train=ArrayImages(train_images, train_labels),
        test=ArrayImages(test_images, test_labels),
        classes=classes,
        fingerprint=fingerprint_arrays([train_images, train_labels, test_images, test_labels]),
        skipped=tuple(skipped),
        in_chans=1 if train_images.ndim == 3 else 3,
        size=height if height == width else (height, width),
        mean=mean,
        std=std,
    )


def choose_test(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which samples are for testing, the same for every run and machine.

    They are a fifth of each class, namely those whose numbers have the smallest SHA-256.
    """
    is_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        numbers = np.flatnonzero(labels == label).tolist()
        numbers.sort(key=lambda number: sha256(f"images/{number}".encode()).digest())
        is_test[numbers[: round(TEST_SHARE * len(numbers))]] = True
    return is_test


def _read(file: Path) -> dict[str, NDArray]:
    with file.open("rb") as stream:
        if stream.read(4) not in (b"PK\3\4", b"PK\5\6"):  # an .npz file is a zip archive
            raise DataFault(file, "is not an .npz file, which numpy.savez writes")
        stream.seek(0)
        try:
            with np.load(stream, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        except (zipfile.BadZipFile, zlib.error, LZMAError, EOFError, OSError, RuntimeError) as error:
            raise DataFault(file, f"is truncated or damaged: {error}") from error
        except ValueError as error:
            raise DataFault(file, f"has an array of Python objects, or a damaged one: {error}") from error


def _check(file: Path, arrays: dict[str, NDArray], x: str, y: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = arrays[x], arrays[y]
    if images.dtype != np.uint8:
        raise DataFault(file, f"{x} must be of type uint8 (0 to 255), is {images.dtype}")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataFault(file, f"{x} must be of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3], is {images.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataFault(file, f"{y} must be integers, is {labels.dtype}")
    if labels.shape != images.shape[:1]:
        raise DataFault(file, f"{y} must have one label per image of {x}, ({len(images)},), is of shape {labels.shape}")
    if not images.size:
        raise DataFault(file, f"{x} has no images: its shape is {images.shape}")
    return images.squeeze(3) if images.shape[3:] == (1,) else images, labels.astype(np.int64)


def _is_test(file: Path, arrays: dict[str, NDArray], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    is_test = arrays.get("is_test")
    if is_test is None:
        is_test = choose_test(labels)
    elif is_test.shape != labels.shape or not np.isin(is_test, (0, 1)).all():
        raise DataFault(
            file, f"is_test must be true or false for each of {len(labels)} images, is {is_test.dtype} {is_test.shape}"
        )
    is_test = is_test.astype(bool)
    if is_test.all() or not is_test.any():
        raise DataFault(
            file, f"{is_test.sum()} of {len(labels)} images are for testing: none left for one of the splits"
        )
    return is_test


def _in_range(
    file: Path, labels: NDArray[np.int64], classes: int, part: str, config: DataConfig
) -> tuple[NDArray[np.bool_], list[str]]:
    """Which labels are 0 .. classes - 1, and what is wrong with the others; DataFault if the config does not skip."""
    good = (labels >= 0) & (labels < classes)
    bad = np.flatnonzero(~good)
    said = f"labels go from 0 to {classes - 1}"
    faults = [DataFault(file, f"{part} image {i} has label {labels[i]}, {said}") for i in bad]
    if faults and config.on_error == "raise":
        raise faults[0]
    if not good.any():
        raise DataFault(file, f"no {part} image has a label from 0 to {classes - 1}")
    return good, list(map(str, faults))


def _statistics(pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of values in [0, 1]; 1 for a channel that is constant."""
    values = np.arange(256) / 255
    mean, std = [], []
    for channel in pixels.reshape(*pixels.shape[:3], -1).transpose(3, 0, 1, 2):
        share = np.bincount(channel.ravel(), minlength=256) / channel.size
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)) or 1.0)
    return tuple(mean), tuple(std)


register_dataset(
    DatasetSpec(name="images", in_chans=None, size=None, mean=(), std=(), num_classes=None, open=open_arrays)
)
