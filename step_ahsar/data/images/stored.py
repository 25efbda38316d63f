"""Stored images: torchvision's sets, folders by class and streams through timm, and tables of `datasets`."""

import importlib.util
import os
from collections.abc import Collection, Iterator, Sequence
from copy import deepcopy
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from step_ahsar import internals
from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import PARTS, TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES, find_parts, given_root
from step_ahsar.data.common.fingerprint import fingerprint_arrays, fingerprint_files
from step_ahsar.data.common.hub import Rows, open_rows
from step_ahsar.data.common.registry import DatasetSpec, Samples, Size, Splits, photographs, register_dataset
from step_ahsar.errors import UserError

_IMAGENET = 224  # pixels


class StoredImages:
    """RGB images on disk with the class indices of timm's reader. An image is read when its sample is needed.

    Args:
        reader: timm's reader of a folder or a tar file, or one of a table.
        indices: the chosen images; None = all.
    """

    def __init__(self, reader: Any, indices: list[int] | None = None) -> None:
        self.reader, self.indices = reader, list(range(len(reader))) if indices is None else indices

    @property
    def labels(self) -> list[int] | None:
        """Class indices; None if they are not known without reading the images."""
        labels = getattr(self.reader, "targets", None)  # of a tar file, or a table
        if labels is None and isinstance(getattr(self.reader, "samples", None), list):  # of a folder
            labels = [label for _, label in self.reader.samples]
        return None if labels is None else [_class_of(labels[i]) for i in self.indices]

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Raises DataFault for a file that is not an image or is damaged."""
        number = self.indices[index]
        try:
            file, label = self.reader[number]
            return Image.open(file).convert("RGB"), _class_of(label)
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow raises each of them for damaged files
            # Pillow names what it reads, which in a table has no name but an address.
            what = "cannot identify its format" if isinstance(error, UnidentifiedImageError) else str(error)
            raise DataFault(self.reader.filename(number, absolute=True), f"not a readable image: {what}") from error

    def __len__(self) -> int:
        return len(self.indices)


def open_torchvision(config: DataConfig, holds: str) -> Splits:
    """One of torchvision's sets; ``holds`` describes its files below its root, for messages."""
    from timm.data import create_dataset  # slow to import

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
    classes = tuple(map(_class_name, train.classes))
    if hasattr(train, "data"):
        arrays = (train.data, train.targets, test.data, test.targets)
        for part in (train, test):
            if np.ndim(part.targets) == 2:  # QMNIST's targets [N, 8] are the class and facts about the writer
                part.labels = part.targets[:, 0]
        return Splits(train, test, classes, fingerprint_arrays(arrays))
    # Places365 has its list of (path, class) as imgs, ImageNet as samples and as imgs.
    files = {name: [Path(path) for path, _ in part.imgs] for name, part in (("training", train), ("test", test))}
    return Splits(train, test, classes, fingerprint_files(root, files, config))


class StreamedImages:
    """RGB images of a stream, in memory, with their class indices."""

    def __init__(self, samples: list[tuple[Image.Image, int]]) -> None:
        self.samples = samples

    @property
    def labels(self) -> list[int]:
        """Class indices."""
        return [label for _, label in self.samples]

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.samples[index]

    def __len__(self) -> int:
        return len(self.samples)


P = TypeVar("P", StoredImages, StreamedImages)


class _TableReader:
    """Images of a table of the package `datasets`, as :class:`StoredImages` reads them.

    Args:
        rows: the images of one part.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows, self.targets = rows, rows.labels.tolist()

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.rows.file(index), self.targets[index]

    def filename(self, index: int, absolute: bool) -> str:
        """Place of an image, for messages."""
        return self.rows.where(index)

    def __len__(self) -> int:
        return len(self.rows)


def open_hub(config: DataConfig) -> Splits:
    """Images of the package `datasets`; see ``open_rows`` for where they are and in which columns.

    Raises:
        UserError: what ``open_rows`` raises; DataFault: an image that cannot be read.
    """
    faults = Faults(config)
    rows = open_rows(config, "image", faults)
    parts = {name: rows.take(np.flatnonzero(rows.part == number)) for number, name in enumerate(PARTS)}
    samples = {name: _readable(_TableReader(part), faults) for name, part in parts.items() if len(part)}
    kept = [np.flatnonzero(rows.part == PARTS.index(name))[part.indices] for name, part in samples.items()]
    return Splits(
        samples["training"],
        samples["test"],
        rows.classes,
        _content_of(rows.take(np.concatenate(kept)), config),
        validation=samples.get("validation"),
        test_held_out=rows.test_held_out,
        skipped=tuple(faults.found),
        size=_size_of(samples["training"]),
    )


def _size_of(samples: Samples) -> Size:
    """The size of small images, by the first of them, and that of ImageNet for others, which are resized to it."""
    width, height = deepcopy(samples)[0][0].size  # an open tar file must not be shared with loading processes
    if max(width, height) >= _IMAGENET:
        return _IMAGENET
    return height if height == width else (height, width)


def _content_of(rows: Rows, config: DataConfig) -> str:
    """The fingerprint of a table of images: of labels, parts, and the bytes of each image as it is stored.

    Images in a table are read each time; of files outside of it the digests are kept.
    """
    found = [rows.file(i) for i in range(len(rows))]
    files = fingerprint_files(rows.root.absolute(), {"images": [x for x in found if isinstance(x, Path)]}, config)
    stored = b"".join(sha256(x.getbuffer()).digest() for x in found if isinstance(x, BytesIO))
    contents = [np.frombuffer(digests, np.uint8) for digests in (stored, files.encode())]
    return fingerprint_arrays([rows.labels, rows.part, *contents])


def open_stream(config: DataConfig, package: str) -> Splits:
    """A set that ``package`` can only stream. It is read into memory, so that its order can be drawn from a seed.

    If the stream has no names of classes, they are numbers up to the largest label.
    """
    datasets = _published(config, package)
    read: dict[str, StreamedImages] = {}
    for name, dataset in datasets.items():
        try:
            read[name] = StreamedImages([(image.convert("RGB"), _class_of(label)) for image, label in dataset])
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise UserError(f"dataset {config.name!r}: its stream cannot be read: {error}".splitlines()[0]) from error
    if not all(map(len, read.values())):
        raise UserError(f"dataset {config.name!r}: a split of its stream is empty")
    parts = _with_labels(read)
    labels = [np.array(part.labels) for part in parts.values()]
    lowest, count = min(map(np.min, labels)), 1 + max(map(np.max, labels))
    index = getattr(datasets["training"].reader, "class_to_idx", None) or {}
    classes = tuple(map(str, sorted(index, key=index.__getitem__) or range(count)))
    if count > len(classes) or lowest < 0:
        raise UserError(
            f"dataset {config.name!r}: labels must be 0 to {len(classes) - 1}, got labels from {lowest} to {count - 1}"
        )
    contents = [np.asarray(image) for part in parts.values() for image, _ in part.samples]
    return Splits(
        parts["training"],
        parts["test"],
        classes,
        fingerprint_arrays([*contents, *labels]),
        validation=parts.get("validation"),
    )


def _class_of(label: Any) -> int:
    """The class index; -1 for a sample without a label, which some sets have as None."""
    return -1 if label is None else int(label)


def _with_labels(parts: dict[str, P]) -> dict[str, P]:
    """The parts without a test part that has no labels (-1, as is usual for those of competitions).

    The validation part is the test part then.
    """
    labels = parts["test"].labels
    if labels is None or min(labels, default=0) >= 0 or "validation" not in parts:
        return parts
    return {"training": parts["training"], "test": parts["validation"]}


def _published(config: DataConfig, package: str) -> dict[str, Any]:
    """The training, validation (if there is one) and test part of a set that timm opens through ``package``.

    If there is no test part, the validation part is used as the test part.

    Raises:
        UserError: the package, the set or a part is missing.
    """
    from timm.data import create_dataset

    if importlib.util.find_spec(package) is None:
        raise UserError(f"dataset {config.name!r} needs the package {package}: pip install {package}")
    root = given_root(config, f"the folder of the package {package}")
    if package == "datasets" and not config.download:
        raise UserError(
            f"dataset {config.name!r}: looked for no files in {root} (data.root): it is streamed from the hub; set "
            f"data.download=true to fetch it, or data.name=hfds/<name> to read files"
        )
    if not config.download and not root.is_dir():
        raise UserError(
            f"dataset {config.name!r}: the folder {root} (data.root) does not exist; set data.download=true to fetch it"
        )
    options: dict[str, Any] = {"download": True} if config.download else {}

    def opened(names: Sequence[str]) -> Any:
        for split in names:
            try:
                return create_dataset(config.name, root=str(root), split=split, **options)
            except (ValueError, KeyError, AssertionError, OSError, RuntimeError) as error:
                if "split" not in str(error).lower():  # else there is no split of this name
                    reason = f"cannot be read or fetched: {error}".splitlines()[0]
                    raise UserError(f"dataset {config.name!r} {reason}") from error
        return None

    parts = dict(zip(PARTS, find_parts(opened), strict=True))
    for name, names in (("training", TRAIN_NAMES), ("test", (*TEST_NAMES, *VALIDATION_NAMES))):
        if parts[name] is None:
            raise UserError(f"dataset {config.name!r} has no split {' or '.join(names)}")
    return {name: part for name, part in parts.items() if part is not None}


def open_folder(config: DataConfig) -> Splits:
    """Images in ``train/<class>/*`` and ``val/<class>/*``, or in a tar file for each part.

    If there are both ``val`` and ``test``, ``val`` is for validation; see
    :func:`step_ahsar.data.common.files.find_parts`.
    """
    tested = "|".join((*VALIDATION_NAMES, *TEST_NAMES))
    root = given_root(config, f"{'|'.join(TRAIN_NAMES)}/<class>/* and {tested}/<class>/*")
    parts = dict(zip(PARTS, find_parts(partial(_part, root)), strict=True))
    for name, names in (("training", TRAIN_NAMES), ("test", (*VALIDATION_NAMES, *TEST_NAMES))):
        if parts[name] is None:
            raise UserError(
                f"dataset {config.name!r}: looked for a folder {' or '.join(names)} (or one as a .tar) in {root} "
                f"(data.root), found none"
            )
    places = {name: place for name, place in parts.items() if place is not None}
    faults = Faults(config)
    for place in places.values():
        for fault in _wrong_files(place) if place.is_dir() else ():
            faults.note(fault)
    readers: dict[str, Any] = {}
    index: Any = None
    try:
        for name, place in places.items():
            readers[name] = _reader(place, index)
            if index is None:
                index = readers[name].class_to_idx if place.is_dir() else readers[name].class_name_to_idx
    except (RuntimeError, AssertionError, OSError) as error:
        raise UserError(f"dataset {config.name!r}: {error}".splitlines()[0]) from error
    for place in places.values():
        # timm would silently leave out images of classes without training images.
        strangers = ({path.parent.name for path in _images(place)} if place.is_dir() else set()) - set(index)
        if strangers:
            raise UserError(
                f"dataset {config.name!r}: {place} has classes that {places['training']} lacks: "
                f"{', '.join(sorted(strangers))}"
            )
    files = {
        name: [Path(sample[0]) for sample in readers[name].samples] if place.is_dir() else [place]
        for name, place in places.items()
    }
    samples = {name: _readable(reader, faults) for name, reader in readers.items()}
    return Splits(
        samples["training"],
        samples["test"],
        _class_names(index),
        fingerprint_files(root, files, config),
        validation=samples.get("validation"),
        skipped=tuple(faults.found),
        size=_size_of(samples["training"]),
    )


def _part(root: Path, names: Sequence[str]) -> Path | None:
    """The folder, or else the tar file, with one of these names."""
    places = [root / name for name in names] + [root / f"{name}.tar" for name in names]
    return next((place for place in places if place.is_dir() or (place.suffix == ".tar" and place.is_file())), None)


def _reader(place: Path, index: dict[str, int] | None) -> Any:
    """Timm's reader of a folder or a tar file."""
    from timm.data import create_dataset

    options: dict[str, Any] = {"search_split": False} | ({} if index is None else {"class_map": index})
    if not place.is_dir():
        options["cache_tarinfo"] = False  # timm would load a pickle beside the tar file, which is unsafe
    return create_dataset("", root=str(place), **options).reader


def _readable(reader: Any, faults: Faults) -> StoredImages:
    """The images of a reader; with ``on_error: skip`` those that can be read."""
    everything = StoredImages(deepcopy(reader))  # an open tar file must not be shared with loading processes
    return StoredImages(reader, faults.readable(range(len(everything)), everything.__getitem__))


def _class_names(index: dict[str, int]) -> tuple[str, ...]:
    return tuple(map(str, sorted(index, key=index.__getitem__)))


def _wrong_files(folder: Path) -> list[DataFault]:
    """Faults of class folders without images, and of files that are not images. Hidden files are ignored."""
    from timm.data import get_img_extensions

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
    """The name of a class; of ImageNet, where it is a tuple of synonyms, the first one."""
    return name[0] if isinstance(name, tuple) else str(name)


def _images(folder: Path) -> list[Path]:
    from timm.data.readers.reader_image_folder import find_images_and_targets

    images, _ = find_images_and_targets(str(folder))
    return [Path(path) for path, _ in images]


class _TorchvisionSets(Collection[str]):
    """The names in :func:`step_ahsar.internals.torchvision_sets`, for which timm is imported, when they are needed."""

    def __contains__(self, name: object) -> bool:
        return name in internals.torchvision_sets()

    def __iter__(self) -> Iterator[str]:
        return iter(internals.torchvision_sets())

    def __len__(self) -> int:
        return len(internals.torchvision_sets())


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

# The other data sets that timm opens: torchvision's (torch/imagenet, torch/places365, ...) and streams. And tables.
_published_images = partial(photographs, size=_IMAGENET, num_classes=None)
register_dataset(
    _published_images(
        "torch",
        open=partial(open_torchvision, holds="the set's files"),
        titles=_TorchvisionSets(),
        needs_title=True,
    )
)
register_dataset(_published_images("hfds", size=None, open=open_hub, titles=None, needs_title=True, has_columns=True))
for prefix, package in (("tfds", "tensorflow_datasets"), ("wds", "webdataset"), ("hfids", "datasets")):
    opener = partial(open_stream, package=package)
    register_dataset(_published_images(prefix, open=opener, titles=None, needs_title=True))
register_dataset(_published_images("folder", size=None, open=open_folder, titles=None))
