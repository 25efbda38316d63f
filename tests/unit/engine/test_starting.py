"""Beginning with the thresholds of another run."""

import pytest
from safetensors.torch import load_file

from step_ahsar.ahsar.config import FIRST_LAW
from step_ahsar.config import Config
from step_ahsar.data import open_data
from step_ahsar.engine import train
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.starting import begin_with_thresholds
from step_ahsar.engine.train import prepare
from step_ahsar.errors import UserError
from tests.unit.engine.small import SMALL

TINY = {
    **SMALL,
    "data.train_limit": 64,
    "data.test_limit": 20,
    "data.batch_size": 32,
    "model.neuron": "ahsar",
    "train.epochs": 2,
}
FIRST = {f"ahsar.{name}": value for name, value in FIRST_LAW.items()}  # which moves every layer by itself
REST = {"ahsar.k": 0.0, "ahsar.leak": 0.0, "ahsar.mu": 0.0, "ahsar.diffusion": 0.0}


def scales(result):
    return {name: layer["threshold_scale"] for name, layer in result["epochs"][-1]["layers"].items()}


def test_they_are_those_of_the_run_with_the_same_seed(tmp_path):
    config = Config().with_values(TINY | FIRST | {"seed": 3})
    ended = scales(train(config, tmp_path / "first-3"))
    assert len(set(ended.values())) > 3
    again = config.with_values({"ahsar.thresholds_of": str(tmp_path / "first-{seed}"), **REST})
    found = scales(train(again, tmp_path / "second"))
    assert found == pytest.approx(ended)
    with pytest.raises(UserError, match=r"ahsar.thresholds_of: .*first-4 holds no run"):
        train(again.with_values({"seed": 4}), tmp_path / "third")
    other = again.with_values({"model.time_steps": 3})
    with pytest.raises(UserError, match=r"the model of .*first-3 is another one: model.time_steps is 2|time_steps"):
        train(other, tmp_path / "fourth")
    (tmp_path / "first-3" / "result.json").unlink()
    with pytest.raises(UserError, match=r"the run in .*first-3 has not ended, or not well"):
        train(again, tmp_path / "fifth")


def test_they_are_those_of_training_and_not_of_averaged_weights(tmp_path):
    config = Config().with_values(TINY | FIRST | {"train.ema_decay": 0.9})
    averaged = scales(train(config, tmp_path / "first"))
    trained = load_file(sorted((tmp_path / "first" / "checkpoints").glob("*/model.safetensors"))[-1])
    again = config.with_values({"ahsar.thresholds_of": str(tmp_path / "first"), **REST})
    _, state = prepare(again, open_data(again), create_accelerator(None))
    begin_with_thresholds(state, again)
    found = {name: layer["threshold_scale"] for name, layer in state.controller.layers().items()}
    assert found == {name: trained[f"{name}.threshold_scale"].item() for name in averaged}
    assert found != pytest.approx(averaged, rel=1e-3)


def test_without_a_run_nothing_is_changed():
    config = Config().with_values(TINY)
    _, state = prepare(config, open_data(config), create_accelerator(None))
    begin_with_thresholds(state, config)
    assert {layer["threshold_scale"] for layer in state.controller.layers().values()} == {1.0}
