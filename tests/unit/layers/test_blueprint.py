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
