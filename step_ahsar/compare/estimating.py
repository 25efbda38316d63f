"""How long a comparison will take and how much room it needs, before it is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from statistics import fmean
from typing import Any

from step_ahsar import engine
from step_ahsar.compare.folder import run_path
from step_ahsar.compare.launchers import threads_of
from step_ahsar.compare.observer import PlannedRun
from step_ahsar.compare.queue import limited_threads
from step_ahsar.compare.runner import plan
from step_ahsar.compare.worker import Worker, ended
from step_ahsar.config import Config
from step_ahsar.data import cache_folder
from step_ahsar.engine import Cost
from step_ahsar.files import write_file
from step_ahsar.progress import work
from step_ahsar.robustness import evaluations

_KEPT = 3  # checkpoints of a run: the last two and the best
_COUNTED = 1.4  # evaluations that counting operations takes, see docs/operations.md
# Settings that change no time: cells that differ in nothing else are measured once.
_TIMELESS = {
    "model": ("threshold", "attn_threshold", "tau", "alpha"),
    "train": ("epochs", "lr", "weight_decay", "schedule", "warmup_epochs", "warmup_lr", "min_lr", "cooldown_epochs"),
}


@dataclass(frozen=True)
class CellEstimate:
    """What is left of one cell.

    Args:
        cell: its id.
        runs: number of runs that have not ended.
        epochs: epochs that these runs still need.
        seconds: of all of them, one after the other.
        bytes: that they need on disk.
    """

    cell: str
    runs: int
    epochs: int
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """What is left of a comparison.

    Args:
        runs: number of its runs, ended or not.
        changes: what becomes of the cells of an earlier config, one line each.
        cells: what is left of each cell.
    """

    runs: int
    changes: list[str]
    cells: list[CellEstimate]


def estimate(config: Config, out: str | Path) -> Estimate:
    """Estimates each cell of a comparison, by the epochs that it has been trained for, or by a few steps.

    The steps are measured once for each configuration and machine, and remembered in the cache folder. Nothing is
    written into `out`.

    Raises:
        UserError: as :func:`compare`.
    """
    out = Path(out)
    runs, changed = plan(config, out)
    there = changed.earlier if changed else {}
    worker, known = Worker(out), _Measured(config)
    found = []
    cells = list(dict.fromkeys(run.cell for run in runs))
    with limited_threads(threads_of(config.launch)), work("cell", len(cells)) as begin:
        for cell in cells:
            begin(cell)
            of_cell = [replace(run, cell=there.get(cell, cell)) for run in runs if run.cell == cell]
            found.append(_of_cell(cell, of_cell, out, lambda run: known.cost(run, worker)))
    return Estimate(len(runs), changed.lines() if changed else [], found)


def _of_cell(cell: str, runs: list[PlannedRun], out: Path, cost_of: Callable[[PlannedRun], Cost]) -> CellEstimate:
    left = [run for run in runs if ended(out, run) is None]
    if not left:
        return CellEstimate(cell, 0, 0, 0.0, 0)
    rows = {run: _epochs(out, run) for run in runs}
    cost = cost_of(left[0])
    # Kernels are compiled in the first epoch.
    epoch = fmean([row["seconds"] for run in runs for row in rows[run][1:]] or [cost.epoch])
    epochs = sum(run.epochs - len(rows[run]) for run in left)
    seconds = len(left) * (cost.start + _tests(left[0]) * cost.test) + epochs * epoch
    return CellEstimate(cell, len(left), epochs, seconds, len(left) * _KEPT * cost.state)


def _tests(run: PlannedRun) -> float:
    """How many evaluations of the test set take as long as all tests of a run after its training, roughly."""
    tests: float = 2 + sum(map(evaluations, run.conditions))
    if run.early_exit is not None:
        steps = run.config.model.time_steps
        tests += 2 + _COUNTED * (steps + 1) / 2  # operations are counted after one step, two, ..., all of them
    return tests


def _epochs(out: Path, run: PlannedRun) -> list[dict[str, Any]]:
    path = run_path(out, run.cell, run.seed)
    return engine.Run.existing(path).metrics() if (path / "config.yaml").is_file() else []


class _Measured:
    """Costs that were measured on this machine, in a file of the cache folder."""

    def __init__(self, config: Config) -> None:
        self._file = cache_folder(config.data) / "costs.json"
        try:
            self._costs = json.loads(self._file.read_text())
        except (OSError, ValueError):  # there is none, or it is damaged: measure again
            self._costs = {}

    def cost(self, run: PlannedRun, worker: Worker) -> Cost:
        """What a run costs, measured now or earlier."""
        key = _key(run.config)
        if key not in self._costs:
            self._costs[key] = asdict(engine.probe(run.config, worker.open(run)))
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._file, json.dumps(self._costs))
        return Cost(**self._costs[key])


def _key(config: Config) -> str:
    values = {key: value for key, value in config.to_dict().items() if key not in ("seed", "ahsar")}
    for section, names in _TIMELESS.items():
        values[section] = {key: value for key, value in values[section].items() if key not in names}
    what = values, engine.versions(), engine.hardware(), engine.git_commit()
    return blake2b(json.dumps(what).encode(), digest_size=16).hexdigest()
