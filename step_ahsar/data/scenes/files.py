"""Pictures, masks and class lists on disk, with errors that name the file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.faults import DataFault, screen
from step_ahsar.data.root import given_root
from step_ahsar.data.scenes.scene import IGNORE
from step_ahsar.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("val", "validation", "valid", "test")
VOID_NAMES = ("void", "ignore")

T = TypeVar("T")


class FileSamples(Generic[T]):
    """Samples that are read when they are needed."""

    def __init__(self, items: Sequence[T], read: Callable[[T], tuple[Any, Any]]) -> None:
        self.items, self.read = items, read

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.read(self.items[index])

    def __len__(self) -> int:
        return len(self.items)


def screened(
    items: tuple[Sequence[T], Sequence[T]],
    read: Callable[[T], tuple[Any, Any]],
    config: DataConfig,
    strays: Sequence[DataFault] = (),
) -> tuple[list[FileSamples[T]], tuple[str, ...]]:
    """Training and test samples of the items that can be read, and what was wrong with the others.

    Args:
        items: of training and of testing.
        read: a sample from its item.
        config: whether to skip what cannot be read.
        strays: annotations that go with no item.

    Raises:
        DataFault: strays, unless they are to be skipped.
        UserError: no sample is left in one of them.
    """
    if strays and config.on_error == "raise":
        raise strays[0]
    samples, skipped = [], [str(stray) for stray in strays]
    for name, part in zip(("training", "test"), items, strict=True):
        kept, faults = screen(part, read, config)
        if not kept:
            reason = f": {faults[0]}" if faults else ""
            raise UserError(f"dataset {config.name!r}: no {name} sample in {config.root} (data.root){reason}")
        samples.append(FileSamples(kept, read))
        skipped += faults
    return samples, tuple(skipped)


def root_of(config: DataConfig, wanted: str) -> Path:
    """``data.root``. Raises UserError if it is not set or no folder; ``wanted`` says what is looked for there."""
    root = given_root(config, wanted)
    if not root.is_dir():
        raise not_found(config, wanted)
    return root


def not_found(config: DataConfig, wanted: str) -> UserError:
    """The error for a layout that is not there."""
    return UserError(f"dataset {config.name!r}: looked for {wanted} in {config.root} (data.root), not found")


def open_image(path: Path) -> Image.Image:
    """A decoded picture. Raises DataFault if it is missing, damaged or no picture."""
    if not path.is_file():
        raise DataFault(path, "there is no such image")
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataFault(path, f"is no image that can be read: {error}") from error
    return image


def read_mask(path: Path) -> NDArray[np.int64]:
    """Class ids of pixels, int [H, W]; of a palette image its indices.

    Raises:
        DataFault: it is missing, damaged, or in colours, which are no class ids.
    """
    if not path.is_file():
        raise DataFault(path, "there is no such mask")
    mask = open_image(path)
    if mask.mode not in ("1", "L", "P", "I", "I;16"):
        raise DataFault(path, f"is a mask of mode {mask.mode}; class ids are wanted, as grey levels or palette indices")
    return np.asarray(mask).astype(np.int64)


def map_ids(ids: NDArray[np.int64], table: Sequence[int | None], path: Path) -> NDArray[np.uint8]:
    """Class indices of ids; 255 is ignored whatever the table says.

    Args:
        ids: of pixels, [H, W].
        table: the class index of each id, 255 = ignored, None = there is no such id.
        path: the mask's, for messages.

    Raises:
        DataFault: ids that the table does not have.
    """
    lookup = np.full(256, -1, np.int64)
    for i, index in enumerate(table):
        lookup[i] = -1 if index is None else index
    lookup[IGNORE] = IGNORE
    within = (ids >= 0) & (ids < 256)
    classes = np.where(within, lookup[np.where(within, ids, 0)], -1)
    if (classes < 0).any():
        wrong = np.unique(ids[classes < 0]).tolist()
        more = ", ..." if len(wrong) > 5 else ""
        known = sum(index is not None and index != IGNORE for index in table)
        raise DataFault(
            path, f"has class ids beyond the list: {', '.join(map(str, wrong[:5]))}{more}; there are {known} classes"
        )
    return classes.astype(np.uint8)


def class_table(names: Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Classes by index, and the class index of each id: ``void`` and ``ignore`` are no class but ignored, 255."""
    classes = [name for name in names if name.lower() not in VOID_NAMES]
    table, index = [], 0
    for name in names:
        void = name.lower() in VOID_NAMES
        table.append(IGNORE if void else index)
        index += not void
    return tuple(classes), table


def read_lines(path: Path) -> list[str]:
    """Lines of a text. Raises DataFault if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataFault(path, f"cannot be read: {error}") from error


def read_names(path: Path) -> list[str]:
    """Names, one a line. Raises DataFault if there are none, more than 255, or one twice."""
    names = [line.strip() for line in read_lines(path) if line.strip()]
    twice = {name for name in names if names.count(name) > 1 and name.lower() not in VOID_NAMES}
    if twice or not 1 <= len(names) <= IGNORE:
        fault = f"names {sorted(twice)[0]!r} twice" if twice else f"must list 1 to {IGNORE} names, has {len(names)}"
        raise DataFault(path, fault)
    return names


def images_in(folder: Path) -> list[Path]:
    """Pictures in the folder and below it, in order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these folders that there is."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)
