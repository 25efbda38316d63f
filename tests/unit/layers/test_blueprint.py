import pytest
import torch

from step_ahsar.layers import Blueprint


@pytest.mark.parametrize(("name", "options"), [("glif", {}), ("ahsar", {"base": "glif"})])
def test_neurons_are_told_the_size_of_their_inputs(name, options):
    make = Blueprint(name, options=options, time_steps=3)
    neuron = make.new_neuron("mlp", 8)
    assert (neuron.time_steps, neuron.channels, neuron.group) == (3, 8, "mlp")
    assert neuron(torch.randn(3, 2, 8, 5)).shape == (3, 2, 8, 5)
    assert make.new_neuron_behind_attention(4).channels == 4


def test_sizes_that_are_given_win():
    neuron = Blueprint("glif", options={"channels": None}, time_steps=3).new_neuron("stem", 8)
    assert neuron.gate_input.ndim == 0


def test_neurons_of_any_size_are_told_nothing():
    neuron = Blueprint(time_steps=3).new_neuron("stem", 8)
    assert (neuron.time_steps, neuron.channels) == (None, None)


@pytest.mark.parametrize("linear", [False, True])
def test_without_norms_weights_are_hes(linear):
    """Their outputs have twice the mean square of their inputs, whose spikes are 0 half of the time or more often."""
    torch.manual_seed(0)
    conv = Blueprint(norm="none", conv_std=0.1, linear_std=0.02).new_conv(64, 128, 3, ndim=2, linear=linear)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert conv.bias.tolist() == [0.0] * 128
    usual = Blueprint(conv_std=0.1, linear_std=0.02).new_conv(64, 128, 3, ndim=2, linear=linear)
    assert usual.weight.std().item() == pytest.approx(0.02 if linear else 0.1, rel=0.05)
