"""Runs on data sets that were handed over from Python."""

import json

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset
from typer.testing import CliRunner

from step_ahsar.cli import app
from step_ahsar.config import Config
from step_ahsar.engine import evaluate, export, look, measure_conditions, measure_early_exit, train, validate
from step_ahsar.errors import UserError

pytestmark = pytest.mark.usefixtures("eager", "one_thread")

CONFIG = Config().with_values({
    "data.name": "own/noise",
    "data.batch_size": 16,
    "model.args": {"dim": 16, "heads": 2, "depth": 1},
    "model.time_steps": 2,
    "model.threshold": 0.2,
    "train.epochs": 2,
})  # fmt: skip
REFUSED = r"dataset 'own/noise' is handed over from Python: engine.train\(config, out, datasets=\.\.\.\)"


class Noisy(Dataset):
    """Random pixels around the class."""

    classes = ("dark", "bright")

    def __init__(self, size):
        self.targets = [i % 2 for i in range(size)]

    def __getitem__(self, index):
        return torch.rand(1, 8, 8) + self.targets[index], self.targets[index]

    def __len__(self):
        return len(self.targets)


def still(size=12):
    x = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, torch.arange(size) % 2)


def rows(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["train_loss"], line["metrics"], line["firing_rate"]) for line in lines]


@pytest.fixture(scope="module")
def datasets():
    return {"train": Noisy(40), "test": still()}


@pytest.fixture(scope="module")
def run(tmp_path_factory, datasets):
    path, threads = tmp_path_factory.mktemp("own") / "run", torch.get_num_threads()
    torch.set_num_threads(1)  # as in the tests, to which it is compared
    train(CONFIG, path, datasets=datasets)
    torch.set_num_threads(threads)
    return path


def test_a_run_that_was_interrupted_ends_as_if_it_was_not(tmp_path, run, datasets):
    class Stop(BaseException):
        pass

    def stop(row):
        raise Stop

    config = CONFIG.with_values({"data.workers": 1})
    with pytest.raises(Stop):
        train(CONFIG, tmp_path / "run", on_epoch=stop, datasets=datasets)
    with pytest.raises(UserError, match=REFUSED):
        train(CONFIG, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match=r"dataset 'own' is not what .* was trained on"):
        train(CONFIG, tmp_path / "run", resume=True, datasets=datasets | {"test": still(13)})
    train(CONFIG, tmp_path / "run", resume=True, datasets=datasets)
    assert rows(tmp_path / "run") == rows(run)
    train(config, tmp_path / "several", datasets=datasets)
    assert rows(tmp_path / "several") == rows(run)
    result = json.loads((run / "manifest.json").read_text())["dataset"]
    assert (result["name"], result["modality"], result["train"], result["test"]) == ("own/noise", "own", 36, 12)


def test_what_is_done_with_a_trained_run(tmp_path, run, datasets):
    assert evaluate(run, datasets=datasets)["epoch"] == 2
    assert look(run, 3, datasets=datasets).truth
    assert (export(run, "timm", tmp_path / "timm", datasets=datasets) / "model.safetensors").is_file()
    assert measure_conditions(run, ["threshold:1.1"], datasets=datasets)["threshold:1.1"]["error"] is None
    assert measure_early_exit(run, datasets=datasets)["epoch"] == 2
    other = datasets | {"test": still(13)}
    for act in (
        lambda given: evaluate(run, **given),
        lambda given: look(run, 0, **given),
        lambda given: export(run, "timm", tmp_path / "other", **given),
        lambda given: measure_conditions(run, ["threshold:1.2"], **given),
        lambda given: measure_early_exit(run, "entropy", **given),
    ):
        with pytest.raises(UserError, match=REFUSED):
            act({})
        with pytest.raises(UserError, match="is not what"):
            act({"datasets": other})


def test_commands_refuse_it_in_one_line(tmp_path, run):
    config = str(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("data: {name: own/noise}\n")
    with pytest.raises(UserError, match=REFUSED):
        validate(CONFIG)
    for command in (
        ["validate", config],
        ["train", config, "--out", str(tmp_path / "out")],
        ["evaluate", str(run)],
        ["look", str(run), "--sample", "0"],
        ["export", str(run), "--to", "timm", "--out", str(tmp_path / "timm")],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2
        assert done.output.count("\n") == 1
        assert "'own/noise' is handed over from Python" in done.output
