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


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("factor", [0.5, 20.0])
def test_the_head_has_a_learning_rate_of_its_own(decay: float, factor: float) -> None:
    values = {"train.head_lr": factor, "train.weight_decay": decay, "train.lr": 1e-2, "train.epochs": 4}
    schedule = {"train.optimizer": "sgd", "train.warmup_epochs": 1, "train.min_lr": 1e-3}
    state = start(Config().with_values(values | schedule))
    state.scheduler.step(1)
    lr = state.optimizer.param_groups[0]["lr"]
    head = state.model.get_submodule("head")
    before = {name: parameter.detach().clone() for name, parameter in state.model.named_parameters()}
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    assert isinstance(head, nn.Linear)
    # The step is `factor` times as long; the decay, which timm's SGD adds to the gradient, is as it would be without.
    for own, parameter, shrunk in (("weight", head.weight, decay), ("bias", head.bias, 0.0)):
        was = before[f"head.{own}"]
        # Nesterov's momentum of 0.9 makes the first step 1.9 times as long.
        torch.testing.assert_close(was - parameter, 1.9 * lr * (factor + shrunk * was))
    other = "patch_embed.stages.0.norm.weight"
    torch.testing.assert_close(
        before[other] - state.model.get_parameter(other), torch.full_like(before[other], 1.9 * lr)
    )
    for epoch in range(4):  # warm-up, a cosine and its floor: the factor is the same in all
        state.scheduler.step(epoch)
        reported = state.optimizer.param_groups[0]["lr"]
        assert reported == pytest.approx([1e-5, 8.68e-3, 5.5e-3, 2.32e-3][epoch], rel=0.01)
        rates = sorted({group["lr"] for group in state.optimizer.param_groups})
        assert rates == pytest.approx(sorted([reported, reported * factor]))
    held = [parameter for group in state.optimizer.param_groups for parameter in group["params"]]
    assert sorted(map(id, held)) == sorted(map(id, state.model.parameters()))


def test_the_compiler_is_loaded_before_an_optimiser_compiles(monkeypatch):
    """Fault: with timm's kron, torch said that no CUDA runtime was found."""
    loaded = []
    monkeypatch.setattr(state.internals, "load_compiler", lambda: loaded.append(True))
    TrainingState.start(
        torch.nn.Linear(2, 2), Config().with_values({"train.optimizer": "kron"}), create_accelerator(None)
    )
    assert loaded == [True]
