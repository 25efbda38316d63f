"""Running a comparison: every cell with every seed, one run after the other."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from step_ahsar import engine
from step_ahsar.compare.collect import COMPARISON, collect, error_path, run_path
from step_ahsar.compare.observer import Observer, PlannedRun
from step_ahsar.compare.summary import write
from step_ahsar.config import Config, load_config
from step_ahsar.data import open_data
from step_ahsar.engine import NonFiniteLoss, is_vacant
from step_ahsar.errors import UserError
from step_ahsar.files import write_file


def compare(config: Config, out: str | Path, observer: Observer | None = None) -> dict[str, Any]:
    """Trains every cell of the config's section `compare` once per seed, and summarises the runs.

    Runs are ordered by seed, so that a comparison that is stopped early has all cells with its first seeds. Runs that
    have ended are not trained again, interrupted ones continue from their checkpoint. A run that diverged is not tried
    again; a run that failed for another reason is.

    Args:
        config: a config with a section `compare`.
        out: the comparison's folder (see `collect`), new or of the same comparison.
        observer: is told about the progress.

    Returns:
        The summary (docs/summary.md). It is also in OUT/summary.json, which is written after every run.

    Raises:
        UserError: a config that cannot be run, missing data, or a folder that contains something else. In these cases
            nothing is written. Errors of single runs are not raised; the summary reports them.
    """
    out, observer = Path(out), observer or Observer()
    if config.compare is None:
        raise UserError("the config has no section 'compare'; it describes one run: use `step-ahsar train`")
    _check_folder(out, config)
    engine.validate(config)
    cells = config.cells()
    for cell in {repr((cell.task, cell.data)): cell for _, cell in cells}.values():
        open_data(cell)
    _begin(out, config)
    runs = [
        PlannedRun(name, seed, cell.train.epochs, cell.with_values({"seed": seed}))
        for seed in config.compare.seeds
        for name, cell in cells
    ]
    observer.planned(runs)
    for run in runs:
        try:
            result = _run(run, out, observer)
        finally:  # an interrupted run's epochs are kept as well
            summary = collect(out)
            write(summary, out)
        observer.run_ended(run, result)
    return summary


def _run(run: PlannedRun, out: Path, observer: Observer) -> dict[str, Any]:
    """Trains `run` unless it has ended before. An error becomes its result and does not stop the other runs."""
    path, error = run_path(out, run.cell, run.seed), error_path(out, run.cell, run.seed)
    try:
        before = engine.read_result(path) if (path / "config.yaml").is_file() else None
        if before is not None:
            return before
        observer.run_started(run)
        result = engine.train(run.config, path, resume=True, **observer.hooks(run))
        error.unlink(missing_ok=True)
        return result
    except NonFiniteLoss:
        ended = engine.read_result(path)
        assert ended is not None
        return ended
    except Exception as fault:
        line = _one_line(fault)
        try:
            error.parent.mkdir(parents=True, exist_ok=True)
            write_file(error, f"{line}\n\n{traceback.format_exc()}")
        except OSError as unwritable:
            raise UserError(f"cannot write {error}: {unwritable} (after: {line})") from unwritable
        return {"seed": run.seed, "status": "failed", "error": line, "epochs": []}


def _one_line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return text if isinstance(fault, UserError) else f"{type(fault).__name__}: {text}".rstrip(": ")


def _check_folder(out: Path, config: Config) -> None:
    """Raises UserError if the comparison may not be written into `out`."""
    if is_vacant(out):
        return
    if not (out / COMPARISON).is_file():
        raise UserError(f"output folder {out} is not empty and holds no comparison; give another folder")
    there, here = load_config(out / COMPARISON).to_dict(), config.to_dict()
    if differing := [section for section in here if there[section] != here[section]]:
        what = ", ".join(differing)
        raise UserError(f"output folder {out} holds another comparison ({what} differ); give another folder")


def _begin(out: Path, config: Config) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not (out / COMPARISON).exists():
            write_file(out / COMPARISON, config.to_yaml())
    except OSError as fault:
        raise UserError(f"cannot write to output folder {out}: {fault}") from fault
