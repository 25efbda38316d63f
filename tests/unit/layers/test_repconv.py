"""The re-parameterised convolution."""

import pytest
import torch
from torch import Tensor, nn

from step_ahsar.layers import Blueprint, RepConv, SpikingRepConv


def lively(ndim: int) -> RepConv:
    """In float64, with norms that do something."""
    torch.manual_seed(0)
    conv = RepConv(5, 7, Blueprint(), ndim=ndim).double()
    for norm in (conv.first_norm, conv.last_norm):
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
    return conv


def image(ndim: int) -> Tensor:
    return torch.randn(2, 5, *[6] * ndim, dtype=torch.float64)


@pytest.mark.parametrize("ndim", [1, 2])
@torch.no_grad()
def test_in_evaluation_it_is_one_convolution(ndim: int) -> None:
    conv, x = lively(ndim).eval(), image(ndim)
    torch.testing.assert_close(conv.merged()(x), conv(x), rtol=1e-12, atol=1e-12)
    assert conv.merged().weight.shape == (7, 5, *[3] * ndim)


@torch.no_grad()
def test_the_border_follows_the_running_averages() -> None:
    """By hand: of an image of one pixel, each tap of the depthwise convolution but the middle one sees the border."""
    conv = lively(2).train()
    x = image(2)[..., :1, :1]
    norm = conv.first_norm
    border = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    inside = nn.functional.batch_norm(conv.first(x), None, None, norm.weight, norm.bias, training=True)[:, :, 0, 0]
    taps = conv.depthwise.weight[:, 0]
    mixed = inside * taps[:, 1, 1] + border * (taps.sum((1, 2)) - taps[:, 1, 1])
    expected = conv.last_norm.train()(conv.last(mixed[..., None, None]))
    for each in (norm, conv.last_norm):  # the averages move with each pass; they were read before this one
        each.momentum = 0.0
    torch.testing.assert_close(lively(2).train()(x), expected, rtol=1e-9, atol=1e-9)


def test_gradients_reach_every_parameter() -> None:
    layer = SpikingRepConv(3, 4, Blueprint(threshold=0.2), "attention")
    layer(torch.randn(2, 2, 3, 5, 5)).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
