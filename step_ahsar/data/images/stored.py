"""Images through timm.data.create_dataset: torchvision's sets, folders of images by class, the hub's sets, streams."""

import importlib.util
import os
from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from timm.data import create_dataset, get_img_extensions

from step_ahsar.config import DataConfig
from step_ahsar.data.faults import DataFault, screen
from step_ahsar.data.fingerprint import fingerprint_arrays, fingerprint_files
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.root import given_root
from step_ahsar.errors import UserError

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("val", "valid", "validation", "eval", "evaluation", "test")


class StoredImages:
    """Images on disk, read when they are needed: RGB, with the class index that timm's reader gives.

    Args:
        reader: timm's, of a folder, a tar file or a hub's data set.
        indices: which of its images; None = all.
    """

    def __init__(self, reader: Any, indices: list[int] | None = None) -> None:
        self.reader, self.indices = reader, list(range(len(reader))) if indices is None else indices

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Raises DataFault for what is no image, or only part of one."""
        number = self.indices[index]
        try:
            file, label = self.reader[number]
            return Image.open(file).convert("RGB"), int(label)
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises each of them for damaged files
            raise DataFault(self.reader.filename(number, absolute=True), f"not a readable image: {error}") from error

    def __len__(self) -> int:
        return len(self.indices)


def open_torchvision(config: DataConfig, holds: str) -> Splits:
    """One of torchvision's sets; ``holds`` is what it keeps below its root."""
    root = given_root(config, holds)
    try:
        train, test = (
            create_dataset(config.name, root=str(root), split=split, download=config.download)
            for split in ("train", "validation")
        )
    except AssertionError as error:
        raise UserError(f"dataset {config.name!r}: {error}") from error
    except RuntimeError as error:
        raise UserError(
            f"dataset {config.name!r}: looked for {holds} in {root} (data.root), not found or damaged; point data.root "
            f"at the folder that holds it, or set data.download=true to fetch it"
        ) from error
    except OSError as error:
        raise UserError(
            f"dataset {config.name!r}: cannot read or fetch {holds} in {root} (data.root): {error}"
        ) from error
    if hasattr(train, "data"):
        arrays = (train.data, train.targets, test.data, test.targets)
        return Splits(train, test, tuple(map(str, train.classes)), fingerprint_arrays(arrays))
    files = [Path(path) for split in (train, test) for path, _ in split.samples]
    return Splits(train, test, tuple(map(_class_name, train.classes)), fingerprint_files(root, files))


class StreamedImages:
    """Images of a stream, held in memory: RGB, with their class indices."""

    def __init__(self, samples: list[tuple[Image.Image, int]]) -> None:
        self.samples = samples

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)


def open_hub(config: DataConfig) -> Splits:
    """A set of the Hugging Face hub, ``hfds/<owner>/<name>``, through the package `datasets`; root is its cache."""
    train, test = (dataset.reader for dataset in _published(config, "datasets"))
    fingerprint = fingerprint_arrays([[reader.dataset._fingerprint for reader in (train, test)]])
    return _splits(train, test, train.class_to_idx, fingerprint, config)


def open_stream(config: DataConfig, package: str) -> Splits:
    """A set that only streams, through ``package``: all of it is read into memory, so that a seed can decide the order.

    Where the stream names no classes they are numbers, up to the greatest label.
    """
    datasets = _published(config, package)
    parts = []
    for dataset in datasets:
        try:
            parts.append([(image.convert("RGB"), int(label)) for image, label in dataset])
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise UserError(f"dataset {config.name!r}: its stream cannot be read: {error}".splitlines()[0]) from error
    if not all(parts):
        raise UserError(f"dataset {config.name!r}: a split of its stream is empty")
    index = getattr(datasets[0].reader, "class_to_idx", None) or {}
    count = 1 + max(label for part in parts for _, label in part)
    classes = tuple(map(str, sorted(index, key=index.__getitem__) or range(count)))
    if count > len(classes) or min(label for part in parts for _, label in part) < 0:
        raise UserError(f"dataset {config.name!r}: labels must be 0 to {len(classes) - 1}, got {count - 1}")
    contents = [np.asarray(image) for part in parts for image, _ in part]
    labels = [np.array([label for _, label in part]) for part in parts]
    train, test = map(StreamedImages, parts)
    return Splits(train, test, classes, fingerprint_arrays([*contents, *labels]))


def _published(config: DataConfig, package: str) -> list[Any]:
    """The training and the test split of a set that timm opens through ``package``.

    Raises:
        UserError: the package, the set or a split is not there.
    """
    if importlib.util.find_spec(package) is None:
        raise UserError(f"dataset {config.name!r} needs the package {package}: pip install {package}")
    root = given_root(config, f"the folder of the package {package}")
    if not config.download and not root.is_dir():
        raise UserError(f"dataset {config.name!r}: looked for {root} (data.root); set data.download=true to fetch it")
    options: dict[str, Any] = {"download": True} if config.download else {}
    found = []
    for names in (TRAIN_FOLDERS, ("validation", "valid", "test")):
        for split in names:
            try:
                found.append(create_dataset(config.name, root=str(root), split=split, **options))
            except (ValueError, KeyError, AssertionError) as error:
                if "split" not in str(error).lower():
                    raise UserError(f"dataset {config.name!r}: {error}".splitlines()[0]) from error
            except (OSError, RuntimeError) as error:
                raise UserError(f"dataset {config.name!r}: cannot read or fetch it: {error}".splitlines()[0]) from error
            else:
                break
        else:
            raise UserError(f"dataset {config.name!r} has no split {' or '.join(names)}")
    return found


def open_folder(config: DataConfig) -> Splits:
    """A folder of images by class in each split: ``train/<class>/*``, ``val/<class>/*``, or a tar file of each."""
    root = given_root(config, f"{'|'.join(TRAIN_FOLDERS)}/<class>/* and {'|'.join(TEST_FOLDERS)}/<class>/*")
    found = []
    for names in (TRAIN_FOLDERS, TEST_FOLDERS):
        places = [root / name for name in names] + [root / f"{name}.tar" for name in names]
        place = next(
            (place for place in places if place.is_dir() or (place.suffix == ".tar" and place.is_file())), None
        )
        if place is None:
            raise UserError(
                f"dataset {config.name!r}: looked for a folder {' or '.join(names)} (or one as a .tar) in {root} "
                f"(data.root), found none"
            )
        found.append(place)
    try:
        train = create_dataset("", root=str(found[0]), search_split=False).reader
        index = train.class_to_idx if found[0].is_dir() else train.class_name_to_idx
        test = create_dataset("", root=str(found[1]), search_split=False, class_map=index).reader
    except (RuntimeError, AssertionError, OSError) as error:
        raise UserError(f"dataset {config.name!r}: {error}".splitlines()[0]) from error
    faults = [fault for place in found if place.is_dir() for fault in _faults(place)]
    if faults and config.on_error == "raise":
        raise faults[0]
    # timm leaves out images of classes that were not in training; such a test set is not the one that was meant.
    strangers = ({path.parent.name for path in _images(found[1])} if found[1].is_dir() else set()) - set(index)
    if strangers:
        raise UserError(
            f"dataset {config.name!r}: {found[1]} has classes that {found[0]} lacks: {', '.join(sorted(strangers))}"
        )
    files = [Path(path) for reader in (train, test) for path, *_ in reader.samples] if found[0].is_dir() else found
    return _splits(train, test, index, fingerprint_files(root, files), config, list(map(str, faults)))


def _splits(
    train: Any, test: Any, index: dict[str, int], fingerprint: str, config: DataConfig, faults: Sequence[str] = ()
) -> Splits:
    """The splits of two readers, without the images that cannot be read if the config skips them."""
    kept, skipped = [], list(faults)
    for reader in (train, test):
        everything = StoredImages(deepcopy(reader))  # an open tar file must not be shared with loading processes
        indices, unreadable = screen(range(len(everything)), everything.__getitem__, config)
        kept.append(StoredImages(reader, indices))
        skipped += unreadable
    classes = tuple(map(str, sorted(index, key=index.__getitem__)))
    return Splits(kept[0], kept[1], classes, fingerprint, tuple(skipped))


def _faults(folder: Path) -> list[DataFault]:
    """Class folders without an image, and files in them that are none by their names; hidden ones are passed over."""
    known = get_img_extensions()
    faults = []
    for place in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        files = [Path(parent, name) for parent, _, names in os.walk(place, followlinks=True) for name in names]
        strange = sorted(file for file in files if file.suffix.lower() not in known)
        if len(strange) == len(files):
            faults.append(DataFault(place, "this class folder holds no images; fill it or remove it"))
        faults += [
            DataFault(file, f"unknown file type {file.suffix or 'without suffix'!r}; known: {', '.join(known)}")
            for file in strange
            if not file.name.startswith(".")
        ]
    return faults


def _class_name(name: Any) -> str:
    """ImageNet's classes are tuples of synonyms."""
    return name[0] if isinstance(name, tuple) else str(name)


def _images(folder: Path) -> list[Path]:
    from timm.data.readers.reader_image_folder import find_images_and_targets

    images, _ = find_images_and_targets(str(folder))
    return [Path(path) for path, _ in images]


def _torchvision(
    name: str, holds: str, in_chans: int, size: int, mean: Any, std: Any, classes: int, mirrors: bool
) -> None:
    opener = partial(open_torchvision, holds=holds)
    register_dataset(DatasetSpec(f"torch/{name}", in_chans, size, mean, std, classes, opener, mirrors))


# Channel statistics of the training images.
_torchvision("cifar10", "cifar-10-batches-py", 3, 32, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 10, True)
_torchvision("cifar100", "cifar-100-python", 3, 32, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), 100, True)
_torchvision("mnist", "MNIST/raw", 1, 28, (0.1307,), (0.3081,), 10, False)
_torchvision("kmnist", "KMNIST/raw", 1, 28, (0.1918,), (0.3483,), 10, False)
_torchvision("qmnist", "QMNIST/raw", 1, 28, (0.1307,), (0.3081,), 10, False)
_torchvision("fashion_mnist", "FashionMNIST/raw", 1, 28, (0.2860,), (0.3530,), 10, True)

# Any other of torchvision's classification sets that timm opens (torch/imagenet, torch/places365, ...); the hub's.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
register_dataset(DatasetSpec("torch", 3, 224, *IMAGENET, None, partial(open_torchvision, holds="the set's files")))
register_dataset(DatasetSpec("hfds", 3, 224, *IMAGENET, None, open_hub))
for prefix, package in (("tfds", "tensorflow_datasets"), ("wds", "webdataset"), ("hfids", "datasets")):
    register_dataset(DatasetSpec(prefix, 3, 224, *IMAGENET, None, partial(open_stream, package=package)))
register_dataset(DatasetSpec("folder", 3, 224, *IMAGENET, None, open_folder))
