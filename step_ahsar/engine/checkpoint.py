"""Checkpoints: one folder per epoch, written completely or not at all. Reading one executes no code.

``checkpoints/epoch-0004/`` holds ``model.safetensors`` (weights and buffers, AHSAR's threshold scales among them),
``ema.safetensors`` where weights are averaged, ``state.pt`` (optimiser, scaler, controller, counters; tensors and plain
values only) and ``checksums.json`` (the SHA-256 of each file, which is checked when it is read). The last two epochs
and the best one are kept.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.files import digest_of, is_unfinished, remove, replacing, sealed, unsealed

_NAME = re.compile(r"epoch-(\d{4,})")
_SUMS = "checksums.json"
_KEPT = 2  # the last one, and the one before it in case the last is damaged


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after an epoch.

    Args:
        epoch: counted from 1.
        best: the epoch with the best metric so far.
        model: state dict.
        ema: state dict of the averaged weights, None if weights are not averaged.
        state: everything else: tensors, numbers, texts, lists and dicts.
    """

    epoch: int
    best: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    state: Mapping[str, Any]

    @property
    def judged(self) -> Mapping[str, Tensor]:
        """State dict of the model that was validated: the averaged weights if weights are averaged."""
        return self.model if self.ema is None else self.ema


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes ``folder/epoch-<n>`` and removes the checkpoints that are no longer kept. Returns its path.

    Raises:
        UserError: it cannot be written; the checkpoints before it are kept.
    """
    target = path_of(folder, checkpoint.epoch)
    state = {"epoch": checkpoint.epoch, "best": checkpoint.best, **checkpoint.state}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in (path for path in folder.iterdir() if is_unfinished(path)):
            remove(left)
        with replacing(target) as partial:
            partial.mkdir()
            _save_tensors(checkpoint.model, partial / "model.safetensors")
            if checkpoint.ema is not None:
                _save_tensors(checkpoint.ema, partial / "ema.safetensors")
            torch.save(state, partial / "state.pt")
            sums = {file.name: digest_of(file) for file in sorted(partial.iterdir())}
            (partial / _SUMS).write_text(sealed(json.dumps(sums)))
    except (OSError, RuntimeError, SafetensorError) as error:  # the last two are what torch and safetensors raise
        reason = str(error).splitlines()[0]
        raise UserError(f"cannot write checkpoint {target}: {reason}{_room(folder, state, checkpoint)}") from error
    for epoch, path in _found(folder)[:-_KEPT]:
        if epoch != checkpoint.best:
            shutil.rmtree(path)
    return target


def _room(folder: Path, state: Any, checkpoint: Checkpoint) -> str:
    """If the disk is too full for a checkpoint, how much room it needs, for the end of a message."""
    needed = sum(tensor.nbytes for tensor in _tensors([state, checkpoint.model, checkpoint.ema]))
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if free > 1.1 * needed:
        return ""
    return f"; it needs {needed / 1e6:.1f} MB and {free / 1e6:.1f} MB are free. Make room and resume the run"


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors inside dicts and lists."""
    if isinstance(value, Tensor):
        yield value
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _tensors(inner)


def load(path: Path, device: torch.device, averaged: bool) -> Checkpoint:
    """Reads one checkpoint.

    Args:
        path: its folder.
        device: where its tensors are put.
        averaged: whether the run averages weights, so that the checkpoint must have them.

    Raises:
        UserError: it is damaged or incomplete.
    """
    if device.type == "cpu":  # of a process among several it is "cpu:0", which those who read files do not know
        device = torch.device("cpu")
    with reading(path):
        _verify(path)
        state = _read_state(path, device)
        model = load_file(path / "model.safetensors", device=str(device))
        ema = load_file(path / "ema.safetensors", device=str(device)) if averaged else None
        epoch, best = state.pop("epoch"), state.pop("best")
        if not (isinstance(epoch, int) and isinstance(best, int)):
            raise ValueError(f"its epochs are no integers: {epoch!r}, {best!r}")
        return Checkpoint(epoch, best, model, ema, state)


def put_into(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Loads the state dict of the checkpoint at ``path``. Raises UserError if it is not one of such a model."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise UserError(f"checkpoint {path} does not fit the model of the run's config: {first}") from error


def load_last(folder: Path, device: torch.device, averaged: bool) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that can be read, None if there is none, and what was wrong with newer ones.

    Raises:
        UserError: there are checkpoints and every one is damaged.
    """
    faults: list[str] = []
    for _, path in reversed(_found(folder)):
        try:
            return load(path, device, averaged), faults
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError(f"no checkpoint in {folder} can be read: {'; '.join(faults)}; train anew in another folder")
    return None, faults


def find(folder: Path, which: str) -> Path:
    """Path of the "last" or the "best" checkpoint. Raises UserError if there is none."""
    if which not in ("last", "best"):
        raise UserError(f"which checkpoint: 'last' or 'best', got {which!r}")
    found = dict(_found(folder))
    if not found:
        raise UserError(f"{folder} holds no checkpoint")
    last = found[max(found)]
    if which == "last":
        return last
    with reading(last):
        _verify(last)
        best = _read_state(last, torch.device("cpu"))["best"]
        if not isinstance(best, int):
            raise ValueError(f"its best epoch is no integer: {best!r}")
    if best not in found:
        raise UserError(f"{folder} holds no checkpoint of the best epoch, {best}")
    return found[best]


def path_of(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch is kept."""
    return folder / f"epoch-{epoch:04d}"


def epoch_of(path: Path) -> int:
    """The epoch of the checkpoint at a path."""
    return int(path.name.partition("-")[2])


def _found(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoints by epoch."""
    if not folder.is_dir():
        return []
    paths = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in paths if match)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a damaged checkpoint leads to inside the block into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except (
        OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, UnpicklingError, SafetensorError
    ) as error:  # fmt: skip
        missing = f"it has no {error}" if isinstance(error, KeyError) else ""
        reason = missing or (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise UserError(f"checkpoint {path} is damaged or incomplete: {reason}") from error


def _verify(path: Path) -> None:
    """Raises ValueError if a file of the checkpoint is not what was written."""
    for name, expected in unsealed((path / _SUMS).read_bytes()).items():
        if digest_of(path / name) != expected:
            raise ValueError(f"{name} is not what was written")


def _read_state(path: Path, device: torch.device) -> dict[str, Any]:
    state = torch.load(path / "state.pt", map_location=device, weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f"state.pt holds a {type(state).__name__}")
    return state


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
