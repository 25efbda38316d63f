"""Running averages of norms, taken anew after an epoch."""

from copy import deepcopy

import pytest
import torch
from torch.optim.swa_utils import update_bn

from step_ahsar.engine.epoch import recalibrate_norms, train_epoch
from tests.unit.engine.small import SMALL, prepared

VALUES = {
    **SMALL,
    "data.train_limit": 64,
    "data.batch_size": 16,
    "model.neuron": "ahsar",
    "train.epochs": 2,
}


def trained(**values):
    config, task, state, batches = prepared(VALUES | {key.replace("__", "."): value for key, value in values.items()})
    train_epoch(state, task, batches(1), config, 1)
    return config, task, state, batches


def averages(model):
    return {name: value for name, value in model.named_buffers() if "running_" in name or "num_batches" in name}


@pytest.mark.parametrize(("norm", "number"), [("bn", 3), ("tebn", 1)])
def test_averages_are_those_of_torch(norm, number):
    config, task, state, batches = trained(train__recalibrate_norms=number, model__norm=norm)
    reference = deepcopy(state.model)
    recalibrate_norms(state, task, batches(1), config, 1)
    update_bn([inputs for inputs, _ in batches(1).first(number)], reference)
    expected = averages(reference)
    assert expected
    for name, value in averages(state.model).items():
        torch.testing.assert_close(value, expected[name], msg=name)
        if name.endswith("num_batches_tracked"):
            assert value == number


def test_nothing_else_changes():
    config, task, state, batches = trained(train__recalibrate_norms=2)
    before = deepcopy(state.model.state_dict())
    controller, drawn = deepcopy(state.controller.state_dict()), torch.random.get_rng_state()
    recalibrate_norms(state, task, batches(1), config, 1)
    after = state.model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == set(averages(state.model))
    assert {norm.momentum for norm in state.model.modules() if hasattr(norm, "momentum")} == {0.1}
    assert str(state.controller.state_dict()) == str(controller)
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_training_goes_on_as_without():
    weights = []
    for number in (0, 2):
        config, task, state, batches = trained(train__recalibrate_norms=number)
        recalibrate_norms(state, task, batches(1), config, 1)
        train_epoch(state, task, batches(2), config, 2)
        weights.append({name: value.clone() for name, value in state.model.named_parameters()})
        scales = {name: value for name, value in state.model.named_buffers() if name.endswith("threshold_scale")}
        weights[-1] |= scales
        assert scales
    plain, recalibrated = weights
    assert all(torch.equal(plain[name], recalibrated[name]) for name in plain)


def test_running_rates_of_products_are_not_averages_of_norms():
    config, task, state, batches = trained(
        train__recalibrate_norms=2, model__name="spikingresformer_3_64", model__args={}, data__img_size=16
    )
    rates = {name: value.clone() for name, value in state.model.named_buffers() if "rate" in name}
    assert rates
    recalibrate_norms(state, task, batches(1), config, 1)
    now = dict(state.model.named_buffers())
    assert all(torch.equal(now[name], rates[name]) for name in rates)


def test_the_averaged_model_is_the_one_that_is_judged():
    config, task, state, batches = trained(train__recalibrate_norms=2, train__ema_decay=0.5)
    before = averages(deepcopy(state.model))
    recalibrate_norms(state, task, batches(1), config, 1)
    assert all(torch.equal(value, before[name]) for name, value in averages(state.model).items())
    assert all(value == 2 for name, value in averages(state.ema.module).items() if name.endswith("num_batches_tracked"))
