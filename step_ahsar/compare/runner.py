"""Running a comparison: every cell with every seed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from os import environ
from pathlib import Path
from typing import Any

from step_ahsar import engine
from step_ahsar.compare.collecting import collect
from step_ahsar.compare.folder import Changes, begin, changes, held, run_path
from step_ahsar.compare.launchers import check_launch
from step_ahsar.compare.observer import Observer, PlannedRun
from step_ahsar.compare.pairs import check_factors, described
from step_ahsar.compare.queue import train_all
from step_ahsar.compare.summary import write
from step_ahsar.compare.worker import Worker
from step_ahsar.config import Config
from step_ahsar.errors import UserError
from step_ahsar.robustness import check_installed

_SUMMARY_EVERY = 10.0  # seconds between two summaries of a comparison that is running, at least
_SUMMARY_SHARE = 0.02  # of the time that summaries may take: it is taken from the training


def compare(config: Config, out: str | Path, observer: Observer | None = None) -> dict[str, Any]:
    """Trains every cell of the config's section `compare` once per seed, and summarises the runs.

    Runs are ordered by seed, so that a comparison that is stopped early has all cells with its first seeds. Runs that
    have ended are not trained again, interrupted ones continue from their checkpoint. A run that diverged is not tried
    again; a run that failed for another reason is. The section `launch` says where they are trained, and how many at a
    time.

    Args:
        config: a config with a section `compare`.
        out: the comparison's folder (see `folder.py`), new or of an earlier comparison. Runs of cells that are the same
            in both are kept.
        observer: is told about the progress.

    Returns:
        The summary (docs/summary.md). It is also in OUT/summary.json, which is written while the runs are trained.

    Raises:
        UserError: a config that cannot be run, missing data, a folder that contains something else, or one into which
            another process writes a comparison. In these cases nothing is written. Errors of single runs are not
            raised; the summary reports them.
    """
    if int(environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a comparison is started in one process; its option --jobs trains several runs at a time")
    out, observer = Path(out), observer or Observer()
    runs, changed = plan(config, out)
    worker = Worker(out, observer)
    for run in runs:
        worker.open(run)
    _check_data(runs, {} if changed is None else changed.earlier, out, worker)
    with held(out):
        return _compare(config, out, runs, worker, observer)


def _check_data(runs: list[PlannedRun], earlier: Mapping[str, str], out: Path, worker: Worker) -> None:
    """Raises UserError if a run has begun with other data than there are now: cells on both could not be compared.

    Args:
        runs: all runs of the comparison.
        earlier: the ids under which renamed cells are still on disk, by their ids now.
        out: the comparison's folder.
        worker: opens the data.
    """
    for run in runs:
        begun = engine.Run(run_path(out, earlier.get(run.cell, run.cell), run.seed), run.config)
        try:
            begun.manifest()
        except (UserError, OSError):  # not begun, or damaged, which the run itself will tell
            continue
        begun.check_data(worker.open(run))


def plan(config: Config, out: Path) -> tuple[list[PlannedRun], Changes | None]:
    """The runs of a comparison in their order, and how its cells are related to those of an earlier one in `out`.

    Raises:
        UserError: as :func:`compare`, but for missing data.
    """
    if config.compare is None:
        raise UserError("the config has no section 'compare'; it describes one run: use `step-ahsar train`")
    changed = changes(out, config)
    return planned(config), changed


def planned(config: Config) -> list[PlannedRun]:
    """The runs of a comparison in their order. Nothing is read. Raises UserError for a config that cannot be run."""
    assert config.compare is not None
    check_launch(config.launch)
    engine.validate(config)
    cells = config.cells()
    check_factors(described(cells), config.compare.pairs or ())
    if config.compare.early_exit is not None:
        for name, cell in cells:
            try:
                engine.check_early_exit(cell)
            except UserError as error:
                raise UserError(f"{config.compare.place(name)}: {error}") from None
    conditions = engine.conditions_of(config.compare.conditions, [cell for _, cell in cells])
    check_installed(name for names in conditions for name in names)
    return [
        PlannedRun(
            name,
            seed,
            cell.train.epochs,
            cell.model_copy(update={"seed": seed, "track": config.track}),
            tested,
            config.compare.early_exit,
        )
        for seed in config.compare.seeds
        for (name, cell), tested in zip(cells, conditions, strict=True)
    ]


def _compare(config: Config, out: Path, runs: list[PlannedRun], worker: Worker, observer: Observer) -> dict[str, Any]:
    changed = changes(out, config)  # once more, now that no other process writes into the folder
    begin(out, config, changed)
    if changed is not None:
        observer.changed(changed.lines())
    observer.planned(runs)
    due = time.monotonic() + _SUMMARY_EVERY
    try:
        with closing(train_all(out, runs, worker, config.launch, observer)) as results:
            for run, result in results:
                if (began := time.monotonic()) > due:
                    write(collect(out), out)
                    ended = time.monotonic()
                    due = ended + max(_SUMMARY_EVERY, (ended - began) / _SUMMARY_SHARE)
                observer.run_ended(run, result)
    finally:  # an interrupted run's epochs are kept as well
        summary = collect(out)
        write(summary, out)
    return summary
