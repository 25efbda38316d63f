"""Norm and neuron in one pass against the norm as a module and then the neuron."""

import copy
import math

import pytest
import torch
from torch import nn

from step_ahsar.neurons import NORMS, create_neuron, create_norm, normalised
from step_ahsar.neurons.kernels import can_fuse, compiling


def run(neuron, norm, x, fused):
    """Spikes, running statistics, gradients of x, norm and neuron."""
    neuron, norm, x = copy.deepcopy(neuron), copy.deepcopy(norm), x.clone().requires_grad_()
    spikes = neuron(x, norm) if fused else neuron(normalised(norm, x))
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x)
    (spikes * weight).sum().backward()
    return spikes, *norm.buffers(), x.grad, *(p.grad for p in (*norm.parameters(), *neuron.parameters()))


def pair(shape, name="lif", dtype=torch.float64, norm="bn", momentum=0.1):
    torch.manual_seed(0)
    norm = create_norm(norm, shape[2], ndim=len(shape) - 3, time_steps=shape[0]).to(dtype)
    norm.momentum = momentum
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.3, 1.5)
    nn.init.uniform_(norm.running_mean, -1, 1)
    return create_neuron(name, threshold=0.7).to(dtype), norm, torch.randn(shape, dtype=dtype) * 2 + 1


@pytest.mark.parametrize("norm", sorted(set(NORMS) - {"none"}))  # which is no batch norm
@pytest.mark.parametrize("name", ["lif", "plif"])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6, 7), (1, 8, 2, 9), (16, 2, 3, 4), (3, 4, 5, 1, 1)])
def test_equals_norm_then_neuron(shape, name, norm):
    neuron, norm, x = pair(shape, name, norm=norm)
    assert can_fuse(norm, x)
    for got, expected in zip(run(neuron, norm, x, True), run(neuron, norm, x, False), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def channels_last(x):
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


@pytest.mark.parametrize("norm", ["bn", "tebn"])
@pytest.mark.parametrize("name", ["lif", "plif"])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6, 7), (1, 8, 2, 9), (3, 2, 1, 4), (3, 4, 5, 1, 1)])
def test_channels_that_are_last_in_memory_stay_there(shape, name, norm):
    neuron, norm, x = pair(shape, name, norm=norm)
    found, expected = run(neuron, norm, channels_last(x), True), run(neuron, norm, x, True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    apart = run(neuron, norm, channels_last(x), False)
    for a, b in zip(apart, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    if min(shape[2], math.prod(shape[3:])) > 1:  # else both orders apply
        for spikes, grad in ((found[0], found[4]), (apart[0], apart[4])):
            assert spikes.movedim(2, -1).is_contiguous()
            assert grad.movedim(2, -1).is_contiguous()


def test_an_image_that_is_repeated_over_time_is_in_its_own_order():
    neuron, norm, x = pair((4, 3, 5, 6, 7))
    image = channels_last(x)[:1].expand(4, -1, -1, -1, -1)
    spikes = neuron(image, norm)
    assert spikes.movedim(2, -1).is_contiguous()
    assert torch.equal(spikes, neuron(x[:1].expand(4, -1, -1, -1, -1), norm))


@pytest.mark.parametrize("order", [lambda x: x, channels_last])
@pytest.mark.parametrize("shape", [(4, 8, 6, 5, 5), (4, 8, 6, 25)])
def test_running_statistics_are_torchs_to_the_bit(shape, order):
    neuron, norm, x = pair(shape, dtype=torch.float32, momentum=0.3)
    x = order(x)
    fused, apart = (run(neuron, norm, x, f)[1:4] for f in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(fused, apart, strict=True))


@pytest.mark.parametrize(
    "odd",
    [
        lambda: nn.BatchNorm2d(6, affine=False),
        lambda: nn.BatchNorm2d(6, momentum=None),
        lambda: nn.BatchNorm2d(6, track_running_stats=False),
        lambda: nn.GroupNorm(2, 6),
        lambda: create_norm("none", 6, ndim=2),
        nn.Identity,
    ],
)
def test_other_norms_run_as_modules(odd):
    neuron, _, x = pair((4, 3, 6, 5, 5), dtype=torch.float32)
    norm = odd()
    assert not can_fuse(norm, x)
    for got, expected in zip(run(neuron, norm, x, True), run(neuron, norm, x, False), strict=True):
        assert torch.equal(got, expected)


def test_in_eval_mode_the_norm_runs_as_the_module_it_is():
    neuron, norm, x = pair((4, 3, 6, 5, 5), dtype=torch.float32)
    norm.eval()
    assert not can_fuse(norm, x)
    assert torch.equal(neuron(x, norm), neuron(norm(x.flatten(0, 1)).unflatten(0, (4, 3))))


def test_hooks_on_the_norm_see_their_call():
    neuron, norm, x = pair((4, 3, 6, 5, 5), dtype=torch.float32)
    calls = []
    norm.register_forward_hook(lambda *_: calls.append(1))
    neuron(x, norm)
    assert calls == [1]


def test_half_precision():
    neuron, norm, x = pair((4, 8, 6, 5, 5), dtype=torch.float32)
    spikes = neuron(x.bfloat16(), norm)
    assert spikes.dtype == torch.bfloat16
    norm.reset_running_stats()
    assert torch.equal(spikes.float(), neuron(x.bfloat16().float(), norm))


@pytest.mark.skipif(not compiling._compiler_available("cpu"), reason="no C++ compiler: there is nothing to compare")
@pytest.mark.parametrize(("kind", "order"), [("bn", channels_last), ("tebn", lambda x: x)])
def test_one_compiled_graph_with_the_same_numbers(monkeypatch, kind, order):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "1")
    compiling._compiled.cache_clear()
    torch._dynamo.utils.counters.clear()
    for shape in ((2, 4, 8, 3, 5), (2, 3, 5, 7), (2, 6, 4, 2, 2)):
        neuron, norm, x = pair(shape, dtype=torch.float32, norm=kind)
        x = order(x)
        compiled = run(neuron, norm, x, True)
        monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
        eager = run(neuron, norm, x, True)
        monkeypatch.setenv("STEP_AHSAR_COMPILE", "1")
        assert torch.equal(compiled[0], eager[0])
        for got, expected in zip(compiled, eager, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    compiling._compiled.cache_clear()


def test_second_derivatives_are_refused():
    neuron, norm, x = pair((4, 3, 6, 5), dtype=torch.float32)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(neuron(x, norm).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()
