"""Other thresholds, noise on weights, weights of few bits."""

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_neurons, neuron_kind
from step_ahsar.robustness.perturbing import add_noise, quantise, scale_thresholds


@pytest.mark.parametrize("name", list_neurons("torch"))
def test_a_scaled_threshold_is_a_regulated_one(name):
    """What a controller's scale does, the factor does: on learnt thresholds too."""
    torch.manual_seed(0)
    needed = {"time_steps": 6, "channels": 50}
    options = {key: value for key, value in needed.items() if key in neuron_kind(name).options}
    plain, regulated = (create_neuron(name, **options).eval() for _ in range(2))
    regulated.load_state_dict(plain.state_dict())
    if regulated.threshold_scale is None:
        regulated.add_scale()
    regulated.threshold_scale.fill_(0.5)
    scale_thresholds(nn.Sequential(plain), 0.5)
    x = torch.randn(6, 2, 50)
    assert torch.equal(plain(x), regulated(x))


def test_the_scale_of_a_regulated_neuron_stays_beside_the_factor():
    neuron = create_neuron("ahsar", threshold=2.0)
    neuron.threshold_scale.fill_(0.25)
    scale_thresholds(nn.Sequential(neuron), 3.0)
    assert neuron.scaled_threshold(torch.zeros(1)).item() == pytest.approx(1.5)


def test_noise_is_relative_to_the_layer_and_reaches_weights_alone():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 64, 3), nn.BatchNorm2d(64), nn.Linear(64, 500))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    add_noise(model, 0.2)
    for name, value in model.state_dict().items():
        if name in ("0.weight", "2.weight"):
            noise = value - before[name]
            assert noise.std().item() == pytest.approx(0.2 * before[name].std().item(), rel=0.05)
            assert abs(noise.mean()) < 0.02 * before[name].std()
        else:
            assert torch.equal(value, before[name])
    before = model[2].weight.clone()
    add_noise(model, 0.0)
    assert torch.equal(model[2].weight, before)


def test_few_bits_by_hand():
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = torch.tensor([[3.0, -1.4, 0.4, 1.6], [0.03, 0.0, -0.01, 0.016], [0.0, 0.0, 0.0, 0.0]])
    quantise(nn.Sequential(layer), 3)  # levels -3 to 3 steps, and each channel has a step of its own
    expected = torch.tensor([[3.0, -1.0, 0.0, 2.0], [0.03, 0.0, -0.01, 0.02], [0.0, 0.0, 0.0, 0.0]])
    assert torch.allclose(layer.weight, expected, atol=1e-7)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_levels_are_as_many_as_the_bits_give(bits):
    torch.manual_seed(0)
    layer = nn.Conv1d(64, 2, 99)
    before = layer.weight.clone()
    quantise(nn.Sequential(layer), bits)
    assert [len(channel.unique()) for channel in layer.weight] == [2**bits - 1] * 2
    step = before.abs().amax((1, 2)) / (2 ** (bits - 1) - 1)
    assert ((layer.weight - before).abs().amax((1, 2)) <= step / 2 + 1e-7).all()


def test_weights_that_are_computed_are_refused():
    model = nn.Sequential(weight_norm(nn.Linear(3, 3)))
    with pytest.raises(UserError, match="the weight of 0 is computed from others"):
        quantise(model, 4)
