"""Images held in memory, and ``images``: a plain .npz file of images and labels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, read_npz
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.labels import class_names
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.splits import held_out, names_for_test, share_for_test, share_of_each
from step_ahsar.errors import UserError

_SPLIT = ("x_train", "y_train", "x_test", "y_test")
_WHOLE = ("images", "labels")
_WANTED = f"{', '.join(_SPLIT)}, or {' and '.join(_WHOLE)} (and is_test)"


class ArrayImages:
    """Images held in memory: ``pixels`` uint8 [N, H, W] or [N, H, W, 3], ``labels`` int [N]."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        self.pixels, self.labels = pixels, labels

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pixels[index]), int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def open_arrays(config: DataConfig) -> Splits:
    """An .npz file of images uint8 [N, H, W] or [N, H, W, C] with C = 1 or 3, and of labels, integers [N].

    The file has the arrays ``x_train``, ``y_train``, ``x_test`` and ``y_test``. Or it has ``images`` and ``labels``,
    and ``is_test``, bool [N]; without ``is_test``, ``data.test_share`` of each class is held out for testing. An array
    ``classes`` may name the classes. Without it they are the labels of the training images, which must have no gaps.
    Mean and standard deviation are those of the training images.

    Raises:
        UserError: data.root is not set, or is not a file.
        DataFault: the file is damaged or not such a file, an array is missing or has another type or shape, or a label
            is out of range (unless ``on_error`` is ``skip``).
    """
    file = existing_root(config, f"an .npz file of {_WANTED}")
    if not file.is_file():
        raise UserError(
            f"dataset {config.name!r}: {file} (data.root) is a folder; it must be an .npz file of {_WANTED}"
        )
    arrays, faults, divided = read_npz(file), Faults(config), False
    if all(key in arrays for key in _SPLIT):
        parts = [_check(file, arrays, images, labels) for images, labels in (_SPLIT[:2], _SPLIT[2:])]
    elif all(key in arrays for key in _WHOLE):
        images, labels = _check(file, arrays, *_WHOLE)
        divided = "is_test" not in arrays
        test = _is_test(file, arrays, labels, config)
        parts = [(images[~test], labels[~test]), (images[test], labels[test])]
    else:
        raise DataFault(file, f"looked for arrays {_WANTED}; found {', '.join(sorted(arrays)) or 'none'}")
    classes = class_names(arrays, parts[0][1], file, "image")
    for i, (images, labels) in enumerate(parts):
        kept = _in_range(file, labels, len(classes), ("training", "test")[i], faults)
        if len(kept) < len(labels):
            parts[i] = images[kept], labels[kept]
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
        test_held_out=divided,
        skipped=tuple(faults.found),
        in_chans=1 if train_images.ndim == 3 else 3,
        size=height if height == width else (height, width),
        mean=mean,
        std=std,
    )


def _check(file: Path, arrays: dict[str, NDArray], x: str, y: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, labels = arrays[x], arrays[y]
    if images.dtype != np.uint8:
        raise DataFault(file, f"{x} must be of type uint8 (0 to 255), is {images.dtype}")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataFault(file, f"{x} must be of shape [N, H, W], [N, H, W, 1] or [N, H, W, 3], is {images.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataFault(file, f"{y} must be integers, is {labels.dtype}")
    if labels.shape != images.shape[:1]:
        raise DataFault(
            file, f"{y} must have one label for each of the {len(images)} images of {x}, got shape {list(labels.shape)}"
        )
    if not images.size:
        raise DataFault(file, f"{x} has no images: its shape is {images.shape}")
    return images.squeeze(3) if images.shape[3:] == (1,) else images, labels.astype(np.int64)


def _is_test(
    file: Path, arrays: dict[str, NDArray], labels: NDArray[np.int64], config: DataConfig
) -> NDArray[np.bool_]:
    is_test = arrays.get("is_test")
    if is_test is None:
        names = names_for_test(config, [f"images/{number}" for number in range(len(labels))])
        is_test = held_out(names, labels, share_of_each(labels, share_for_test(config)))
    elif is_test.shape != labels.shape or not np.isin(is_test, (0, 1)).all():
        raise DataFault(
            file, f"is_test must be true or false for each of {len(labels)} images, is {is_test.dtype} {is_test.shape}"
        )
    is_test = is_test.astype(bool)
    if is_test.all() or not is_test.any():
        raise DataFault(file, f"{is_test.sum()} of {len(labels)} images are for testing: one of the splits is empty")
    return is_test


def _in_range(file: Path, labels: NDArray[np.int64], classes: int, part: str, faults: Faults) -> NDArray[np.int64]:
    """Indices of the images whose labels are 0 .. classes - 1."""
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    wrong = {int(i): f"{part} image {i} has label {labels[i]}, labels go from 0 to {classes - 1}" for i in bad}
    kept = faults.without(wrong, len(labels), file)
    if not len(kept):
        raise DataFault(file, f"no {part} image has a label from 0 to {classes - 1}")
    return kept


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
    DatasetSpec(
        name="images", in_chans=None, size=None, mean=(), std=(), num_classes=None, open=open_arrays, titles=None
    )
)
