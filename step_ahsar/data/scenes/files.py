"""Reading pictures, masks and lists of classes, with errors that name the file."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import PARTS
from step_ahsar.data.common.fingerprint import fingerprint_files
from step_ahsar.data.common.registry import Splits
from step_ahsar.data.scenes.scene import IGNORE
from step_ahsar.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VOID_NAMES = ("void", "ignore")

T = TypeVar("T")


class FileSamples(Generic[T]):
    """Samples in files, which are read when they are needed."""

    def __init__(self, items: Sequence[T], read: Callable[[T], tuple[Any, Any]]) -> None:
        self.items, self.read = items, read

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.read(self.items[index])

    def __len__(self) -> int:
        return len(self.items)


def open_parts(
    parts: Sequence[Sequence[T] | None],
    read: Callable[[T], tuple[Any, Any]],
    files_of: Callable[[T], Iterable[Path]],
    root: Path,
    config: DataConfig,
    strays: Sequence[DataFault] = (),
    further: Iterable[Path] = (),
    **known: Any,
) -> Splits:
    """The splits of a data set of files.

    Args:
        parts: the items of the training, the validation (None if there is none) and the test part.
        read: function from an item to a sample.
        files_of: function from an item to its files; those that exist are part of the fingerprint.
        root: folder of the data set.
        config: the section `data` of the config; ``on_error`` decides about unreadable files.
        strays: faults of annotations that belong to no item.
        further: files that all samples depend on, such as lists of classes.
        known: further fields of the splits.

    Raises:
        DataFault: an annotation that belongs to no item. Faults of samples are raised when the samples are read.
        UserError: no sample is left in a part.
    """
    faults = Faults(config)
    for stray in strays:
        faults.note(stray)
    samples: dict[str, FileSamples[T]] = {}
    for name, part in zip(PARTS, parts, strict=True):
        if part is None:
            continue
        before = len(faults.found)
        kept = faults.readable(part, read)
        if not kept:
            reason = f": {faults.found[before]}" if len(faults.found) > before else ""
            raise UserError(f"dataset {config.name!r}: no {name} sample in {config.root} (data.root){reason}")
        samples[name] = FileSamples(kept, read)
    files = {name: [file for item in part.items for file in files_of(item)] for name, part in samples.items()}
    present = {name: [file for file in of if file.is_file()] for name, of in (files | {"all": further}).items()}
    return Splits(
        samples["training"],
        samples["test"],
        fingerprint=fingerprint_files(root, present, config),
        validation=samples.get("validation"),
        skipped=tuple(faults.found),
        **known,
    )


def open_image(path: Path) -> Image.Image:
    """The decoded picture. Raises DataFault if it is missing, damaged or not a picture."""
    if not path.is_file():
        raise DataFault(path, "there is no such image")
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataFault(path, f"is no image that can be read: {error}") from error
    return image


def read_mask(path: Path) -> NDArray[np.int64]:
    """Class ids of pixels, int [H, W]: grey levels, or the indices of a palette image.

    Raises:
        DataFault: it is missing or damaged, or a colour image, which has no class ids.
    """
    if not path.is_file():
        raise DataFault(path, "there is no such mask")
    mask = open_image(path)
    if mask.mode not in ("1", "L", "P", "I", "I;16"):
        raise DataFault(path, f"is a mask of mode {mask.mode}; class ids are wanted, as grey levels or palette indices")
    return np.asarray(mask).astype(np.int64)


def map_ids(ids: NDArray[np.int64], table: Sequence[int | None], path: Path) -> NDArray[np.uint8]:
    """Converts ids to class indices. The id 255 is always ignored.

    Args:
        ids: ids of pixels, [H, W].
        table: class index of each id, 255 = ignored, None = no such id.
        path: the mask, for messages.

    Raises:
        DataFault: an id that is not in the table.
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
    """Names of classes by index, and the class index of each id. ``void`` and ``ignore`` are ignored (255)."""
    classes = [name for name in names if name.lower() not in VOID_NAMES]
    table, index = [], 0
    for name in names:
        void = name.lower() in VOID_NAMES
        table.append(IGNORE if void else index)
        index += not void
    return tuple(classes), table


def read_lines(path: Path) -> list[str]:
    """Lines of a text file. Raises DataFault if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataFault(path, f"cannot be read: {error}") from error


def read_names(path: Path) -> list[str]:
    """Names, one per line. Raises DataFault if there is none, if there are more than 255, or if one occurs twice."""
    names = [line.strip() for line in read_lines(path) if line.strip()]
    twice = {name for name in names if names.count(name) > 1 and name.lower() not in VOID_NAMES}
    if twice or not 1 <= len(names) <= IGNORE:
        fault = f"names {sorted(twice)[0]!r} twice" if twice else f"must list 1 to {IGNORE} names, has {len(names)}"
        raise DataFault(path, fault)
    return names


def images_in(folder: Path) -> list[Path]:
    """Pictures in the folder and in its subfolders, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these folders that exists; None if none does."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)
