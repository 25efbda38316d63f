"""Norms that take the statistics of the batch in evaluation, the rival of adapted thresholds."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from step_ahsar.engine.adapt import several, use_batch_statistics
from step_ahsar.errors import UserError
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import SpikingConv
from step_ahsar.neurons.norms import TemporalEffectiveNorm2d


def test_a_norm_in_eval_mode_uses_the_batch():
    norm = nn.BatchNorm2d(3).eval()
    nn.init.uniform_(norm.weight)
    x = 5 + 2 * torch.randn(4, 3, 6, 6)
    before = {name: value.clone() for name, value in norm.named_buffers()}
    use_batch_statistics(nn.Sequential(norm))
    mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    expected = (x - mean) / (var + norm.eps).sqrt() * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    assert torch.allclose(norm(x), expected, atol=1e-5)
    assert not norm.training
    assert all(torch.equal(getattr(norm, name), before[name]) for name in ("running_mean", "running_var"))
    with pytest.raises(ValueError, match="4D"):
        norm(torch.ones(2))
    assert not norm.training  # also after an error


def test_norms_in_front_of_neurons_and_those_with_factors_of_steps():
    torch.manual_seed(0)
    layer = SpikingConv(2, 4, Blueprint("lif"), "stem", kernel_size=3)
    x = 3 * torch.randn(4, 8, 2, 6, 6)
    expected = layer.train()(x)
    layer.eval()
    use_batch_statistics(layer)
    with torch.no_grad():
        assert (layer(x) != expected).float().mean() < 1e-3
    norm = TemporalEffectiveNorm2d(4, 3)
    nn.init.uniform_(norm.step_scale)
    y = torch.randn(4, 8, 3, 5, 5)
    expected = norm.train()(y)
    norm.eval()
    use_batch_statistics(norm)
    assert torch.allclose(norm(y), expected, atol=1e-6)


def test_without_the_hooks_all_is_as_before():
    norm, x = nn.BatchNorm2d(3).eval(), 5 + torch.randn(4, 3, 6, 6)
    expected = norm(x)
    for hook in use_batch_statistics(norm):
        hook.remove()
    assert torch.equal(norm(x), expected)
    assert norm.momentum == 0.1
    assert not use_batch_statistics(nn.Linear(2, 2))


def test_a_batch_of_one_sample():
    task = SimpleNamespace(batch_axis=lambda inputs: 1)
    batches = [(torch.zeros(4, 2, 3), "labels"), (torch.zeros(4, 1, 3), "label")]
    checked = several(batches, task)
    assert next(checked) is not None
    with pytest.raises(UserError, match=r"cannot be adapted to a batch of 1.*data\.batch_size"):
        next(checked)
