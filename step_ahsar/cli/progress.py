"""Progress on the terminal: one live bar, or plain lines where the output is a file or a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from step_ahsar.compare import Observer, PlannedRun
from step_ahsar.report import text

_LINE_EVERY = 10.0  # seconds between plain lines within a run


class Clock:
    """Estimates the remaining time from the durations of past epochs, of the same cell if there are any."""

    def __init__(self, runs: Sequence[PlannedRun], now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._left: dict[PlannedRun, float] = {run: run.epochs for run in runs}
        self._paces: dict[str, tuple[float, int]] = {}
        self._mark = now()
        self._first: float | None = None
        self._total = sum(self._left.values())

    def run_started(self) -> None:
        """A run starts. Its first epoch is timed from here."""
        self._mark = self._now()

    def step_ended(self, run: PlannedRun, epoch: int, share: float) -> None:
        """A share of `epoch` is done. Until the first epoch has ended, the estimate is based on this."""
        self._left[run] = run.epochs - epoch + 1 - share
        self._first = (self._now() - self._mark) / share

    def epoch_ended(self, run: PlannedRun, epoch: int) -> None:
        """`epoch` (from 1) of `run` has ended. The first one need not be 1: a resumed run starts later."""
        now = self._now()
        seconds, count = self._paces.get(run.cell, (0.0, 0))
        self._paces[run.cell] = seconds + now - self._mark, count + 1
        self._mark = now
        self._left[run] = run.epochs - epoch

    def run_ended(self, run: PlannedRun) -> None:
        """`run` has ended, well or not."""
        self._left[run] = 0

    @property
    def done(self) -> float:
        """The share of all epochs that are done."""
        return 1 - sum(self._left.values()) / self._total if self._total else 1.0

    def seconds_left(self) -> float | None:
        """Estimated seconds; None until the first step has ended."""
        if not self._paces:
            return None if self._first is None else self._first * sum(self._left.values())
        seconds, count = (sum(column) for column in zip(*self._paces.values(), strict=True))
        paces = {cell: spent / epochs for cell, (spent, epochs) in self._paces.items()}
        return sum(left * paces.get(run.cell, seconds / count) for run, left in self._left.items())


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

    def planned(self, runs: Sequence[PlannedRun]) -> None:  # noqa: D102
        self._runs = list(runs)
        self._clock = Clock(runs)
        self._said = time.monotonic()

    def run_started(self, run: PlannedRun) -> None:  # noqa: D102
        self._clock.run_started()

    def epoch_ended(self, run: PlannedRun, metrics: dict[str, Any]) -> None:  # noqa: D102
        self._clock.epoch_ended(run, metrics["epoch"])
        if metrics["epoch"] < run.epochs and time.monotonic() - self._said >= _LINE_EVERY:
            self._say(run, f"epoch {metrics['epoch']}/{run.epochs}, {_figures(run, metrics)}")

    def run_ended(self, run: PlannedRun, result: dict[str, Any]) -> None:  # noqa: D102
        self._clock.run_ended(run)
        if result["status"] == "failed":
            self._say(run, f"failed: {result['error']}")
        else:
            self._say(run, f"done, {_figures(run, result['epochs'][-1])}")

    def _say(self, run: PlannedRun, what: str) -> None:
        self._said = time.monotonic()
        place = f"run {self._runs.index(run) + 1}/{len(self._runs)}, " if len(self._runs) > 1 else ""
        line = f"{place}{run.cell}, seed {run.seed}: {what}; left {duration(self._clock.seconds_left())}"
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Bar(Observer):
    """Shows one live bar over all epochs of all runs, and a line for every run that failed."""

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

    def __enter__(self) -> Bar:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        self._progress.stop()

    def planned(self, runs: Sequence[PlannedRun]) -> None:  # noqa: D102
        self._runs = list(runs)
        self._clock = Clock(runs)
        self._task = self._progress.add_task("", total=1.0, left="…")

    def run_started(self, run: PlannedRun) -> None:  # noqa: D102
        self._clock.run_started()
        self._show(run, f"epoch 1/{run.epochs}")

    def step_ended(self, run: PlannedRun, step: dict[str, Any]) -> None:  # noqa: D102
        self._clock.step_ended(run, step["epoch"], step["step"] / step["steps"])
        self._show(run, f"epoch {step['epoch']}/{step['epochs']}  loss {step['loss']:.3f}")

    def epoch_ended(self, run: PlannedRun, metrics: dict[str, Any]) -> None:  # noqa: D102
        self._clock.epoch_ended(run, metrics["epoch"])
        self._show(run, f"epoch {metrics['epoch']}/{run.epochs}  {_figures(run, metrics)}")

    def run_ended(self, run: PlannedRun, result: dict[str, Any]) -> None:  # noqa: D102
        self._clock.run_ended(run)
        if result["status"] == "failed":
            line = f"failed: {run.cell}, seed {run.seed}: {result['error']}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _show(self, run: PlannedRun, what: str) -> None:
        place = f"run {self._runs.index(run) + 1}/{len(self._runs)}  " if len(self._runs) > 1 else ""
        self._progress.update(
            self._task,
            description=f"{place}{run.cell}  seed {run.seed}  {what}",
            completed=self._clock.done,
            left=duration(self._clock.seconds_left()),
        )


def _figures(run: PlannedRun, epoch: dict[str, Any]) -> str:
    """The metric, and the part of the data that it is of: the test set only in a run without a validation part."""
    name, part = epoch["metric"], "validation" if run.config.data.validation else "test"
    return f"{part} {text.metric(name)} {100 * epoch['metrics'][name]:.1f} %, loss {epoch['train_loss']:.3f}"
