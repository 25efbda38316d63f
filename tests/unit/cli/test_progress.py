import io

import pytest
from rich.console import Console

from step_ahsar.cli.progress import Bar, Clock, Lines, duration
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
