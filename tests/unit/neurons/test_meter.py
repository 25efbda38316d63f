import torch
from torch import nn

from step_ahsar.neurons import create_neuron
from step_ahsar.neurons.meter import FiringRateMeter


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = create_neuron("if", group="stem"), create_neuron("if", group="mlp", threshold=2.0)

    def forward(self, x):
        return self.b(self.a(x) + x)


def test_rates_and_dead_fraction_by_hand():
    model = Two().eval()
    x = torch.zeros(2, 1, 4)  # two time steps, four neurons
    x[:, 0, 0] = 1.0  # a fires twice; b receives 2 and fires twice
    x[1, 0, 1] = 1.0  # a fires once; b receives 2 once, fires once
    with FiringRateMeter(model) as meter:
        model(x)
        model(0 * x)
    layers = meter.layers()
    assert layers["a"] == ("stem", 3 / 16, 0.5)
    assert layers["b"] == ("mlp", 3 / 16, 0.5)
    assert meter.groups() == {"stem": 3 / 16, "mlp": 3 / 16}
    assert meter.dead_fraction() == 0.5
    assert not model.a._forward_hooks


def test_another_input_size_starts_other_neurons():
    model = Two()
    with FiringRateMeter(model) as meter:
        model(torch.zeros(1, 2, 4))
        model(torch.ones(1, 2, 3))
    assert meter.layers()["a"].dead_fraction == 0
    assert meter.layers()["a"].rate == 6 / 14


def test_layers_that_saw_nothing_are_left_out():
    with FiringRateMeter(Two()) as meter:
        pass
    assert meter.layers() == {}
    assert meter.dead_fraction() == 0
