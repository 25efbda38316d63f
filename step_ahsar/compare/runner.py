"""Running a comparison: every cell under every seed, one after the other, with everything on disk at all times."""

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
from step_ahsar.engine import NonFiniteLoss
from step_ahsar.errors import UserError


def compare(config: Config, out: str | Path, observer: Observer | None = None) -> dict[str, Any]:
    """Train every cell of the config's section `compare` once per seed, and summarise.

    Runs go one after the other, seed by seed, so that a comparison that is stopped early has all cells under its first
    seeds. What has ended is not trained again, what was interrupted goes on from its checkpoint. A run that diverged
    stays diverged; one that broke off for another reason is tried again when the comparison is.

    Args:
        config: with a section `compare`.
        out: the comparison's folder (see `collect`), new or of the same comparison.
        observer: hears of the progress.

    Returns:
        The summary (docs/summary.md), which is in OUT/summary.json as well, and is written anew after every run.

    Raises:
        UserError: a config that cannot be run, data that are not there, or a folder that holds something else. Nothing
            is written then. Faults of single runs are no exceptions: they are in the summary.
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
    """Train `run` unless it has ended before. Whatever goes wrong is its result, and does not stop the others."""
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
            error.write_text(f"{line}\n\n{traceback.format_exc()}", encoding="utf-8")
        except OSError as unwritable:
            raise UserError(f"cannot write {error}: {unwritable} (after: {line})") from unwritable
        return {"seed": run.seed, "status": "failed", "error": line, "epochs": []}


def _one_line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return text if isinstance(fault, UserError) else f"{type(fault).__name__}: {text}".rstrip(": ")


def _check_folder(out: Path, config: Config) -> None:
    """Raise UserError if `out` may not be written into."""
    if out.exists() and not out.is_dir():
        raise UserError(f"output {out} is a file; give a folder")
    if not out.exists() or not any(out.iterdir()):
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
            partial = out / f"{COMPARISON}.partial"
            partial.write_text(config.to_yaml(), encoding="utf-8")
            partial.replace(out / COMPARISON)
    except OSError as fault:
        raise UserError(f"cannot write to output folder {out}: {fault}") from fault
