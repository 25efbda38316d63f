import pytest
import torch
from torch import nn

from step_ahsar.measure.firing import FiringRateMeter
from step_ahsar.neurons import create_neuron


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


def test_the_neurons_of_every_input_size_count():
    """Fault: the share of silent neurons started anew with each size, as in tests at several scales."""
    model = Two()
    with FiringRateMeter(model) as meter:
        model(torch.zeros(1, 2, 4))
        model(torch.ones(1, 2, 3))
        model(torch.tensor([[[1.0, 0.0, 0.0, 0.0]] * 2]))
    layer = meter.layers()["a"]
    assert layer.dead_fraction == pytest.approx(3 / 7)  # three of the first four; none of the other three
    assert layer.rate == pytest.approx((6 + 2) / (8 + 6 + 8))
    assert meter.dead_fraction() == pytest.approx(6 / 14)


def test_counts_of_several_processes_are_joined(monkeypatch):
    """A neuron that fired in one of them is not silent. A layer, or a size, may have run in one of them alone."""
    model, inputs = Two(), [torch.eye(4)[None, :2], torch.eye(4)[None, 1:3], torch.ones(1, 2, 3)]
    with FiringRateMeter(model) as whole:
        for x in inputs:
            model(x)
    with FiringRateMeter(model) as first:
        model(inputs[0])
    with FiringRateMeter(model) as second:
        model(inputs[1])
        model(inputs[2])
    counts = []
    with monkeypatch.context() as patch:
        patch.setattr("step_ahsar.ranks.gathered", lambda value: counts.append(value) or [value])
        second.join()
    monkeypatch.setattr("step_ahsar.ranks.gathered", lambda value: [value, counts[0]])
    first.join()
    assert first.layers() == whole.layers()
    assert first.groups() == whole.groups()
    assert first.dead_fraction() == whole.dead_fraction() == pytest.approx(2 / 14)


def test_rates_are_of_the_most_that_a_neuron_emits():
    model = nn.Sequential(create_neuron("ilif", max_count=4))
    with FiringRateMeter(model) as meter:
        model(torch.full((1, 1, 2), 2.0))  # two spikes each of four
    assert meter.layers()["0"].rate == 0.5


def test_distribution_of_rates_by_hand():
    """Neuron i of 21 fires in i of 20 samples: the rates are 0, 0.05, ..., 1."""
    model = nn.Sequential(create_neuron("if", group="mlp"))
    inputs = (torch.arange(21) > torch.arange(20)[:, None]).float()[None]
    with FiringRateMeter(model) as meter:
        for part in inputs.split(6, dim=1):
            model(part)
    found = meter.distributions()["0"]
    assert found.group == "mlp"
    assert found.quantiles == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95])
    assert found.dead == found.saturated == pytest.approx(1 / 21)
    assert meter.layers()["0"].rate == pytest.approx(0.5)


def test_saturated_neurons_emit_the_most_they_can_at_every_step():
    model = nn.Sequential(create_neuron("ilif", max_count=4))
    with FiringRateMeter(model) as meter:
        model(torch.tensor([[[9.0, 1.0, 9.0, 0.0]], [[9.0, 1.0, 0.0, 0.0]]]))
    found = meter.distributions()["0"]
    assert found.saturated == 0.25  # the first neuron; the third one fires 4 times, then what is left of its membrane
    assert found.dead == 0.25


def test_negative_spikes_count_as_spikes():
    model = nn.Sequential(create_neuron("ternary_lif", tau=2.0))
    with FiringRateMeter(model) as meter:
        model(torch.tensor([[[9.0, -9.0, 0.0]]]))
    found = meter.distributions()["0"]
    assert (found.dead, found.saturated) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_layers_that_saw_nothing_are_left_out():
    with FiringRateMeter(Two()) as meter:
        pass
    assert meter.layers() == {}
    assert meter.dead_fraction() == 0
