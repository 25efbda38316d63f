"""Quantised weights."""

import math

import pytest
import torch
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.layers.quantise import LayerScale, LearnedStepSize, quantise


def test_values_and_gradients_by_hand() -> None:
    """4 bits: levels -8 to 7. LSQ's equation 3: the step's gradient is level - w / a inside, and the bound outside."""
    weight = torch.tensor([[0.24, -0.07, 0.9], [-3.0, 0.1, 0.0]], dtype=torch.float64, requires_grad=True)
    quantiser = LearnedStepSize(weight, bits=4)
    with torch.no_grad():
        quantiser.step.copy_(torch.tensor([0.1, 0.2]))
    quantised = quantiser(weight)
    expected = torch.tensor([[0.2, -0.1, 0.7], [-1.6, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(quantised, expected, rtol=1e-6, atol=1e-7)
    quantised.sum().backward()
    inside = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(weight.grad, inside, rtol=1e-6, atol=1e-6)
    assert quantiser.step.grad is not None
    by_weight = [[2 - 2.4, -1 + 0.7, 7], [-8, 0 - 0.5, 0]]
    factor = 1 / math.sqrt(6 * 7)
    assert quantiser.step.grad.tolist() == pytest.approx([factor * sum(row) for row in by_weight], rel=1e-5)


def test_the_steps_start_from_the_mean_of_each_channel() -> None:
    weight = torch.tensor([[1.0, -3.0], [0.5, 0.5]])
    assert LearnedStepSize(weight, 4).step.tolist() == pytest.approx([2 * 2 / math.sqrt(7), 2 * 0.5 / math.sqrt(7)])


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_layer_computes_with_few_levels(bits: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 5, 3)
    quantise(layer, bits)
    step = layer.parametrizations.weight[0].step.view(-1, 1, 1, 1)  # type: ignore[union-attr,operator,index]
    levels = (layer.weight / step).detach()
    assert (levels - levels.round()).abs().max() < 1e-5
    assert -(2 ** (bits - 1)) <= levels.round().min()
    assert levels.round().max() <= 2 ** (bits - 1) - 1
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(layer(x), nn.functional.conv2d(x, layer.weight, layer.bias))
    assert all(p.ndim == 1 for name, p in layer.named_parameters() if name.endswith("step"))


@pytest.mark.parametrize("bits", [1, 9, 0])
def test_bits_are_checked(bits: int) -> None:
    with pytest.raises(UserError, match="weight_bits must be from 2 to 8"):
        quantise(nn.Linear(2, 2), bits)


def test_layer_scale() -> None:
    scale, x = LayerScale(3, 0.5), torch.randn(2, 2, 3, 4, 4)
    assert torch.equal(scale(x), 0.5 * x)
    assert scale.scale.shape == (3,)
