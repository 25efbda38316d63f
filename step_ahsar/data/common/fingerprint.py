"""Fingerprints: identifying a data set by its content, so that the manifests of two runs can be compared."""

import sqlite3
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.files import cache_folder
from step_ahsar.files import digest_of
from step_ahsar.progress import followed

FINGERPRINT_VERSION = 2  # to be raised when the same data get another fingerprint

_KEPT = "fingerprints.sqlite"
_THREADS = 4


def fingerprint_arrays(arrays: Iterable[Any]) -> str:
    """SHA-256 over dtype, shape and bytes of each array (or list of numbers), in order."""
    digest = sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return f"sha256:{digest.hexdigest()}"


def fingerprint_files(root: Path, parts: Mapping[str, Iterable[Path]], config: DataConfig) -> str:
    """SHA-256 over the files of each part, in order: the part's name, the file's path below ``root``, its content.

    So it also tells which samples are in which part, and their order, by which validation samples are chosen. A file is
    read once. Its digest is kept in the cache (``data.cache``) and is valid as long as the file's path, size and time
    of change are the same.

    Raises:
        DataFault: a file that cannot be read.
    """
    listed = [(part, file) for part, files in parts.items() for file in files]
    digests = _digests(sorted({file for _, file in listed}), cache_folder(config) / _KEPT)
    digest = sha256()
    for part, file in listed:
        place = file.relative_to(root) if file.is_relative_to(root) else file
        digest.update(f"{part}\0{place.as_posix()}\0{digests[file]}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _digests(files: list[Path], cache: Path) -> dict[Path, str]:
    """SHA-256 of each file."""
    states = {file: _state(file) for file in files}
    known = _read_known(cache)
    found = {file: known[key][2] for file in files if known.get(key := str(file.absolute()), ())[:2] == states[file]}
    missing = [file for file in files if file not in found]
    with ThreadPoolExecutor(_THREADS) as pool:
        hashed = followed("reading files for their fingerprint", pool.map(_hash, missing), len(missing))
        fresh = dict(zip(missing, hashed, strict=True))
    _keep(cache, [(str(file.absolute()), *states[file], digest) for file, digest in fresh.items()])
    return found | fresh


def _state(file: Path) -> tuple[int, int]:
    """Size in bytes, and time of the last change in ns."""
    try:
        found = file.stat()
    except OSError as error:
        raise DataFault(file, f"cannot be read: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


def _hash(file: Path) -> str:
    try:
        return digest_of(file)
    except OSError as error:
        raise DataFault(file, f"cannot be read: {error.strerror}") from error


# If the cache cannot be read or written, every file is read again. That costs time only.


def _read_known(cache: Path) -> dict[str, tuple[int, int, str]]:
    if not cache.is_file():
        return {}
    try:
        with closing(sqlite3.connect(cache)) as opened:
            rows = opened.execute("SELECT path, size, changed, digest FROM files")
            return {path: (size, changed, digest) for path, size, changed, digest in rows}
    except sqlite3.Error:
        return {}


def _keep(cache: Path, rows: list[tuple[str, int, int, str]]) -> None:
    if not rows:
        return
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(cache)) as opened, opened:
            opened.execute(
                "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INTEGER, changed INTEGER, digest TEXT)"
            )
            opened.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)
    except (OSError, sqlite3.Error):
        return
