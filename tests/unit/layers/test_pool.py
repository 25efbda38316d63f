import pytest
import torch
from torch import nn

from step_ahsar.layers.pool import MaxPool


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 2, 7, 5), (3, 1, 1, 1), (2, 3, 9), (2, 3, 16)])
def test_equals_torch_in_values_and_gradients(shape):
    x = torch.randn(shape).round(decimals=1)  # with ties
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    theirs = (nn.MaxPool2d if len(shape) == 4 else nn.MaxPool1d)(kernel_size=3, stride=2, padding=1)
    ours, expected = MaxPool()(a), theirs(b)
    assert torch.equal(ours, expected)
    grad = torch.randn_like(ours)
    ours.backward(grad)
    expected.backward(grad)
    assert torch.equal(a.grad, b.grad)
