"""Progress on stderr: live bars on a terminal, one line in a notebook, plain lines in a file or a pipe."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn
from rich.table import Column

from step_ahsar.cli.invoking import is_main
from step_ahsar.compare import Observer, PlannedRun
from step_ahsar.progress import told
from step_ahsar.report import text

_LINE_EVERY = 10.0  # seconds between plain lines, at least
_SHOWN_AFTER = 2.0  # seconds that work must take to be shown on a terminal, so that short work does not flicker


@contextmanager
def shown() -> Iterator[Observer]:
    """Shows on stderr how far the work in the block is, and yields what is to be told of training.

    Of several processes that train one run the first one alone shows something.
    """
    if not is_main():
        yield Observer()
        return
    console = Console(stderr=True, force_jupyter=False)
    is_terminal = sys.stderr.isatty()  # rich calls a file one, too, if FORCE_COLOR is set, as it is in a notebook
    in_notebook = Console().is_jupyter or (is_terminal and "JPY_PARENT_PID" in os.environ)
    if in_notebook or (is_terminal and not console.is_dumb_terminal):
        with (NotebookBar if in_notebook else Bar)(console) as bar, told(bar.worked):
            yield bar
    else:
        lines = Lines(console)
        with told(lines.worked):
            yield lines


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


class Pace:
    """Estimates the remaining time of one piece of work after the other, from the pace of each so far."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.what, self.share = "", 1.0
        self.began = self._told = now()
        self._left: float | None = None

    def worked(self, what: str, share: float) -> None:
        """See :func:`step_ahsar.progress.told`."""
        self._told = self._now()
        if share == 0 or self.ended:
            self.began = self._told
        self.what, self.share = what, share
        spent = self._told - self.began
        self._left = spent * (1 - share) / share if share and spent else None

    @property
    def ended(self) -> bool:
        """Whether nothing is being done."""
        return self.share >= 1

    def seconds_left(self) -> float | None:
        """Estimated seconds; None if nothing is known, or if what is being done takes longer than was estimated."""
        left = None if self._left is None else self._left - (self._now() - self._told)
        return None if left is None or left < 0 else left


def duration(seconds: float | None) -> str:
    """'42 s', '3 min', '2 h 05 min'; '…' of None."""
    if seconds is None:
        return "…"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Lines(Observer):
    """Prints a line at the end of every run, and every 10 seconds at most within what takes longer."""

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console, self._now = console, now
        self._pace = Pace(now)
        self._said = now()
        self._runs: list[PlannedRun] = []

    def planned(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Observer`."""
        self._runs = list(runs)
        self._clock = Clock(runs, self._now)
        self._said = self._now()

    def changed(self, lines: Sequence[str]) -> None:
        """See :class:`Observer`."""
        _print_lines(self._console, lines)

    def run_started(self, run: PlannedRun) -> None:
        """See :class:`Observer`."""
        self._clock.run_started(run)

    def worked(self, what: str, share: float) -> None:
        """Other work than steps of training is being done, see :func:`step_ahsar.progress.told`."""
        self._pace.worked(what, share)
        # Between epochs of a run only what takes long is worth a line.
        since = max(self._said, self._pace.began) if self._runs else self._said
        if not self._pace.ended and self._now() - since >= _LINE_EVERY:
            self._print(f"{what}: {share:.0%}; left {duration(self._pace.seconds_left())}")

    def step_ended(self, run: PlannedRun, step: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.step_ended(run, step["epoch"], step["step"] / step["steps"])
        if step["step"] < step["steps"] and self._now() - self._said >= _LINE_EVERY:
            place = f"epoch {step['epoch']}/{run.epochs}, step {step['step']}/{step['steps']}"
            self._say(run, f"{place}, loss {step['loss']:.3f}")

    def epoch_ended(self, run: PlannedRun, metrics: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.epoch_ended(run, metrics["epoch"], metrics["seconds"])
        if metrics["epoch"] < run.epochs and self._now() - self._said >= _LINE_EVERY:
            self._say(run, f"epoch {metrics['epoch']}/{run.epochs}, {_figures(run, metrics)}")

    def run_ended(self, run: PlannedRun, result: dict[str, Any]) -> None:
        """See :class:`Observer`."""
        self._clock.run_ended(run)
        if result["status"] == "failed":
            self._say(run, f"failed: {result['error']}")
        else:
            self._say(run, f"done, {_figures(run, result['epochs'][-1])}")

    def _say(self, run: PlannedRun, what: str) -> None:
        place = f"run {self._runs.index(run) + 1}/{len(self._runs)}, " if len(self._runs) > 1 else ""
        self._print(f"{place}{run.cell}, seed {run.seed}: {what}; left {duration(self._clock.seconds_left())}")

    def _print(self, line: str) -> None:
        self._said = self._now()
        _print_lines(self._console, [line])


class Bar(Observer):
    """Shows live bars: for each run that is training, over all runs, and for other work, such as measuring.

    A line is left for every run that failed, nothing else.
    """

    _EVERY = 0.1  # seconds between two pictures

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        self._console, self._now = console, now
        self._progress = Progress(
            # By their ratios these two share what is left by the others, which are never cut.
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=3)),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[left]} left"),
            console=console,
            auto_refresh=False,
            expand=True,
            transient=True,
        )
        self._tasks: dict[PlannedRun, TaskID] = {}
        self._all: TaskID | None = None
        self._work: TaskID | None = None
        self._began, self._pace = now(), Pace(now)
        self._ending = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)

    def __enter__(self) -> Bar:
        """Show the bars."""
        self._painter.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        self._ending.set()
        self._painter.join()
        self.draw()
        self._end()

    def changed(self, lines: Sequence[str]) -> None:
        """See :class:`Observer`."""
        self._print(lines)

    def planned(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Observer`."""
        for task in (*self._tasks.values(), *([] if self._all is None else [self._all])):
            self._progress.remove_task(task)
        self._tasks.clear()
        self._clock, self._number, self._ended = Clock(runs, self._now), len(runs), 0
        self._all = self._progress.add_task("", total=1.0, left="…", visible=len(runs) > 1)
        self._show_all()

    def run_started(self, run: PlannedRun) -> None:
        """See :class:`Observer`."""
        self._clock.run_started(run)
        self._tasks[run] = self._progress.add_task("", total=run.epochs, left="…")
        self._show(run, f"epoch 1/{run.epochs}", 0)

    def worked(self, what: str, share: float) -> None:
        """Other work than steps of training is being done, see :func:`step_ahsar.progress.told`."""
        self._pace.worked(what, share)

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
            self._print([f"failed: {run.cell}, seed {run.seed}: {result['error']}"])
        self._show_all()

    def draw(self) -> None:
        """Draws what is to be seen now. While the bars are shown, a thread does so."""
        self._show_work()
        self._draw([task for task in self._progress.tasks if task.visible])

    def _draw(self, seen: Sequence[Task]) -> None:
        if seen:
            self._progress.start()
        self._progress.refresh()

    def _end(self) -> None:
        self._progress.stop()

    def _print(self, lines: Sequence[str]) -> None:
        _print_lines(self._console, lines)

    def _paint(self) -> None:
        while not self._ending.wait(self._EVERY):
            self.draw()

    def _show(self, run: PlannedRun, what: str, epochs: float) -> None:
        self._progress.update(
            self._tasks[run],
            description=f"{run.cell}  seed {run.seed}  {what}",
            completed=epochs,
            left=duration(self._clock.seconds_of(run)),
        )
        self._show_all()

    def _show_all(self) -> None:
        assert self._all is not None
        self._progress.update(
            self._all,
            description=f"{self._ended} of {self._number} runs",
            completed=self._clock.done,
            left=duration(self._clock.seconds_left()),
        )

    def _show_work(self) -> None:
        """Shows, as the last one, the bar of work that takes long, and removes that of work that has ended."""
        since = self._pace.began if self._tasks else self._began
        if self._pace.ended or self._now() - since < _SHOWN_AFTER:
            if self._work is not None:
                self._progress.remove_task(self._work)
                self._work = None
            return
        what, share, left = self._pace.what, self._pace.share, duration(self._pace.seconds_left())
        if self._work is None:
            self._work = self._progress.add_task("", total=1.0, visible=False, left=left)
        self._progress.update(self._work, description=what, completed=share, visible=True, left=left)


class NotebookBar(Bar):
    """The most telling of the bars as one line that overwrites itself, without any escape sequence.

    A notebook shows what a command writes to a terminal, but knows only the carriage return: several lines of rich are
    shown again and again below each other, and what it removes stays. In a cell rich wants ipywidgets.
    """

    _EVERY = 0.5  # a notebook keeps all that is written

    def __init__(self, console: Console, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, now)
        self._plain = Console(file=console.file, width=min(80, console.width) - 1, no_color=True, force_jupyter=False)
        self._line = ""
        self._writing = threading.Lock()

    def _draw(self, seen: Sequence[Task]) -> None:
        # Other work is last, all runs are first.
        task = seen[-1] if self._work is not None or len(seen) == 1 else seen[0] if seen else None
        if task is None:
            self._write("")
        else:
            [line] = self._plain.render_lines(self._progress.make_tasks_table([task]))
            self._write("".join(segment.text for segment in line))

    def _end(self) -> None:
        self._write("")

    def _print(self, lines: Sequence[str]) -> None:
        self._write("")
        super()._print(lines)

    def _write(self, line: str) -> None:
        """Replaces the line; an empty one is blanks, because a notebook cannot erase."""
        with self._writing:
            if line != self._line:
                self._console.file.write(f"\r{line}" if line else f"\r{' ' * self._plain.width}\r")
                self._console.file.flush()
                self._line = line


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figures(run: PlannedRun, epoch: dict[str, Any]) -> str:
    """The metric, with the part of the data that it is of, and the loss."""
    name, part = epoch["metric"], run.config.judged_on
    return f"{part} {text.metric(name)} {100 * epoch['metrics'][name]:.1f} %, loss {epoch['train_loss']:.3f}"
