"""The folder of a comparison.

comparison.yaml       the resolved config
runs/<cell>/<seed>/   the folder of each run, see step_ahsar.engine.run
runs/<cell>/<seed>.error.txt   why a run failed: one line, and below it the traceback
runs/<cell>/<seed>.job.txt     the Slurm job that was to train it, if there was one
summary.json          docs/summary.md
report.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ahsar.config import Config, differences, load_config
from step_ahsar.errors import UserError, shortened
from step_ahsar.files import Locked, locked, write_file

COMPARISON = "comparison.yaml"


def run_path(directory: Path, cell: str, seed: int) -> Path:
    """The folder of a comparison's run."""
    return directory / "runs" / cell / str(seed)


def error_path(directory: Path, cell: str, seed: int) -> Path:
    """The file that says why a comparison's run failed."""
    return directory / "runs" / cell / f"{seed}.error.txt"


def job_path(directory: Path, cell: str, seed: int) -> Path:
    """The file that names the job of a cluster which trains a comparison's run."""
    return directory / "runs" / cell / f"{seed}.job.txt"


def error_of(directory: Path, cell: str, seed: int) -> str | None:
    """Why a comparison's run failed, in one line; None if it did not."""
    try:
        return error_path(directory, cell, seed).read_text(encoding="utf-8").partition("\n")[0]
    except FileNotFoundError:
        return None


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Makes the folder, and keeps other processes from writing a comparison into it, for the block.

    Raises:
        UserError: another one does, or the folder cannot be written to.
    """
    with ExitStack() as stack:
        try:
            out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(out))
        except Locked:
            raise UserError(f"another process writes a comparison into {out}; wait for it, or end it") from None
        except OSError as fault:
            raise UserError(f"cannot write to output folder {out}: {fault}") from fault
        yield


@dataclass(frozen=True)
class Changes:
    """What becomes of the cells of a folder whose config has changed.

    Args:
        kept: ids of the cells whose runs are kept.
        renamed: (id there, id here) of those among them that have another id.
        new: ids of the cells that have no runs yet.
        gone: ids of cells that the config no longer has. Their runs stay in the folder and are in no summary.
    """

    kept: Sequence[str]
    renamed: Sequence[tuple[str, str]]
    new: Sequence[str]
    gone: Sequence[str]

    @property
    def earlier(self) -> dict[str, str]:
        """The ids there of renamed cells, by their ids here."""
        return {here: there for there, here in self.renamed}

    def lines(self) -> list[str]:
        """One line each, for a person."""
        renamed = [f"{there} is now {here}" for there, here in self.renamed]
        texts = {"kept": self.kept, "renamed": renamed, "new": self.new, "left out, their runs stay": self.gone}
        return [f"cells {what}: {shortened(ids)}" for what, ids in texts.items() if ids]


def changes(out: Path, config: Config) -> Changes | None:
    """How the cells of `config` are related to the runs in `out`; None for a new folder and an unchanged config.

    A cell is that of earlier runs if it has their config, whatever its id.

    Raises:
        UserError: `out` holds something else, or runs of another cell have the id of one of the cells.
    """
    from step_ahsar.engine import is_vacant

    if is_vacant(out):
        return None
    if not (out / COMPARISON).is_file():
        raise UserError(f"output folder {out} is not empty and holds no comparison; give another folder")
    if load_config(out / COMPARISON) == config.lasting():
        return None
    there, cells = _cells_in(out), {name: _content(cell) for name, cell in config.cells()}
    kept = [name for name, content in cells.items() if there.get(name) == content]
    free = [old for old in there if old not in kept]
    renamed: list[tuple[str, str]] = []
    for name in cells:
        if name not in kept and (old := next((old for old in free if there[old] == cells[name]), None)) is not None:
            free.remove(old)
            renamed.append((old, name))
    moved = {before for before, _ in renamed}
    for name in cells:
        if name in there and there[name] != cells[name] and name not in moved:
            differing = shortened(differences(there[name], cells[name]), limit=1, separator="; ")
            raise UserError(
                f"output folder {out} holds runs of another cell {name!r}: {differing}; give the cell another id, or "
                "the comparison another folder"
            )
    gone = [name for name in there if name not in cells and name not in moved]
    known = {*kept, *(here for _, here in renamed)}
    return Changes(
        [name for name in cells if name in known],
        _in_order(out, renamed),
        [name for name in cells if name not in known],
        gone,
    )


def begin(out: Path, config: Config, changed: Changes | None) -> None:
    """Writes the config of a new comparison, or of a changed one after moving the folders of its renamed cells.

    Raises:
        UserError: the folder cannot be written to.
    """
    try:
        (out / "runs").mkdir(parents=True, exist_ok=True)
        for before, here in changed.renamed if changed else ():
            (out / "runs" / before).rename(out / "runs" / here)
        if changed or not (out / COMPARISON).exists():
            write_file(out / COMPARISON, config.lasting().to_yaml())
    except OSError as fault:
        raise UserError(f"cannot write to output folder {out}: {fault}") from fault


def _in_order(out: Path, renamed: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The same moves in an order in which each folder finds its new place free.

    Raises:
        UserError: there is no such order.
    """
    taken, waiting, ordered = {path.name for path in out.glob("runs/*")}, list(renamed), []
    while move := next((move for move in waiting if move[1] not in taken), None):
        waiting.remove(move)
        ordered.append(move)
        taken = taken - {move[0]} | {move[1]}
    if waiting:
        names = ", ".join(here for _, here in waiting)
        raise UserError(f"cells of {out} have exchanged their ids ({names}); leave them as they were")
    return ordered


def _cells_in(out: Path) -> dict[str, dict[str, Any]]:
    """The config of each cell of which there are runs, without the seed."""
    found: dict[str, dict[str, Any]] = {}
    for file in sorted((out / "runs").glob("*/*/config.yaml")):
        if (name := file.parents[1].name) not in found:  # all seeds of a cell have the same one
            found[name] = _content(load_config(file))
    return found


def _content(config: Config) -> dict[str, Any]:
    return {key: value for key, value in config.trained().items() if key != "seed"}
