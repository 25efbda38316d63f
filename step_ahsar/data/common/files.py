"""Locating a data set on disk, and reading NumPy's files."""

import lzma
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.errors import UserError
from step_ahsar.files import is_there

T = TypeVar("T")

CACHE = f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/step-ahsar"

# Names of the folders and lists of the parts of a data set.
TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("val", "valid", "validation", "eval", "evaluation")
TEST_NAMES = ("test", "testing")
PARTS = ("training", "validation", "test")

# Exceptions that NumPy, and the libraries that it reads archives with, raise for damaged files.
DAMAGES = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def given_root(config: DataConfig, wanted: str) -> Path:
    """``data.root``, which need not exist. Raises UserError, which says what is ``wanted`` there, if it is not set.

    Raises OSError if there can be no such place, as its name is too long.
    """
    if config.root is None:
        raise UserError(f"data.root is not set; set it to the place of dataset {config.name!r}: {wanted}")
    root = Path(config.root).expanduser()
    is_there(root)
    return root


def existing_root(config: DataConfig, wanted: str, source: str = "", folder: bool = False) -> Path:
    """``data.root``, which exists.

    Args:
        config: the section `data` of a config.
        wanted: description of what is looked for, for messages.
        source: address where it can be got.
        folder: whether it must be a folder.

    Raises:
        UserError: it is not set, or does not exist, or is no folder.
    """
    root = given_root(config, f"{wanted}; from {source}" if source else wanted)
    if not (root.is_dir() if folder else root.exists()):
        raise not_found(config, wanted, source)
    return root


def not_found(config: DataConfig, wanted: str, source: str = "") -> UserError:
    """The error for a root that does not contain the data set."""
    where = f"; get it from {source}" if source else ""
    hint = "; nothing is fetched for this set by data.download" if config.download else ""
    return UserError(
        f"dataset {config.name!r}: looked for {wanted} in {config.root} (data.root), not found{where}{hint}"
    )


def find_parts(find: Callable[[Sequence[str]], T | None]) -> tuple[T | None, T | None, T | None]:
    """The training, validation and test part of a data set; None for a part that does not exist.

    If there is no test part, the validation part is used as the test part.

    Args:
        find: returns the part with one of the given names, or None.
    """
    train, validation, test = (find(names) for names in (TRAIN_NAMES, VALIDATION_NAMES, TEST_NAMES))
    return (train, None, validation) if test is None else (train, validation, test)


def part_folder(root: Path, names: Sequence[str]) -> Path | None:
    """The folder with one of these names, in upper or lower case. The first name takes precedence."""
    folders = {entry.name.lower(): entry for entry in sorted(root.iterdir(), reverse=True) if entry.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def class_files(
    folder: Path, suffixes: Sequence[str], faults: Faults, hidden: tuple[str, ...] = (".",)
) -> dict[str, list[Path]]:
    """The recordings in each class folder, in the order of their names.

    Args:
        folder: has a folder for each class.
        suffixes: those of recordings, in lower case.
        faults: records class folders without recordings, and what else is in a class folder.
        hidden: folders whose names begin like this are left out.
    """
    classes: dict[str, list[Path]] = {}
    for place in sorted(folder.iterdir()):
        if not place.is_dir() or place.name.startswith(hidden):
            continue
        files = []
        for path in sorted(place.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                faults.note(DataFault(path, "is a folder inside a class folder, where recordings are expected"))
            elif path.suffix.lower() not in suffixes:
                faults.note(DataFault(path, f"unknown file type {path.suffix!r}; known: {', '.join(suffixes)}"))
            else:
                files.append(path)
        if files:
            classes[place.name] = files
        else:
            faults.note(DataFault(place, "this class folder holds no recordings; fill it or remove it"))
    return classes


def cache_folder(config: DataConfig) -> Path:
    """The folder for frames of events and fingerprints of files: ``data.cache``, else one in the user's home."""
    return Path(config.cache or CACHE).expanduser()


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of an ``.npz`` file. Raises DataFault if it is not one, is damaged, or contains Python objects."""
    loaded = read_numpy(path)
    if not isinstance(loaded, dict):
        raise DataFault(path, "is not an .npz file, which numpy.savez writes")
    return loaded


def read_numpy(path: Path) -> Any:
    """The array of an ``.npy`` file, or all arrays of an ``.npz`` file by name. Raises as :func:`read_npz`."""
    try:
        with path.open("rb") as stream:
            start = stream.read(6)
            if not start.startswith((b"PK\3\4", b"PK\5\6", b"\x93NUMPY")):  # an .npz file is a zip archive
                raise DataFault(path, "is not a file of arrays, which numpy.save and numpy.savez write")
            stream.seek(0)
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except DataFault:
        raise
    except DAMAGES as error:
        if "Object arrays" in str(error):
            raise DataFault(
                path,
                "has an array of Python objects, which is not read; concatenate samples of different lengths and add "
                "an array `offsets`, see docs/data.md",
            ) from error
        raise DataFault(path, f"is cut off or damaged: {error or type(error).__name__}") from error
