import pytest
import torch
from torch import nn

from step_ahsar.layers.pool import MaxPool
from step_ahsar.neurons.kernels import compiler_available

SHAPES = [(2, 3, 8, 8), (1, 2, 7, 5), (3, 1, 1, 1), (2, 4, 1, 6), (2, 3, 9, 4)]


def check(pool, x, theirs):
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, expected = pool(a), theirs(b)
    assert torch.equal(ours, expected)
    assert ours.shape == expected.shape
    grad = torch.randn_like(ours)
    ours.backward(grad)
    expected.backward(grad)
    assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch_in_values_and_gradients(shape, order):
    x = torch.randn(shape).round(decimals=1).contiguous(memory_format=order)  # with ties
    check(MaxPool(), x, nn.MaxPool2d(kernel_size=3, stride=2, padding=1))


def test_of_equal_values_the_first_gets_the_gradient():
    check(MaxPool(), torch.zeros(1, 2, 6, 6), nn.MaxPool2d(3, 2, 1))


@pytest.mark.parametrize("value", [float("inf"), float("-inf")])
def test_infinite_values(value):
    x = torch.randn(1, 1, 6, 6)
    x[..., 2:4, 2:4] = value
    check(MaxPool(), x, nn.MaxPool2d(3, 2, 1))


def test_compiled(monkeypatch):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "1")
    assert compiler_available(torch.device("cpu"))
    for shape in SHAPES[:2]:
        check(MaxPool(), torch.randn(shape).round(decimals=1), nn.MaxPool2d(3, 2, 1))


@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 16)])
def test_sequences(shape):
    check(MaxPool(), torch.randn(shape).round(decimals=1), nn.MaxPool1d(3, 2, 1))
