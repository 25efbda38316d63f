"""The core alone, for other people's training loops: the law, regulation, folding, adaptation and the neurons.

It needs torch and einops. scripts/test-core runs this file with the oldest releases that are claimed; the numbers are
those of the newest, so that both give the same results.
"""

import copy

import pytest
import torch
from torch import nn

from step_ahsar.ahsar import AHSARConfig, adapt_thresholds, controller_of, fold, record_rates, regulate
from step_ahsar.integrations.step import AHSARNode
from step_ahsar.neurons import create_neuron


class Net(nn.Module):
    """[T, B, 16] -> rates [B, 10]."""

    def __init__(self, neuron):
        super().__init__()
        self.a, self.b = nn.Linear(16, 32), nn.Linear(32, 10)
        self.first, self.second = create_neuron(neuron), create_neuron(neuron)

    def forward(self, x):
        return self.second(3 * self.b(self.first(self.a(x)))).mean(0)


def inputs():
    return 2 * torch.randn(4, 64, 16, generator=torch.Generator().manual_seed(1))


def trained(neuron, controller_for):
    torch.manual_seed(0)
    model, x = Net(neuron).train(), inputs()
    controller = controller_for(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        loss = nn.functional.cross_entropy(model(x), torch.arange(64) % 10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if controller is not None:
            controller.step()
    return model, loss.item()


def calibrated(model):
    controller = regulate(model)
    controller.calibrate(lambda: model(inputs()))
    return controller


@pytest.mark.parametrize(
    ("neuron", "controller_for", "loss"),
    [
        ("lif", lambda _: None, 2.3056486),
        ("lif", calibrated, 2.3391097),
        ("ahsar", lambda _: None, 2.3428221),
        ("plif", lambda model: regulate(model, config=AHSARConfig(budget=0.1)), 2.3239064),
        ("ilif", lambda _: None, 2.2310939),
    ],
    ids=["plain", "calibrated", "by itself", "budget", "integer spikes"],
)
def test_training(neuron, controller_for, loss):
    assert trained(neuron, controller_for)[1] == pytest.approx(loss, rel=1e-5)


def test_folding_keeps_the_outputs():
    model, _ = trained("lif", calibrated)
    assert controller_of(model).layers()["first"]["threshold_scale"] != 1
    assert torch.equal(fold(model.eval())(inputs()), model(inputs()))


def test_adaptation_to_louder_inputs():
    model, _ = trained("lif", lambda _: None)
    clean = record_rates(model.eval(), [inputs()])
    found = adapt_thresholds(model, [1.5 * inputs()], batch_axis=1)
    assert found == pytest.approx(clean, rel=0.1)


def test_copies_and_checkpoints():
    model, _ = trained("ahsar", lambda _: None)
    again = copy.deepcopy(model)
    again.load_state_dict(model.state_dict())
    controller_of(again).load_state_dict(controller_of(model).state_dict())
    assert torch.equal(again.eval()(inputs()), model.eval()(inputs()))


def test_a_node_for_steps_trainer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), AHSARNode(step=4, layer_by_layer=True)).train()
    spikes = model(inputs().flatten(0, 1))
    assert set(spikes.unique().tolist()) == {0.0, 1.0}
    spikes.sum().backward()
    assert model[0].weight.grad.abs().sum() > 0
