"""Images from disk, through timm.data.create_dataset: torchvision's small sets and folders of images by class."""

from functools import partial
from pathlib import Path
from typing import Any

from timm.data import create_dataset

from step_ahsar.config import DataConfig
from step_ahsar.data.fingerprint import fingerprint_arrays, fingerprint_files
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.errors import UserError

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("val", "valid", "validation", "eval", "evaluation", "test")


def _root(config: DataConfig, wanted: str) -> Path:
    if config.root is None:
        raise UserError(f"data.root is not set: dataset {config.name!r} is looked for there, as {wanted}")
    return Path(config.root).expanduser()


def open_torchvision(config: DataConfig, holds: str) -> Splits:
    """One of torchvision's sets; ``holds`` is the folder that it keeps below its root."""
    root = _root(config, holds)
    try:
        train, test = (
            create_dataset(config.name, root=str(root), split=split, download=config.download)
            for split in ("train", "validation")
        )
    except RuntimeError as error:
        raise UserError(
            f"dataset {config.name!r}: looked for {holds} in {root} (data.root), not found or damaged; point data.root "
            f"at the folder that holds it, or set data.download=true to fetch it"
        ) from error
    except OSError as error:
        raise UserError(
            f"dataset {config.name!r}: cannot read or fetch {holds} in {root} (data.root): {error}"
        ) from error
    arrays = (train.data, train.targets, test.data, test.targets)
    return Splits(train, test, tuple(map(str, train.classes)), fingerprint_arrays(arrays))


def open_folder(config: DataConfig) -> Splits:
    """A folder with a folder of images per class in each of its splits: ``train/<class>/*``, ``val/<class>/*``."""
    root = _root(config, f"{'|'.join(TRAIN_FOLDERS)}/<class>/* and {'|'.join(TEST_FOLDERS)}/<class>/*")
    found = [
        next((root / name for name in names if (root / name).is_dir()), None) for names in (TRAIN_FOLDERS, TEST_FOLDERS)
    ]
    for folder, names in zip(found, (TRAIN_FOLDERS, TEST_FOLDERS), strict=True):
        if folder is None:
            raise UserError(
                f"dataset {config.name!r}: looked for a folder {' or '.join(names)} in {root} (data.root), found none"
            )
    try:
        train = create_dataset("folder", root=str(found[0]), search_split=False)
        index = train.reader.class_to_idx
        test = create_dataset("folder", root=str(found[1]), search_split=False, class_map=index)
    except RuntimeError as error:
        raise UserError(f"dataset {config.name!r}: {error}".splitlines()[0]) from error
    # timm leaves out images of classes that were not in training; such a test set is not the one that was meant.
    strangers = {path.parent.name for path in _images(found[1])} - set(index)
    if strangers:
        raise UserError(
            f"dataset {config.name!r}: {found[1]} has classes that {found[0]} lacks: {', '.join(sorted(strangers))}"
        )
    files = [Path(path) for split in (train, test) for path, _ in split.reader.samples]
    return Splits(train, test, tuple(sorted(index, key=index.__getitem__)), fingerprint_files(root, files))


def _images(folder: Path | None) -> list[Path]:
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

register_dataset(DatasetSpec("folder", 3, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), None, open_folder))
