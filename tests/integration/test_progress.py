"""What is told of work that may take long, and that every command shows it."""

import re

import numpy as np
import pytest

from step_ahsar.cli import progress
from step_ahsar.config import load_config
from step_ahsar.data import open_data
from step_ahsar.engine import evaluate, look, measure_conditions, measure_early_exit, train
from step_ahsar.progress import told
from tests.integration.test_cli import call
from tests.integration.test_conditions import TINY

pytestmark = pytest.mark.usefixtures("eager", "one_thread")


class Heard:
    """The pieces of work that were told, one after the other."""

    def __init__(self):
        self.pieces = []

    def __call__(self, what, share):
        if not self.pieces or self.pieces[-1][-1][1] == 1:
            assert share == 0, what
            self.pieces.append([])
        else:
            assert share >= self.pieces[-1][-1][1], f"{what} goes back"
        self.pieces[-1].append((what, share))

    @property
    def names(self):
        """What each piece begins as. All must have ended."""
        assert all(piece[-1][1] == 1 for piece in self.pieces)
        return [piece[0][0] for piece in self.pieces]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small run, and what was told in its training."""
    run, heard = tmp_path_factory.mktemp("progress") / "run", Heard()
    values = ["model.neuron=ahsar", "ahsar.calibrate=0.1", "train.recalibrate_norms=2", "data.batch_size=8"]
    with pytest.MonkeyPatch.context() as patch, told(heard):
        patch.setenv("STEP_AHSAR_COMPILE", "0")
        train(load_config("quickstart", [*TINY, *values]), run)
    return run, heard


def test_training_tells_of_all_but_its_steps(trained):
    assert trained[1].names == [
        "calibrating thresholds",
        "averaging the norms' statistics",
        "measuring the validation set",
        "measuring the test set after epoch 1",
        "measuring firing rates on training data",
    ]
    calibrated = trained[1].pieces[0]
    assert calibrated[1] == ("calibrating thresholds 1/25", 0)
    # 50 test samples in batches of 4 * 8
    assert [share for _, share in trained[1].pieces[3]] == [0, 0.5, 1]


def test_conditions_are_one_piece_of_work_with_their_batches(trained):
    heard = Heard()
    with told(heard):
        measure_conditions(trained[0], ["clean+thresholds", "weight_noise:0.5"])
        measure_conditions(trained[0], ["clean+thresholds"])  # which is known
    assert heard.names == ["condition"]
    names = list(dict.fromkeys(what for what, _ in heard.pieces[0]))
    assert names == [
        "condition",
        "condition 1/3, clean",
        "condition 2/3, clean+thresholds",
        "condition 2/3, clean+thresholds, adapting thresholds",
        "condition 3/3, weight_noise:0.5",
    ]
    # The first of two batches of the first of three conditions, and of the second step of the second.
    assert ("condition 1/3, clean", pytest.approx(1 / 3 / 2)) in heard.pieces[0]
    assert ("condition 2/3, clean+thresholds", pytest.approx((1 + 0.5 + 0.25) / 3)) in heard.pieces[0]
    # The first of 25 changes of the thresholds, each after one batch of at least 32 samples.
    adapting = "condition 2/3, clean+thresholds, adapting thresholds"
    assert (adapting, pytest.approx((1 + 0.5 / 25) / 3)) in heard.pieces[0]


def test_early_exit_and_single_samples(trained):
    heard = Heard()
    with told(heard):
        measure_early_exit(trained[0])
        look(trained[0], 0)
        evaluate(trained[0])
    assert heard.names == ["early exit", "looking for the sample", "measuring the test set"]
    assert list(dict.fromkeys(what for what, _ in heard.pieces[0]))[1:] == [
        "early exit 1/4, validation set",
        "early exit 2/4, test set",
        "early exit 3/4, operations of 1 time steps",
        "early exit 4/4, operations of 2 time steps",
    ]


def test_opening_files_is_told(tmp_path):
    from PIL import Image

    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / part / label / f"{i}.png")
    heard = Heard()
    with told(heard):
        where = ["data.name=folder/mine", f"data.root={tmp_path}", f"data.cache={tmp_path}/cache"]
        open_data(load_config("quickstart", ["compare=null", *where, "data.on_error=skip"]))
    assert set(heard.names) == {"reading files", "reading files for their fingerprint"}
    assert [share for _, share in heard.pieces[-1]] == [i / 8 for i in range(9)]


# What each command shows, among others; for `export` see test_export_graphs.py.
COMMANDS = {
    ("validate", "quickstart"): "checking the cells: 12%",
    ("evaluate", "RUN"): "measuring the test set: 50%",
    ("evaluate", "RUN", "--condition", "threshold:1.5"): r"condition.*, threshold:1\.5: \d+%",
    ("evaluate", "RUN", "--early-exit", "entropy"): "early exit 2/4, test set: 38%",
    ("look", "RUN", "--sample", "0"): "looking for the sample: 0%",
    ("report", "RUN"): "drawing the layers of each cell: 0%",
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_show_it_on_stderr(command, trained, monkeypatch):
    monkeypatch.setattr(progress, "_LINE_EVERY", 0.0)
    result = call(*(trained[0] if each == "RUN" else each for each in command))
    assert result.exit_code == 0, result.output
    assert re.search(f"^{COMMANDS[command]}; left ", result.stderr, re.MULTILINE), result.stderr
    assert "; left " not in result.stdout
