"""A budget of synaptic operations, held by moving the firing rate."""

from copy import deepcopy

import pytest
import torch

from step_ahsar.ahsar import AHSARConfig
from step_ahsar.ahsar.config import LOUDEST
from step_ahsar.config import Config
from step_ahsar.engine import operations_budget, train
from step_ahsar.engine.epoch import calibrate, follow_operations
from step_ahsar.engine.operations_budget import _counted, keep_to_budget
from step_ahsar.engine.penalty import RatePenalty
from step_ahsar.errors import UserError
from step_ahsar.measure import operations
from step_ahsar.neurons import SpikingNeuron
from tests.unit.engine import small

VALUES = {
    **small.SMALL,
    "data.train_limit": 128,
    "data.batch_size": 32,
    "train.epochs": 4,
    "train.lr": 2e-3,
}
THRESHOLDS = {"model.neuron": "ahsar", "ahsar.a": 2.5}


@pytest.fixture
def told(monkeypatch):
    """The warnings of the log."""
    lines = []
    monkeypatch.setattr(operations_budget._logger, "warning", lambda text, *values: lines.append(text % values))
    return lines


def prepared(values):
    return small.prepared(VALUES | values)


def inputs_of(batches):
    return next(iter(batches(1)))[0]


def counted(task, state, batches):
    return _counted(state, task, inputs_of(batches))[0]


def test_what_is_counted_is_what_the_meter_counts_on_a_model_with_the_averages_of_the_batch():
    _, task, state, batches = prepared({})
    x = inputs_of(batches)
    reference = deepcopy(state.model).train()
    for module in reference.modules():
        if hasattr(module, "momentum"):
            module.momentum = 1.0
    reference(x)
    expected = operations(reference.eval(), [x])
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    random = torch.get_rng_state()
    found, rate = _counted(state, task, x)
    assert found == pytest.approx(expected.synaptic_operations, rel=0.05)
    neurons = sum(layer.inputs[0] for layer in expected.layers if layer.kind == "neuron")
    assert rate == pytest.approx(expected.spikes / neurons, rel=0.05)
    assert all(torch.equal(before[name], value) for name, value in state.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert state.model.training


@pytest.mark.parametrize("base", ["lif", "ilif", "nilif", "ternary_lif"])
def test_the_counted_rate_is_the_one_that_is_held(base):
    """Spikes of other values, and several at a time, are spikes per neuron and step of the same size in both."""
    _, task, state, batches = prepared({**THRESHOLDS, "model.base": base, "model.threshold": 0.3})
    _, rate = _counted(state, task, inputs_of(batches))
    layers = [module for module in state.model.modules() if isinstance(module, SpikingNeuron)]
    for layer in layers:
        layer.clear_observed()
    state.model.train()(inputs_of(batches))
    spikes, steps = torch.stack([layer.observed for layer in layers]).sum(0).tolist()
    assert rate > 0.02
    assert rate == pytest.approx(spikes / steps, rel=1e-3)


def test_counting_is_no_evaluation_for_the_controller():
    _, task, state, batches = prepared(THRESHOLDS)
    _counted(state, task, inputs_of(batches))
    neurons = [module for module in state.model.modules() if hasattr(module, "evaluated")]
    assert len(neurons) > 3
    assert not any(neuron.evaluated for neuron in neurons)


@pytest.mark.parametrize("asked", [2e4, 4e4])
def test_training_begins_within_the_budget(asked):
    config, task, state, batches = prepared({**THRESHOLDS, "ahsar.budget_ops": asked})
    calibrate(state, task, batches(1), config)
    assert counted(task, state, batches) == pytest.approx(asked, rel=0.1)
    assert state.controller.budget != 0.05


def test_it_ends_within_the_budget(tmp_path, monkeypatch):
    followed = []

    def follow(*arguments):
        followed.append(keep_to_budget(*arguments))

    monkeypatch.setattr("step_ahsar.engine.epoch.keep_to_budget", follow)
    # In so few steps the norms' averages do not get near the statistics of batches, with which operations are counted.
    config = Config().with_values(VALUES | THRESHOLDS | {"ahsar.budget_ops": 3e4, "train.recalibrate_norms": 4})
    result = train(config, tmp_path / "run")
    assert result["operations"]["synaptic_operations"] == pytest.approx(3e4, rel=0.1)
    assert len(followed) == VALUES["train.epochs"]  # once in every epoch


def test_the_rate_is_in_proportion():
    config, task, state, batches = prepared({**THRESHOLDS, "ahsar.budget_ops": 1e5})
    found, rate = _counted(state, task, inputs_of(batches))
    follow_operations(state, task, batches(1), config)
    assert state.controller.budget == pytest.approx(rate * 1e5 / found, rel=1e-6)
    config, task, state, batches = prepared({"train.rate_penalty.budget_ops": 2e4})
    assert state.penalty.budget == 0.05
    calibrate(state, task, batches(1), config)
    found, rate = _counted(state, task, inputs_of(batches))
    assert state.penalty.budget == pytest.approx(rate * 2e4 / found, rel=1e-6)


def test_several_spikes_at_a_time():
    """Rates are divided by the most that a neuron emits, as those that are held are."""
    config, task, state, batches = prepared({"model.neuron": "ilif"})
    assert config.model.neuron == "ilif"
    found, rate = _counted(state, task, inputs_of(batches))
    most = next(module.max_spikes for module in state.model.modules() if hasattr(module, "max_spikes"))
    assert most > 1
    assert found > 0
    penalty = RatePenalty(state.model, Config().with_values({"train.rate_penalty.budget": 0.1}).train.rate_penalty)
    with penalty, torch.no_grad():
        state.model.train()(inputs_of(batches))
    penalty.term(32)
    penalty.step()
    assert rate == pytest.approx(penalty.rate, rel=0.02)


def test_a_budget_that_is_out_of_reach(told):
    config, task, state, batches = prepared({**THRESHOLDS, "ahsar.budget_ops": 1e9})
    assert not keep_to_budget(state, task, inputs_of(batches), config)
    assert "cannot spend 1,000,000,000 operations: at a firing rate of 0.45 it has about" in told[0]
    assert state.controller.budget == LOUDEST


def test_a_silent_model_keeps_its_rate(told):
    config, task, state, batches = prepared({"train.rate_penalty.budget_ops": 1e5, "model.threshold": 1e6})
    keep_to_budget(state, task, inputs_of(batches), config)
    assert "no synaptic operation was counted; the firing rate stays 0.05" in told[0]
    assert state.penalty.budget == 0.05


def test_what_is_held_is_kept():
    config, task, state, batches = prepared({**THRESHOLDS, "ahsar.budget_ops": 1e5})
    calibrate(state, task, batches(1), config)
    _, _, other, _ = prepared({**THRESHOLDS, "ahsar.budget_ops": 1e5})
    other.controller.load_state_dict(state.controller.state_dict())
    assert other.controller.budget == state.controller.budget != 0.05
    values = {"train.rate_penalty.budget_ops": 1e5}
    (_, _, state, _), (_, _, other, _) = prepared(values), prepared(values)
    state.penalty.budget = 0.012
    other.penalty.load_state_dict(state.penalty.state_dict())
    assert other.penalty.budget == 0.012
    other.penalty.load_state_dict({"weight": 1.0, "rate": 0.1})  # of an earlier release
    assert other.penalty.budget == 0.012


def test_contradictions():
    with pytest.raises(UserError, match=r"ahsar.budget and ahsar.budget_ops both set the level of activity"):
        AHSARConfig(budget=0.1, budget_ops=1e6)
    with pytest.raises(UserError, match=r"ahsar.budget_ops must be a number of operations > 0, got 0"):
        AHSARConfig(budget_ops=0.0)
    with pytest.raises(UserError, match=r"gamma is 0.*leave ahsar.budget_ops null"):
        AHSARConfig(budget_ops=1e6, gamma=0.0)
    with pytest.raises(UserError, match=r"rate_penalty\.budget and train\.rate_penalty\.budget_ops: give one of them"):
        Config().with_values({"train.rate_penalty": {"budget": 0.1, "budget_ops": 1e6}})
