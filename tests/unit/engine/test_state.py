"""How the optimiser of a run is made, and what it decays."""

import pytest
import torch
from torch import nn

from step_ahsar.config import Config, load_config
from step_ahsar.engine import state
from step_ahsar.engine.build import build_model
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.state import TrainingState
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.tasks import create_task

SMALL = {"dims": [8, 16, 32], "depths": [1, 1, 1], "heads": 2}


def start(config: Config) -> TrainingState:
    model = build_model(config.model, create_task(config, ["a", "b"]), 3, [(32, 32)])
    return TrainingState.start(model, config, create_accelerator(None))


@pytest.mark.parametrize("neuron", ["psn", "glif", "hdlif", "plif"])
@pytest.mark.parametrize("task", ["classification", "segmentation", "detection"])
def test_weights_decay_and_nothing_else(task: str, neuron: str) -> None:
    """Fault: neurons' own parameters of two dimensions (psn's T x T, glif's and hdlif's) decayed.

    Also in the heads' spiking layers, where they stand beside the backbone.
    """
    values = {"task": task, "model.neuron": neuron, "train.weight_decay": 0.1}
    if task != "classification":
        values |= {"head.spiking": True, "model.args": SMALL}
        config = load_config(f"{task}/static/digits_scenes").with_values(values)
    else:
        config = Config().with_values(values)
    state = start(config)
    decay = {id(p): group["weight_decay"] for group in state.optimizer.param_groups for p in group["params"]}
    layers = {n: m for n, m in state.model.named_modules() if isinstance(m, SpikingNeuron)}
    assert any(True for layer in layers.values() for _ in layer.parameters())
    assert task == "classification" or any(layer.group == "head" for layer in layers.values())
    for name, module in state.model.named_modules():
        in_neuron = any(name == layer or name.startswith(f"{layer}.") for layer in layers)
        for own, parameter in module.named_parameters(recurse=False):
            weight = own == "weight" and isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)) and not in_neuron
            assert decay.pop(id(parameter)) == (0.1 if weight else 0.0), f"{name}.{own}"
    assert not decay


def test_the_compiler_is_loaded_before_an_optimiser_compiles(monkeypatch):
    """Fault: with timm's kron, torch said that no CUDA runtime was found."""
    loaded = []
    monkeypatch.setattr(state.internals, "load_compiler", lambda: loaded.append(True))
    TrainingState.start(
        torch.nn.Linear(2, 2), Config().with_values({"train.optimizer": "kron"}), create_accelerator(None)
    )
    assert loaded == [True]
