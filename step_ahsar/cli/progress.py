"""Progress on the terminal: live bars, or plain lines where the output is a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from step_ahsar.compare import Observer, PlannedRun
from step_ahsar.report import text

_LINE_EVERY = 10.0  # seconds between plain lines within a run


class Clock:
    """Estimates the remaining time from the durations of past epochs, of the same cell if there are any."""

    def __init__(self, runs: Sequence[PlannedRun], now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left: dict[PlannedRun, float] = {run: run.epochs for run in runs}
        self._total = sum(self._left.values())
        self._paces: dict[str, tuple[float, int]] = {}
        self._started: dict[PlannedRun, float] = {}  # the runs that are training
        self._first: float | None = None

    def run_started(self, run: PlannedRun) -> None:
        """A run starts."""
        self._started[run] = self._now()

    def step_ended(self, run: PlannedRun, epoch: int, share: float) -> None:
        """A share of `epoch` is done. Until the first epoch has ended, the estimate is based on this."""
        self._left[run] = run.epochs - epoch + 1 - share
        if not self._paces:
            self._first = (self._now() - self._started[run]) / share

    def epoch_ended(self, run: PlannedRun, epoch: int, seconds: float) -> None:
        """`epoch` (from 1) of `run` has ended. The first one need not be 1: a resumed run starts later."""
        spent, count = self._paces.get(run.cell, (0.0, 0))
        self._paces[run.cell] = spent + seconds, count + 1
        self._left[run] = run.epochs - epoch

    def run_ended(self, run: PlannedRun) -> None:
        """`run` has ended, well or not."""
        self._left[run] = 0
        self._started.pop(run, None)

    @property
    def done(self) -> float:
        """The share of all epochs that are done."""
        return 1 - sum(self._left.values()) / self._total if self._total else 1.0

    def seconds_left(self) -> float | None:
        """Estimated seconds for all runs, as many at a time as now; None until the first step has ended."""
        each = [self.seconds_of(run) for run in self._left]
        known = [seconds for seconds in each if seconds is not None]
        return sum(known) / max(1, len(self._started)) if len(known) == len(each) else None

    def seconds_of(self, run: PlannedRun) -> float | None:
        """Estimated seconds of training that `run` still needs; None until the first step of any run has ended."""
        if not self._paces:
            return None if self._first is None else self._first * self._left[run]
        seconds, count = self._paces.get(run.cell) or tuple(map(sum, zip(*self._paces.values(), strict=True)))
        return self._left[run] * seconds / count


def duration(seconds: float | None) -> str:
    """'42 s', '3 min', '2 h 05 min'; '…' of None."""
    if seconds is None:
        return "…"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Lines(Observer):
    """Prints a line at the end of every run, and every 10 seconds at most within a long one."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def planned(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Observer`."""
        self._runs = list(runs)
        self._clock = Clock(runs)
        self._said = time.monotonic()

    def changed(self, lines: Sequence[str]) -> None:
        """See :class:`Observer`."""
        _print_lines(self._console, lines)

    def run_started(self, run: PlannedRun) -> None:
        """See :class:`Observer`."""
        self._clock.run_started(run)

    def epoch_ended(self, run: PlannedRun, metrics: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.epoch_ended(run, metrics["epoch"], metrics["seconds"])
        if metrics["epoch"] < run.epochs and time.monotonic() - self._said >= _LINE_EVERY:
            self._say(run, f"epoch {metrics['epoch']}/{run.epochs}, {_figures(run, metrics)}")

    def run_ended(self, run: PlannedRun, result: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.run_ended(run)
        if result["status"] == "failed":
            self._say(run, f"failed: {result['error']}")
        else:
            self._say(run, f"done, {_figures(run, result['epochs'][-1])}")

    def _say(self, run: PlannedRun, what: str) -> None:
        self._said = time.monotonic()
        place = f"run {self._runs.index(run) + 1}/{len(self._runs)}, " if len(self._runs) > 1 else ""
        left = duration(self._clock.seconds_left())
        _print_lines(self._console, [f"{place}{run.cell}, seed {run.seed}: {what}; left {left}"])


class Bar(Observer):
    """Shows a live bar for each run that is training, one over all runs, and a line for every run that failed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[left]} left"),
            console=console,
            transient=True,
        )
        self._tasks: dict[PlannedRun, TaskID] = {}

    def __enter__(self) -> Bar:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        self._progress.stop()

    def changed(self, lines: Sequence[str]) -> None:
        """See :class:`Observer`."""
        _print_lines(self._console, lines)

    def planned(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Observer`."""
        self._clock, self._number, self._ended = Clock(runs), len(runs), 0
        self._all = self._progress.add_task("", total=1.0, left="…", visible=len(runs) > 1)
        self._show_all()

    def run_started(self, run: PlannedRun) -> None:
        """See :class:`Observer`."""
        self._clock.run_started(run)
        self._tasks[run] = self._progress.add_task("", total=run.epochs, left="…")
        self._show(run, f"epoch 1/{run.epochs}", 0)

    def step_ended(self, run: PlannedRun, step: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        share = step["step"] / step["steps"]
        self._clock.step_ended(run, step["epoch"], share)
        self._show(run, f"epoch {step['epoch']}/{step['epochs']}  loss {step['loss']:.3f}", step["epoch"] - 1 + share)

    def epoch_ended(self, run: PlannedRun, metrics: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.epoch_ended(run, metrics["epoch"], metrics["seconds"])
        self._show(run, f"epoch {metrics['epoch']}/{run.epochs}  {_figures(run, metrics)}", metrics["epoch"])

    def run_ended(self, run: PlannedRun, result: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.run_ended(run)
        self._ended += 1
        if (task := self._tasks.pop(run, None)) is not None:
            self._progress.remove_task(task)
        if result["status"] == "failed":
            _print_lines(self._console, [f"failed: {run.cell}, seed {run.seed}: {result['error']}"])
        self._show_all()

    def _show(self, run: PlannedRun, what: str, epochs: float) -> None:
        self._progress.update(
            self._tasks[run],
            description=f"{run.cell}  seed {run.seed}  {what}",
            completed=epochs,
            left=duration(self._clock.seconds_of(run)),
        )
        self._show_all()

    def _show_all(self) -> None:
        self._progress.update(
            self._all,
            description=f"{self._ended} of {self._number} runs",
            completed=self._clock.done,
            left=duration(self._clock.seconds_left()),
        )


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figures(run: PlannedRun, epoch: dict[str, Any]) -> str:
    """The metric, with the part of the data that it is of, and the loss."""
    name, part = epoch["metric"], run.config.judged_on
    return f"{part} {text.metric(name)} {100 * epoch['metrics'][name]:.1f} %, loss {epoch['train_loss']:.3f}"
