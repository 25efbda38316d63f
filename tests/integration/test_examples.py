"""The examples run, and learn."""

import os
import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

FOLDER = Path(__file__).parents[2] / "examples"
# These leave something in the process: BrainCog overwrites models of timm, trainers have states and threads.
ALONE = ("braincog_nodes", "lightning_trainer", "transformers_trainer", "accelerate_loop")
NEEDED = {
    "lightning_trainer": "lightning",
    "transformers_trainer": "transformers",
    "spikingjelly_zoo": "spikingjelly",
    "spikingjelly_old": "spikingjelly",
    "snntorch_net": "snntorch",
    "braincog_nodes": "braincog",
}


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are the same, and nothing here is about speed."""
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_an_example(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if file.stem in NEEDED and find_spec(NEEDED[file.stem]) is None:
        pytest.skip(f"needs {NEEDED[file.stem]}")
    if file.stem in ALONE:
        done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        printed = done.stdout
    else:
        runpy.run_path(str(file), run_name="__main__")
        printed = capsys.readouterr().out
    found = re.search(r"test accuracy: (0\.\d+)", printed)
    assert found is not None
    assert float(found[1]) > 0.5  # chance is 0.1
    assert len(file.read_text().splitlines()) < 80


def test_each_is_in_the_list() -> None:
    listed = set(re.findall(r"\]\((\w+\.(?:py|sh))\)", (FOLDER / "README.md").read_text()))
    assert listed == {file.name for file in FOLDER.iterdir() if file.suffix in (".py", ".sh")}


@pytest.mark.skipif("STEP_AHSAR_TIMM_TRAIN" not in os.environ, reason="STEP_AHSAR_TIMM_TRAIN names no train.py of timm")
def test_timm_trains(tmp_path: Path) -> None:
    """The script is in timm's repository, not in its wheel."""
    digits = load_digits()
    for i, (image, label) in enumerate(zip(digits.images[:600], digits.target, strict=False)):
        folder = tmp_path / "images" / ("train" if i < 500 else "validation") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype(np.uint8)).resize((32, 32)).convert("RGB").save(folder / f"{i}.png")
    few = ["--model-kwargs", "neuron=ahsar", "time_steps=2", "dim=32", "depth=1", "--device", "cpu", "--workers", "0"]
    last = tmp_path / "out" / "run" / "last.pth.tar"
    for name, options in {"run": ["--epochs", "1"], "on": ["--epochs", "2", "--resume", str(last)]}.items():
        command = [FOLDER / "timm_train.sh", os.environ["STEP_AHSAR_TIMM_TRAIN"], tmp_path / "images", *few, *options]
        command += ["--no-prefetcher", "--output", tmp_path / "out", "--experiment", name]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
