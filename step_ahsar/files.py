"""Writing files and folders so that a reader never finds half of the new content, even after a crash.

A file is replaced in one step. An existing folder is removed just before the new one takes its place.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ENDING = ".partial"


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yields a path for a new file or folder, which replaces ``path`` at the end of the block.

    A file is replaced in one step. An existing folder is removed first.

    Several processes may do this at the same time; the last one wins. If the block raises an error, ``path`` does not
    change.

    Args:
        path: the file or folder to replace; it need not exist.
        durable: whether to wait until everything is on disk.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{_ENDING}")
    try:
        yield partial
        if durable:
            for each in (*(partial.iterdir() if partial.is_dir() else ()), partial):
                _sync(each)
        if path.is_dir():  # a folder with content cannot be replaced in one step
            shutil.rmtree(path)
        partial.replace(path)
        if durable:
            _sync(path.parent)
    except BaseException:
        remove(partial)
        raise


def write_file(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Writes a file atomically, see :func:`replacing`. Raises OSError if it cannot be written."""
    with replacing(path, durable) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def append_line(path: Path, line: str) -> None:
    """Appends a line to a text file and waits until it is on disk. Raises OSError if it cannot be written."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def remove(path: Path) -> None:
    """Removes a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether this file or folder was left behind by an interrupted :func:`replacing`."""
    return path.name.startswith(".") and path.name.endswith(_ENDING)


def _sync(path: Path) -> None:
    """Waits until a file or folder is on disk."""
    if os.name != "posix":  # Windows cannot open a folder, nor sync a file that is open for reading only
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
