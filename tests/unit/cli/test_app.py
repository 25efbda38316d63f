"""What the commands print of what the engine measured; the engine is stood in for."""

import pytest
from typer.testing import CliRunner

from step_ahsar import engine
from step_ahsar.cli import app

FIRING = {"firing_rate": {"mlp": 0.1234}, "dead_fraction": 0.05}
LINE = "firing rate: mlp 0.123; 5.0 % of neurons silent"


def ok(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture
def evaluated(monkeypatch):
    """`engine.evaluate` of a run of segmentation, and what it was asked for."""
    asked = []

    def evaluate(run, which, overrides=()):
        asked.append((which, list(overrides)))
        metrics = {"miou": 0.612, "pixel_accuracy": 0.9, "iou_car": 0.5}
        return {"epoch": 4, "metric": "miou", "metrics": metrics, "layers": {}, "samples": [], **FIRING}

    monkeypatch.setattr(engine, "evaluate", evaluate)
    return asked


def test_evaluate_shows_the_metric_that_counts_then_the_others(evaluated):
    assert ok("evaluate", "run") == ["run: epoch 4, test mIoU 61.20 %", "pixel accuracy 90.00 %, IoU car 50.00 %", LINE]
    assert evaluated == [("last", [])]


def test_evaluate_has_a_line_for_each_corruption(evaluated):
    lines = ok("evaluate", "run", "--checkpoint", "best", "--corrupt", "fog:1", "--corrupt", "blur:5")
    assert lines == [f"run: epoch 4, {name}, test mIoU 61.20 %; {LINE}" for name in ("fog:1", "blur:5")]
    assert evaluated == [("best", ["data.corruption=fog:1"]), ("best", ["data.corruption=blur:5"])]


def test_train_shows_its_last_epoch_and_the_files_left_out(monkeypatch, tmp_path):
    def train(config, out, resume, on_epoch, on_step):
        run = engine.Run.open(out, config, resume)
        run.begin({"dataset": {"name": "digits", "skipped": ["1.png: cut short", "2.png: empty"]}})
        rows = [{"epoch": 1, "metrics": {"acc1": 0.931}, "train_loss": 0.1, **FIRING}]
        return {"status": "ok", "metric": "acc1", "epochs": rows}

    monkeypatch.setattr(engine, "train", train)
    assert ok("train", "quickstart", "compare=null", "--out", tmp_path / "run") == [
        f"{tmp_path / 'run'}: epoch 1, test accuracy 93.10 %",
        LINE,
        "2 files of digits left out: 1.png: cut short; 2.png: empty",
    ]


def test_data_sets_are_listed_with_their_tasks():
    lines = ok("list", "datasets")
    assert lines[0].split() == ["dataset", "modality", "tasks", "classes"]
    assert ["digits", "static", "classification", "10"] in [line.split() for line in lines]


def test_encoders_are_listed():
    assert {"direct", "rate"} <= set(ok("list", "encoders"))


def test_corruptions_are_listed_with_the_data_that_have_them():
    lines = [line.split() for line in ok("list", "corruptions")]
    assert lines[0] == ["corruption", "static", "event"]
    assert ["gaussian_noise", "yes", "-"] in lines
    assert all(set(line[1:]) <= {"yes", "-"} and "yes" in line for line in lines[1:])
