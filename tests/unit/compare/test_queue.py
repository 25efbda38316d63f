"""Following runs in their folders. A launcher is stood in for that trains at once, in this process."""

import pytest

from step_ahsar import engine
from step_ahsar.compare import Observer, compare, queue
from step_ahsar.compare.launchers import Kind
from step_ahsar.compare.launchers.local import gpu_of
from step_ahsar.compare.worker import Worker
from step_ahsar.config import load_config
from step_ahsar.errors import UserError

CELLS = "[{id: lif-1}, {id: ahsar-1, model.neuron: ahsar}]"


def config(*overrides):
    given = ["train.epochs=2", "compare.seeds=[0,1]", f"compare.cells={CELLS}", "launch.jobs=2"]
    return load_config("quickstart", [*given, *overrides])


class Log(Observer):
    def __init__(self):
        self.heard = []

    def run_started(self, run):
        self.heard.append((run.cell, run.seed, "started"))

    def epoch_ended(self, run, metrics):
        self.heard.append((run.cell, run.seed, metrics["epoch"]))

    def run_ended(self, run, result):
        self.heard.append((run.cell, run.seed, result["status"]))


@pytest.fixture
def launched(training, monkeypatch):
    """The runs that were handed to the launcher; runs whose neuron and seed are in `launched.lost` are not trained."""

    class Launched(list):
        def __init__(self):
            super().__init__()
            self.lost = {}

    found = Launched()

    class AtOnce:
        def __init__(self, out, config):
            self._worker, self._lost = Worker(out), {}

        def submit(self, runs):
            found.extend((run.cell, run.seed) for run in runs)
            for run in runs:
                if (reason := found.lost.get((run.cell, run.seed))) is not None:
                    self._lost[run] = reason
                else:
                    self._worker.train(run)

        def lost(self):
            return self._lost

        def close(self):
            found.append("closed")

    monkeypatch.setattr(queue, "LAUNCHERS", {"local": Kind(AtOnce)})
    monkeypatch.setattr(queue, "_EVERY", 0.0)
    monkeypatch.setattr(queue, "_SHARE", 1.0)
    return found


def of(heard, cell, seed):
    return [what for where, when, what in heard if (where, when) == (cell, seed)]


def test_every_epoch_is_told_once(launched, tmp_path):
    log = Log()
    summary = compare(config(), tmp_path, log)
    assert launched == [("lif-1", 0), ("ahsar-1", 0), ("lif-1", 1), ("ahsar-1", 1), "closed"]
    assert of(log.heard, "ahsar-1", 1) == ["started", 1, 2, "ok"]
    assert len(log.heard) == 4 * 4
    assert all(cell["n"] == 2 for cell in summary["cells"])


def test_what_has_ended_is_not_launched_and_old_epochs_are_not_told(training, launched, tmp_path):
    training.faults["lif", 1] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare(config(), tmp_path)
    assert launched[-1] == "closed"
    training.faults.clear()
    launched.clear()
    log = Log()
    compare(config(), tmp_path, log)
    assert launched == [("lif-1", 1), ("ahsar-1", 1), "closed"]
    assert of(log.heard, "lif-1", 0) == ["ok"]
    assert of(log.heard, "lif-1", 1) == ["started", 2, "ok"]


def test_a_lost_run_has_the_launchers_reason(launched, tmp_path):
    launched.lost = {("lif-1", 0): "cancelled by the queue"}
    log = Log()
    summary = compare(config(), tmp_path, log)
    assert of(log.heard, "lif-1", 0) == ["failed"]
    assert summary["cells"][0]["seeds"][0]["error"] == "cancelled by the queue"
    assert summary["cells"][0]["n"] == 1
    launched.lost = {}
    assert compare(config(), tmp_path)["cells"][0]["n"] == 2  # it is tried again


def test_a_run_that_fails_is_told_with_its_error(training, launched, tmp_path):
    training.faults |= {("lif", 0): RuntimeError("no memory"), ("ahsar", 0): engine.NonFiniteLoss("loss is nan", 2, 5)}
    summary = compare(config(), tmp_path)
    errors = [cell["seeds"][0]["error"] for cell in summary["cells"]]
    assert errors == ["RuntimeError: no memory", "loss is nan at epoch 2, step 5"]


def test_a_launcher_that_is_not_there(training, tmp_path):
    with pytest.raises(UserError, match="unknown launcher 'slrum'; did you mean 'slurm'"):
        compare(config("launch.launcher=slrum"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("visible", "expected"),
    [(None, ["0", "1", "0"]), ("5,2", ["5", "2", "5"]), ("A,B,C", ["A", "B", "A"])],
)
def test_processes_take_turns_at_the_visible_gpus(visible, expected, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu_of(place, 2) for place in range(3)] == expected
