"""Writing files and folders so that a reader never finds half of the new content, even after a crash.

A file is replaced in one step. An existing folder is removed just before the new one takes its place. Checksums show
what was altered afterwards, and locks keep other processes away.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

LOCK = ".lock"
_ENDING = ".partial"

_logger = logging.getLogger(__name__)


class Locked(Exception):
    """Another process holds the lock of a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which must exist, for the block.

    The operating system gives it back when the process ends, however it ends.

    On a file system without locks there is a warning, and the folder is not locked. NFS has them, unless it is mounted
    with ``nolock`` or ``local_lock``: then only processes of one machine are kept apart.

    Raises:
        Locked: another process holds it.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Locked(folder) from None
    except NotImplementedError:
        _logger.warning("%s is on a file system without locks: do not write into it from two processes", folder)
    try:
        yield
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except Locked:
        return True


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


def is_there(path: Path) -> bool:
    """Whether there is a file or folder.

    Unlike Path.exists from Python 3.14 on, it says so if that cannot be known.

    Raises:
        OSError: such as for a name that is too long.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def write_file(path: Path, content: str | bytes, durable: bool = True) -> None:
    """Writes a file atomically, see :func:`replacing`. Raises OSError if it cannot be written."""
    with replacing(path, durable) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def digest(content: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError if it cannot be read."""
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while part := stream.read(2**20):
            found.update(part)
    return found.hexdigest()


_SEAL = ', "checksum": "'


def sealed(text: str) -> str:
    """The text of a JSON object, which has a key, with the checksum of all that is before as its last key.

    >>> unsealed(sealed('{"a": 1}').encode())
    {'a': 1}
    """
    body = text.rstrip()[:-1].rstrip()
    return f'{body}{_SEAL}{digest(body.encode())}"}}'


def unsealed(content: bytes) -> dict[str, Any]:
    """The JSON object that was sealed, without its checksum. Raises ValueError if it is not what was written."""
    found = json.loads(content.decode())
    if not isinstance(found, dict):
        raise ValueError("it must hold a JSON object")
    body, _, rest = content.rpartition(_SEAL.encode())
    if rest != f'{digest(body)}"}}'.encode():
        raise ValueError("its checksum does not fit its content, which was altered or is of an earlier version")
    del found["checksum"]
    return found


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
