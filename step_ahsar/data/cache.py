"""Keeping the frames of recordings on disk."""

from collections.abc import Callable
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.registry import Samples
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.scenes.scene import Scene
from step_ahsar.errors import UserError
from step_ahsar.files import write_file

_SUM = 4  # bytes of the checksum at a file's end
_CLASS, _SCENE = b"c", b"s"  # kinds of targets
_NONE = np.zeros(0, "S1")


class FrameCache:
    """Samples of (frames, target), each in a file. The file is written at the first access, and again if it is damaged.

    Several processes may write the same file at once. Counts below 256 take one byte each on disk; they are read back
    as ``to_frames`` made them.

    Args:
        samples: (recording, target) each; a target is a class index or a :class:`Scene`.
        to_frames: makes frames [T, P, H, W] of a recording: int16 counts, or real numbers.
        folder: a folder of this cache alone. Its name must differ if anything differs that the frames depend on.
    """

    def __init__(self, samples: Samples, to_frames: Callable[[Recording], NDArray], folder: Path) -> None:
        self.samples, self.to_frames, self.folder = samples, to_frames, folder

    @property
    def labels(self) -> Any:
        """Class indices of the samples; None if they are not known."""
        return getattr(self.samples, "labels", None)

    def __getitem__(self, index: int) -> tuple[NDArray, Any]:
        """Raises UserError if the file cannot be written, and whatever ``samples`` raises."""
        path = self.folder / f"{index % len(self):07d}.npy"
        kept = _load(path)
        if kept is not None:
            return kept
        recording, target = self.samples[index]
        frames = self.to_frames(recording)
        try:
            _save(path, frames, target)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; set data.cache to another folder") from error
        return frames, target

    def __len__(self) -> int:
        return len(self.samples)


def _save(path: Path, frames: NDArray, target: Any) -> None:
    """Writes the array in NumPy's format, the target, and a checksum."""
    content = BytesIO()
    np.save(content, frames.astype(np.uint8) if frames.dtype == np.int16 and _fits(frames) else frames)
    if isinstance(target, Scene):
        content.write(_SCENE)
        for field in fields(Scene):
            part = getattr(target, field.name)
            np.save(content, _NONE if part is None else np.asarray(part))
    else:
        content.write(_CLASS + int(target).to_bytes(8, "little", signed=True))
    content.write(crc32(content.getvalue()).to_bytes(_SUM, "little"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, content.getvalue(), durable=False)  # a damaged file has a wrong checksum and is written again


def _load(path: Path) -> tuple[NDArray, Any] | None:
    """Frames and target; None if the file is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if len(content) <= _SUM or crc32(content[:-_SUM]).to_bytes(_SUM, "little") != content[-_SUM:]:
        return None
    file = BytesIO(content)
    frames = np.load(file)
    if frames.dtype == np.uint8:
        frames = frames.astype(np.int16)
    if file.read(1) == _CLASS:
        return frames, int.from_bytes(file.read(8), "little", signed=True)
    parts: dict[str, Any] = {field.name: np.load(file) for field in fields(Scene)}
    parts = {name: None if part.dtype == _NONE.dtype else part for name, part in parts.items()}
    return frames, Scene(**parts | {"name": parts["name"].item()})


def _fits(frames: NDArray) -> bool:
    """Whether each count fits into a byte."""
    return frames.size == 0 or (frames.min() >= 0 and frames.max() < 256)
