"""Segmentation and detection through the same commands as classification, on every kind of data."""

import json
import re

import pytest
from PIL import Image

from step_ahsar.ahsar.config import FIRST_LAW
from step_ahsar.compare import Summary
from step_ahsar.config import load_config
from step_ahsar.engine import evaluate, train
from step_ahsar.errors import UserError
from step_ahsar.files import unsealed
from tests.integration.test_cli import call, ok, refused

pytestmark = pytest.mark.usefixtures("eager", "one_thread")

FEW = [
    "data.train_limit=16",
    "data.test_limit=6",
    "data.batch_size=4",
    "train.epochs=2",
    "model.time_steps=2",
    "model.args={dims: [8, 16, 32], depths: [1, 1, 1], heads: 2}",
]


def rows(run):
    timings = ("seconds", "step_ms")
    lines = [unsealed(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [{key: value for key, value in line.items() if key not in timings} for line in lines]


@pytest.mark.parametrize("modality", ["static", "event", "sequence"])
@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_run_trains_draws_evaluates_and_resumes(task, modality, tmp_path):
    head = ["head.spiking=true"] if modality == "event" else ["head.test_flip=true", "head.test_scales=[1.0, 1.5]"]
    config = load_config(f"{task}/{modality}/digits_scenes", [*FEW, *head, "model.neuron=ahsar"])
    config = config.with_values({f"ahsar.{key}": value for key, value in FIRST_LAW.items()})  # it finds some objects
    result = train(config, tmp_path / "run")
    assert result["metric"] == {"segmentation": "miou", "detection": "map"}[task]
    assert result["threshold_scale"].keys() == {"stem", "attention", "mlp"} | (
        {"head"} if modality == "event" else set()
    )
    assert evaluate(tmp_path / "run")["metrics"] == result["metrics"]
    turned = "head.test_flip=true" if modality == "event" else "head.test_flip=false"
    changed = evaluate(tmp_path / "run", overrides=[turned])["metrics"]
    assert task == "segmentation" or changed != result["metrics"]  # so early, every pixel is background to the former
    with pytest.raises(UserError, match=r"'model\.threshold' cannot be changed in evaluation"):
        evaluate(tmp_path / "run", overrides=["model.threshold=2"])
    left = tmp_path / "run" / "predictions"
    kinds = [name for i in range(4) for name in (f"{i:02d}.png", f"best-{i}.png", f"worst-{i}.png")]
    assert {path.name for path in left.iterdir()} == {*kinds, "input.png", "examples.json"}
    assert Image.open(left / "00.png").width > 4 * 64
    record = unsealed((left / "examples.json").read_bytes())
    assert bool(record["confusions"]) == (task == "segmentation")
    assert [each["sample"] for each in record["examples"][:4]] == [0, 1, 2, 3]

    class Stop(BaseException):
        pass

    def stop(row):
        raise Stop

    with pytest.raises(Stop):
        train(config, tmp_path / "again", on_epoch=stop)
    train(config, tmp_path / "again", resume=True)
    assert rows(tmp_path / "again") == rows(tmp_path / "run")


def test_a_comparison_of_detectors(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "extends: detection/static/digits_scenes\n"
        "compare:\n"
        "  seeds: [0]\n"
        "  cells:\n"
        "    - {id: lif}\n"
        "    - {id: ahsar, model.neuron: ahsar}\n"
    )
    out = tmp_path / "out"
    assert "mAP" in ok("compare", mine, *FEW, "--out", out)
    summary = Summary.model_validate_json((out / "summary.json").read_bytes())
    assert [cell.metric for cell in summary.cells] == ["map", "map"]
    assert len(summary.comparisons) == 1
    page = (out / "report.html").read_text()
    assert page.count("data:image/") >= 2
    assert "mAP" in page


def test_scenes_under_other_conditions(tmp_path):
    train(load_config("segmentation/static/digits_scenes", FEW), tmp_path / "run")
    said = ok("evaluate", tmp_path / "run", "--condition", "gaussian_noise:5", "--condition", "threshold:2")
    assert re.search(r"^condition +mIoU, % +firing rate +silent, %$", said, re.MULTILINE)
    assert "mIoU under corruption" in said
    assert "here it is segmentation" in refused("evaluate", tmp_path / "run", "--condition", "fgsm:1")


def test_skipped_files_are_told(tmp_path):
    for split, count in (("train", 4), ("val", 2)):
        for name in ("a", "b"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), (90 * i, 0, 0)).save(tmp_path / "data" / split / name / f"{i}.png")
    (tmp_path / "data" / "train" / "a" / "broken.png").write_bytes(b"no image")
    arguments = ["data.name=folder", f"data.root={tmp_path / 'data'}", "data.img_size=8", "data.batch_size=4"]
    arguments += ["train.epochs=1", "model.args={dim: 16, heads: 2, depth: 1}"]
    assert "broken.png: not a readable image" in refused(
        "train", "classification/static/digits", *arguments, "--out", tmp_path / "x"
    )
    done = call("train", "classification/static/digits", *arguments, "data.on_error=skip", "--out", tmp_path / "run")
    assert done.exit_code == 0
    assert "broken.png" in done.output
    assert "broken.png" in json.loads((tmp_path / "run" / "manifest.json").read_text())["dataset"]["skipped"][0]
    assert "broken.png" in ok("report", tmp_path / "run")
    assert "broken.png" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ("segmentation/static/digits_scenes", ["head.name=fcos"], "fcos"),
        ("detection/static/digits_scenes", ["head.name=fpn"], "unknown detection head 'fpn'; known: faster_rcnn, fcos"),
        ("detection/static/digits_scenes", ["train.mixup=0.5"], "train.mixup does not apply to detection"),
        ("detection/static/digits_scenes", ["train.head_lr=9"], "train.head_lr does not apply to detection"),
        ("detection/static/digits_scenes", ["train.loss=dice"], "unknown loss of detection 'dice'"),
        (
            "segmentation/static/digits_scenes",
            ["data.img_size=50"],
            "cannot take size 50x50: height and width must be multiples of 16",
        ),
        (
            "segmentation/static/digits_scenes",
            ["data.test_size=50"],
            "cannot take size 50x50: height and width must be multiples of 16",
        ),
        ("segmentation/static/digits_scenes", ["data.re_prob=0.5"], "data.re_prob"),
        ("classification/static/digits", ["head.name=fpn"], "head does not apply to classification"),
        (
            "classification/static/digits",
            ["task=segmentation"],
            "task 'segmentation' does not go with dataset 'digits'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(config, overrides, message, tmp_path):
    with pytest.raises(UserError) as error:
        train(load_config(config, overrides), tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()
