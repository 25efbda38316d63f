"""Identifying a data set by its content, so that two manifests can be compared."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np


def fingerprint_arrays(arrays: Iterable[Any]) -> str:
    """SHA-256 over dtype, shape and bytes of each array (or list of numbers), in order."""
    digest = sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return f"sha256:{digest.hexdigest()}"


def stamp_files(files: Iterable[Path]) -> str:
    """SHA-256 over when each file was last changed, in order; sizes and names are in :func:`fingerprint_files`."""
    return sha256(repr([file.stat().st_mtime_ns for file in files]).encode()).hexdigest()


def fingerprint_files(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the paths below ``root`` and the sizes in bytes; the files are not read."""
    digest = sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\n".encode())
    return f"sha256:{digest.hexdigest()}"
