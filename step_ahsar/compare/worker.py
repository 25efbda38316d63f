"""Training the runs of a comparison, one after the other, in one process."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from step_ahsar import engine
from step_ahsar.compare.folder import error_path, run_path
from step_ahsar.compare.observer import Observer, PlannedRun
from step_ahsar.data import Data, open_data
from step_ahsar.errors import ToldByMain, UserError
from step_ahsar.files import write_file

_PATIENCE = 1.0  # seconds between looks at a run that another process trains


class Worker:
    """Trains and tests runs, and opens each of their data sets once.

    Args:
        out: the comparison's folder.
        observer: is told about the progress.
    """

    def __init__(self, out: Path, observer: Observer | None = None) -> None:
        self._out, self._observer = out, observer or Observer()
        self._opened: dict[str, Data] = {}

    def open(self, run: PlannedRun) -> Data:
        """The data set of a run. Raises UserError if it cannot be opened."""
        key = repr((run.config.task, run.config.data))
        if key not in self._opened:
            self._opened[key] = open_data(run.config)
        return self._opened[key]

    def train(self, run: PlannedRun) -> dict[str, Any]:
        """Trains a run unless it has ended before. An error becomes its result, and is written into its file.

        If another process trains the run, this waits until it has ended, and goes on if it was interrupted.

        Raises:
            UserError: the error cannot be written.
        """
        path, error = run_path(self._out, run.cell, run.seed), error_path(self._out, run.cell, run.seed)
        while True:
            try:
                if (before := ended(self._out, run)) is not None:
                    return before
                self._observer.run_started(run)
                data = self.open(run)
                result = engine.train(run.config, path, resume=True, datasets=data, **self._observer.hooks(run))
                if run.conditions:
                    engine.measure_conditions(path, run.conditions, datasets=data)
                if run.early_exit is not None:
                    engine.measure_early_exit(path, run.early_exit, datasets=data)
                error.unlink(missing_ok=True)
                return result
            except engine.InUse:
                time.sleep(_PATIENCE)
            except engine.NonFiniteLoss:
                continue  # it has recorded its result
            except ToldByMain as fault:
                return failed(run, _one_line(fault))
            except Exception as fault:
                return record_failure(self._out, run, _one_line(fault), traceback.format_exc())


def ended(out: Path, run: PlannedRun) -> dict[str, Any] | None:
    """The result of a run that has ended, well or because it diverged; None while it has not.

    A run that was trained well has ended when it was also tested under all conditions, and with early exit.
    """
    path = run_path(out, run.cell, run.seed)
    result = engine.read_result(path) if (path / engine.RESULT).is_file() else None
    if result is None or result["status"] != "ok":
        return result
    if run.conditions and not set(run.conditions) <= set(engine.measured_conditions(path)):
        return None
    if run.early_exit is not None and engine.measured_early_exit(path, run.early_exit) is None:
        return None
    return result


def record_failure(out: Path, run: PlannedRun, line: str, details: str = "") -> dict[str, Any]:
    """Writes why a run failed, and returns this as its result. Raises UserError if it cannot be written."""
    error = error_path(out, run.cell, run.seed)
    try:
        error.parent.mkdir(parents=True, exist_ok=True)
        write_file(error, f"{line}\n\n{details}")
    except OSError as unwritable:
        raise UserError(f"cannot write {error}: {unwritable} (after: {line})") from unwritable
    return failed(run, line)


def failed(run: PlannedRun, line: str) -> dict[str, Any]:
    """The result of a run that failed."""
    return {"seed": run.seed, "status": "failed", "error": line, "epochs": []}


def _one_line(fault: Exception) -> str:
    text = " ".join(str(fault).split())
    return text if isinstance(fault, UserError) else f"{type(fault).__name__}: {text}".rstrip(": ")
