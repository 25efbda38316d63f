import io

import pytest
from rich.console import Console

from step_ahsar.cli.progress import Bar, Clock, Lines, NotebookBar, Pace, duration
from step_ahsar.compare import PlannedRun
from step_ahsar.config import Config

RUNS = [PlannedRun(cell, seed, 4, Config()) for seed in (0, 1) for cell in ("a", "b")]
METRICS = {"metric": "acc1", "metrics": {"acc1": 0.5}, "train_loss": 1.25, "seconds": 2.0}


class Time:
    """A clock that goes when it is told to."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_time_left_comes_from_the_pace_of_each_cell():
    time = Time()
    clock = Clock(RUNS, time)
    assert clock.seconds_left() is None
    clock.run_started(RUNS[0])
    time.seconds = 2
    clock.step_ended(RUNS[0], 1, 0.5)  # half an epoch in 2 s: 15.5 epochs of 4 s are left
    assert clock.seconds_left() == 62
    assert clock.seconds_of(RUNS[0]) == 3.5 * 4
    clock.epoch_ended(RUNS[0], 1, seconds=10)
    assert clock.seconds_left() == 15 * 10  # nothing is known of b yet
    clock.step_ended(RUNS[0], 2, 0.5)
    assert clock.seconds_left() == 14.5 * 10
    for epoch in (2, 3, 4):
        clock.epoch_ended(RUNS[0], epoch, seconds=0)
    clock.run_ended(RUNS[0])
    clock.run_started(RUNS[1])
    clock.epoch_ended(RUNS[1], 1, seconds=40)
    # a: 4 epochs of 2.5 s; b: 3 + 4 epochs of 40 s
    assert clock.seconds_left() == 4 * 2.5 + 7 * 40
    assert clock.seconds_of(RUNS[1]) == 3 * 40
    assert clock.done == 5 / 16


def test_runs_at_the_same_time_share_the_time_left():
    clock = Clock(RUNS, Time())
    for run in RUNS[:2]:
        clock.run_started(run)
        clock.epoch_ended(run, 2, seconds=10)
    assert clock.seconds_left() == (2 + 2 + 4 + 4) * 10 / 2
    clock.run_ended(RUNS[0])
    assert clock.seconds_left() == (2 + 4 + 4) * 10


def test_epochs_that_came_from_a_checkpoint_took_no_time():
    time = Time()
    clock = Clock(RUNS[:1], time)
    clock.run_started(RUNS[0])
    time.seconds = 6
    clock.epoch_ended(RUNS[0], 3, seconds=6)  # the first that was trained
    assert (clock.done, clock.seconds_left()) == (0.75, 6)


def test_a_run_that_had_ended_before_is_done_at_once():
    clock = Clock(RUNS, Time())
    clock.run_ended(RUNS[0])
    assert (clock.done, clock.seconds_left()) == (0.25, None)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "…"), (4.4, "4 s"), (59.4, "59 s"), (65, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


def follow(observer):
    observer.planned(RUNS)
    observer.run_started(RUNS[0])
    observer.step_ended(RUNS[0], {"epoch": 1, "epochs": 4, "step": 1, "steps": 2, "loss": 2.5})
    for epoch in range(1, 5):
        observer.epoch_ended(RUNS[0], METRICS | {"epoch": epoch})
    observer.run_ended(RUNS[0], {"status": "ok", "epochs": [METRICS | {"epoch": 4}]})
    observer.run_started(RUNS[1])
    observer.run_ended(RUNS[1], {"status": "failed", "error": "loss is nan [at epoch 1]"})


def test_a_pipe_gets_a_line_for_every_run():
    file = io.StringIO()
    follow(Lines(Console(file=file, width=60)))
    first, second = file.getvalue().splitlines()
    assert first.startswith("run 1/4, a, seed 0: done, validation accuracy 50.0 %, loss 1.250; left ")
    assert second.startswith("run 2/4, b, seed 0: failed: loss is nan [at epoch 1]; left ")


def test_the_metric_shown_is_the_one_that_counts():
    file = io.StringIO()
    lines = Lines(Console(file=file, width=60))
    lines.planned(RUNS[:1])
    metrics = {"acc1": 0.9, "map": 0.8, "miou": 0.612}
    epoch = {"epoch": 4, "train_loss": 1.25, "metric": "miou", "metrics": metrics}
    lines.run_ended(RUNS[0], {"status": "ok", "epochs": [epoch]})
    without = PlannedRun("b", 0, 4, Config().with_values({"data.validation": 0}))
    lines.planned([without])
    lines.run_ended(without, {"status": "ok", "epochs": [epoch]})
    assert file.getvalue().splitlines() == [
        "a, seed 0: done, validation mIoU 61.2 %, loss 1.250; left …",
        "b, seed 0: done, test mIoU 61.2 %, loss 1.250; left …",
    ]


def test_a_terminal_gets_a_bar_and_keeps_the_failures():
    file = io.StringIO()
    with Bar(Console(file=file, width=120, force_terminal=True, color_system=None)) as bar:
        follow(bar)
        bar.changed(["cells new: c"])
        bar.run_started(RUNS[2])
        bar.run_started(RUNS[3])
        bar.epoch_ended(RUNS[2], METRICS | {"epoch": 2})
    shown = file.getvalue()
    assert "failed: b, seed 0: loss is nan [at epoch 1]" in shown
    assert "a  seed 1  epoch 2/4  validation accuracy 50.0 %, loss 1.250" in shown
    assert "b  seed 1  epoch 1/4" in shown
    assert "2 of 4 runs" in shown
    assert "cells new: c" in shown
    assert "left" in shown


def test_time_left_comes_from_the_pace_so_far():
    time = Time()
    pace = Pace(time)
    assert pace.ended
    pace.worked("reading", 0)
    time.seconds = 6
    assert pace.seconds_left() is None
    pace.worked("reading", 0.25)
    assert pace.seconds_left() == 18
    time.seconds = 16
    assert pace.seconds_left() == 8  # it goes on between two reports
    time.seconds = 25
    assert pace.seconds_left() is None  # later than was thought: nobody knows
    pace.worked("reading", 0.5)
    assert pace.seconds_left() == 25
    pace.worked("reading", 1)
    assert pace.ended
    time.seconds = 100
    pace.worked("measuring", 0)
    time.seconds = 101
    pace.worked("measuring", 0.5)
    assert (pace.what, pace.seconds_left(), pace.ended) == ("measuring", 1, False)


def test_a_pipe_gets_a_line_every_ten_seconds_and_none_before():
    time, file = Time(), io.StringIO()
    lines = Lines(Console(file=file, width=60), time)
    for second in range(26):
        time.seconds = second
        lines.worked("condition 1/2, jpeg:3", second / 40)
    lines.worked("condition 1/2, jpeg:3", 1)
    assert file.getvalue().splitlines() == [
        "condition 1/2, jpeg:3: 25%; left 30 s",
        "condition 1/2, jpeg:3: 50%; left 20 s",
    ]


def test_a_pipe_hears_of_short_epochs_and_not_of_their_validation():
    """Each epoch takes 12 s, the last 4 of them in validation."""
    time, file = Time(), io.StringIO()
    lines = Lines(Console(file=file, width=60), time)
    lines.planned(RUNS[:1])
    lines.run_started(RUNS[0])
    for epoch in (1, 2):
        time.seconds += 8
        lines.worked("measuring", 0)
        time.seconds += 4
        lines.worked("measuring", 0.9)
        lines.worked("measuring", 1)
        lines.epoch_ended(RUNS[0], METRICS | {"epoch": epoch, "seconds": 12.0})
    assert [line.partition(",")[0] for line in file.getvalue().splitlines()] == ["a", "a"]
    assert "epoch 2/4, validation accuracy 50.0 %, loss 1.250; left 24 s" in file.getvalue()


def test_a_pipe_hears_of_the_steps_of_a_long_epoch():
    time, file = Time(), io.StringIO()
    lines = Lines(Console(file=file, width=60), time)
    lines.planned(RUNS[:1])
    lines.run_started(RUNS[0])
    for step in (1, 2, 3):
        time.seconds += 8
        lines.step_ended(RUNS[0], {"epoch": 1, "epochs": 4, "step": step, "steps": 100, "loss": 2.5})
    # 3.98 of 4 epochs are left, and a hundredth took 8 s
    assert file.getvalue() == "a, seed 0: epoch 1/4, step 2/100, loss 2.500; left 53 min\n"


def frames(bar, file):
    """What is drawn now."""
    file.seek(0)
    file.truncate()
    bar.draw()
    return file.getvalue()


@pytest.mark.parametrize("kind", [Bar, NotebookBar])
def test_work_is_shown_when_it_takes_long(kind):
    time, file = Time(), io.StringIO()
    bar = kind(Console(file=file, width=81, force_terminal=True, color_system=None), time)
    assert frames(bar, file) == ""
    bar.worked("reading files", 0)
    time.seconds = 1
    bar.worked("reading files", 0.25)
    assert frames(bar, file) == ""
    time.seconds = 4
    bar.worked("reading files", 0.5)
    shown = frames(bar, file)
    assert "reading files" in shown
    assert " 50 % 4 s left" in shown
    bar.worked("reading files", 1)
    assert "reading" not in frames(bar, file)
    bar.worked("measuring", 0)  # soon after the start of the command
    assert "measuring" in frames(bar, file)


@pytest.mark.parametrize("kind", [Bar, NotebookBar])
def test_short_work_in_training_does_not_flicker(kind):
    time, file = Time(), io.StringIO()
    bar = kind(Console(file=file, width=81, force_terminal=True, color_system=None), time)
    bar.planned(RUNS[:1])
    bar.run_started(RUNS[0])
    time.seconds = 60
    bar.worked("measuring", 0)
    time.seconds = 61
    assert "measuring" not in frames(bar, file)
    time.seconds = 62
    assert "measuring" in frames(bar, file)


def test_what_is_long_is_cut_before_share_and_time_are():
    file = io.StringIO()
    bar = Bar(Console(file=file, width=60, force_terminal=True, color_system=None), Time())
    bar.planned(RUNS[:1])
    bar.run_started(RUNS[0])
    bar.epoch_ended(RUNS[0], METRICS | {"epoch": 2})
    assert " 50 % 4 s left" in frames(bar, file)


def test_a_notebook_gets_one_line_that_overwrites_itself():
    time, file = Time(), io.StringIO()
    with NotebookBar(Console(file=file, width=200, force_terminal=True), time) as bar:
        follow(bar)
        bar.run_started(RUNS[2])
        bar.draw()
    written = file.getvalue()
    assert "\x1b" not in written
    lines = written.split("\r")
    assert "failed: b, seed 0: loss is nan [at epoch 1]\n" in lines
    (line,) = (line for line in lines if "2 of 4 runs" in line)
    assert len(line) == 79  # of a notebook's 80, however wide the terminal is said to be
    assert lines[-2:] == [" " * 79, ""]
    assert written.count("\n") == 1
