"""What trackers are told. TensorBoard's files are read back; other trackers are stood in for."""

import struct
from collections import Counter

import accelerate.tracking
import pytest
from accelerate.tracking import GeneralTracker
from tensorboardX.proto.event_pb2 import Event

from step_ahsar import engine
from step_ahsar.compare import compare
from step_ahsar.config import load_config
from step_ahsar.engine import Run, track
from step_ahsar.errors import UserError

SMALL = ["train.epochs=3", "data.train_limit=128", "data.test_limit=64", "data.img_size=4", "model.time_steps=1"]


def config(*overrides):
    return load_config("classification/static/digits", [*SMALL, "model.neuron=ahsar", *overrides])


def told(run):
    """What is in TensorBoard's files of a run: {name: {step: value}}, and how often each pair is there."""
    found, times = {}, Counter()
    for file in sorted((run / "tensorboard").rglob("events.*")):
        content = file.read_bytes()
        while content:  # a record is its length, a checksum, the event, a checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
                times[value.tag, event.step] += 1
    return found, times


def test_tensorboard_has_every_figure_of_every_epoch(tmp_path):
    engine.train(config(), tmp_path / "run")
    found, times = told(tmp_path / "run")
    rows = Run.existing(tmp_path / "run").metrics()
    for row in rows:
        values = track.values_of(row, "validation")
        assert {name: steps[row["epoch"]] for name, steps in found.items()} == pytest.approx(values, rel=1e-6)
    assert set(times.values()) == {1}
    layer = "blocks.0.attn.q.neuron"
    expected = {"train/loss", "train/lr", "validation/acc1", "firing_rate/attention", "gamma/mlp", "dead_fraction"}
    assert expected | {f"rate/{layer}", f"threshold_scale/{layer}"} <= found.keys()
    assert found["train/loss"][2] == pytest.approx(rows[1]["train_loss"])
    assert found[f"threshold_scale/{layer}"][3] == pytest.approx(rows[2]["layers"][layer]["threshold_scale"])


def test_a_continued_run_has_every_epoch_once(tmp_path):
    class Stop(Exception):
        pass

    def stop(row):
        if row["epoch"] == 2:
            raise Stop

    with pytest.raises(Stop):
        engine.train(config(), tmp_path / "run", on_epoch=stop)
    engine.train(config(), tmp_path / "run", resume=True)
    found, times = told(tmp_path / "run")
    assert sorted(found["train/loss"]) == [1, 2, 3]
    assert set(times.values()) == {1}


def test_metrics_are_of_the_test_set_without_a_validation_part(tmp_path):
    engine.train(config("data.validation=0", "train.epochs=1", "model.neuron=lif"), tmp_path / "run")
    found, _ = told(tmp_path / "run")
    assert "test/acc1" in found
    assert not [name for name in found if name.startswith(("validation/", "threshold_scale/", "gamma/"))]


@pytest.fixture
def other(monkeypatch):
    """A tracker in the place of Weights & Biases."""

    class Other(GeneralTracker):
        name, requires_logging_directory = "wandb", False
        log_of_all = []  # noqa: RUF012
        fails_at = None

        def __init__(self, run_name, **kwargs):
            super().__init__()
            self.log_of_all.append(("start", run_name, kwargs))

        def start(self):
            pass

        @property
        def tracker(self):
            return None

        def store_init_configuration(self, values):
            self.log_of_all.append(("config", values))

        def log(self, values, step=None, **kwargs):
            if step == type(self).fails_at:
                raise ConnectionError("no network")
            self.log_of_all.append(("log", step, values))

        def finish(self):
            self.log_of_all.append(("finish",))

    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "wandb", Other)
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", ["tensorboard", "wandb"])
    monkeypatch.setattr(track, "find_spec", lambda name: name == "wandb" or None)
    return Other


WANDB = ("track.to=[wandb]", "track.project=mine", "track.options={wandb: {mode: offline}}")


def test_another_tracker_is_told_the_same(other, tmp_path):
    engine.train(config(*WANDB), tmp_path / "of" / "run")
    (_, project, options), (_, settings), *logs, end = other.log_of_all
    assert project == "mine"
    assert (options["mode"], options["name"], options["resume"]) == ("offline", "of/run", "allow")
    assert settings["model.neuron"] == "ahsar"
    assert settings["train.lr"] == config().train.lr
    assert [(kind, step) for kind, step, _ in logs] == [("log", 1), ("log", 2), ("log", 3)]
    row = Run.existing(tmp_path / "of" / "run").metrics()[1]
    assert logs[1][2] == track.values_of(row, "validation")
    assert end == ("finish",)


def test_a_continued_run_is_found_by_its_id(other):
    first, again, elsewhere = (
        track._options(config(*WANDB).track, path)["wandb"]["id"] for path in map(track.Path, ("/a/b", "/a/b", "/a/c"))
    )
    assert first == again != elsewhere


def test_a_tracker_that_fails_does_not_end_the_run(other, tmp_path, monkeypatch):
    other.fails_at = 2
    warned = []
    monkeypatch.setattr(track._logger, "warning", lambda text, *values: warned.append(text % values))
    assert engine.train(config(*WANDB), tmp_path / "run")["status"] == "ok"
    assert warned == ["wandb is not told any more: ConnectionError: no network"]
    assert [entry[1] for entry in other.log_of_all if entry[0] == "log"] == [1]
    assert sorted(told(tmp_path / "run")[0]["train/loss"]) == [1, 2, 3]


def test_a_tracker_that_does_not_start_is_told(other, tmp_path, monkeypatch):
    def fails(*_):
        raise PermissionError("no key")

    ended = []
    monkeypatch.setattr(other, "start", fails)
    monkeypatch.setattr(track.TensorBoardTracker, "finish", lambda tracker: ended.append(tracker.name))
    with pytest.raises(UserError, match="cannot start the trackers wandb: PermissionError: no key"):
        engine.train(config(*WANDB), tmp_path / "run")
    assert ended == ["tensorboard"]  # which had started before


def test_tracking_is_no_part_of_a_run_or_a_comparison(other, tmp_path):
    """A finished run is that of a config that tracks otherwise, and cells are tracked."""
    first = engine.train(config("train.epochs=1"), tmp_path / "run")
    assert engine.train(config("train.epochs=1", *WANDB), tmp_path / "run") == first
    assert other.log_of_all == []
    cells = [*SMALL, "train.epochs=1", "compare.cells=[{id: a}]", "compare.seeds=[3]", "compare.target=null"]
    compare(load_config("quickstart", [*cells, *WANDB]), tmp_path / "out")
    assert other.log_of_all[0][2]["name"] == "a/3"
    compare(load_config("quickstart", cells), tmp_path / "out")
    with pytest.raises(UserError, match=r"a cell cannot set 'track.project'"):
        load_config("quickstart", ["compare.cells=[{id: a, track.project: x}]"]).cells()


def test_trackers_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"track.to: 'mlflow' is not installed: pip install mlflow"):
        engine.train(config("track.to=[mlflow]"), tmp_path / "run")
    with pytest.raises(UserError, match=r"track.options.wandb: it is not in track.to, which has none"):
        engine.train(config("track.options={wandb: {}}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
