"""The runs of a comparison, in this process or in others, and what becomes of them."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from step_ahsar import engine
from step_ahsar.compare.folder import error_of, error_path, run_path
from step_ahsar.compare.launchers import LAUNCHERS, Launcher, threads_of
from step_ahsar.compare.observer import Observer, PlannedRun
from step_ahsar.compare.worker import Worker, ended, failed, record_failure
from step_ahsar.config import LaunchConfig
from step_ahsar.engine import METRICS
from step_ahsar.errors import UserError
from step_ahsar.files import is_locked

_EVERY = 0.2  # seconds between two looks at the runs' folders, at least
_SHARE = 0.02  # of the time that looking may take: it is taken from the training

Ended = Generator[tuple[PlannedRun, dict[str, Any]]]


def train_all(out: Path, runs: Sequence[PlannedRun], worker: Worker, config: LaunchConfig, observer: Observer) -> Ended:
    """Trains the runs that have not ended. Yields each run and its result, as they end.

    One at a time, they are trained in this process by `worker`.

    Raises:
        UserError: the folder cannot be written to.
    """
    if config.launcher == "local" and config.jobs == 1:
        with limited_threads(threads_of(config)):
            yield from ((run, worker.train(run)) for run in runs)
        return
    left = {}
    for run in runs:
        if (result := _ended(out, run)) is not None:
            yield run, result
            continue
        error_path(out, run.cell, run.seed).unlink(missing_ok=True)
        left[run] = _Progress(run_path(out, run.cell, run.seed))
    if left:
        with closing(LAUNCHERS[config.launcher].create(out, config)) as launcher:
            launcher.submit(list(left))
            yield from _watch(out, left, launcher, observer)


@contextmanager
def limited_threads(number: int) -> Iterator[None]:
    """Torch uses this number of threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _watch(out: Path, left: dict[PlannedRun, _Progress], launcher: Launcher, observer: Observer) -> Ended:
    """Follows the runs in their folders, whichever process trains them."""
    while left:
        began = time.monotonic()
        lost = launcher.lost()  # first: what it names has ended before its folder is read
        done = []
        for run in left:
            left[run].tell(run, observer)
            result = _ended(out, run)
            if result is None and (error := error_of(out, run.cell, run.seed)) is not None:
                result = failed(run, error)
            elif result is None and run in lost:
                result = record_failure(out, run, lost[run])
            if result is not None:
                done.append((run, result))
        took = time.monotonic() - began
        for run, _ in done:
            del left[run]
        yield from done
        if not done:
            time.sleep(max(_EVERY, took / _SHARE))


def _ended(out: Path, run: PlannedRun) -> dict[str, Any] | None:
    """The result of a run that has ended. None if it is damaged: the process that is to train the run will say so."""
    try:
        return ended(out, run)
    except UserError:
        return None


class _Progress:
    """What was told of a run."""

    def __init__(self, path: Path) -> None:
        self._path, self._started = path, False
        self._size, self._epoch = 0, 0
        if rows := self._news():
            self._epoch = rows[-1]["epoch"]

    def tell(self, run: PlannedRun, observer: Observer) -> None:
        """Tells the observer what is new."""
        news = self._news()
        if not self._started and (news or is_locked(self._path)):
            self._started = True
            observer.run_started(run)
        for row in news:
            self._epoch = row["epoch"]
            observer.epoch_ended(run, row)

    def _news(self) -> list[dict[str, Any]]:
        """The epochs that were not told."""
        try:
            size = (self._path / METRICS).stat().st_size
        except FileNotFoundError:
            return []
        if size == self._size:
            return []
        self._size = size
        return [row for row in engine.Run.existing(self._path).metrics() if row["epoch"] > self._epoch]
