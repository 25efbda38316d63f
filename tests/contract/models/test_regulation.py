"""AHSAR in every small model."""

import warnings

import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

from step_ahsar.ahsar import fold, regulate
from step_ahsar.layers import SpikingConv
from tests.contract.models.zoo import SMALL, inputs, lively, neurons


@pytest.mark.parametrize("name", SMALL)
def test_regulation_by_group(name: str) -> None:
    """AHSAR finds every neuron in its group, counts each forward pass once and moves every scale."""
    model = lively(name, neuron="ahsar").train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as: a module looks like a neuron and is not known
        controller = regulate(model)
    sizes: dict[str, int] = {}
    for path, neuron in neurons(model):
        neuron.register_forward_hook(lambda _, __, out, path=path: sizes.update({path: out.numel()}))
    model(inputs(model, batch=2)).sum().backward()
    for path, neuron in neurons(model):
        assert neuron.observed is not None
        assert neuron.observed[1] == sizes[path], path
    controller.step()
    assert {path: layer["group"] for path, layer in controller.layers().items()} == {
        path: neuron.group for path, neuron in neurons(model)
    }
    # Layers outside the band have moved; those inside it rest.
    assert any(neuron.threshold_scale != 1 for _, neuron in neurons(model))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_folding_keeps_the_spikes(name: str) -> None:
    model = lively(name, neuron="ahsar")
    draw = torch.Generator().manual_seed(0)
    for _, neuron in neurons(model):
        assert neuron.threshold_scale is not None
        neuron.threshold_scale.fill_(float(0.6 + torch.rand((), generator=draw)))
    x = inputs(model)
    logits = model(x)
    plain = lively(name)
    assert not torch.equal(plain(x), logits)
    for weights_only in (False, True):
        folded = fold(model, weights_only=weights_only)
        assert all(neuron.threshold_scale is None for _, neuron in neurons(folded))
        torch.testing.assert_close(folded(x), logits, rtol=0, atol=1e-9)
        assert sum(p.numel() for p in folded.parameters()) == sum(p.numel() for p in model.parameters())
    without = fold(model, norms=True)
    torch.testing.assert_close(without(x), logits, rtol=0, atol=1e-9)
    for path, module in without.named_modules():  # quantised and re-parametrised convolutions and wavelets keep theirs
        if isinstance(module, SpikingConv) and not isinstance(module.norm, torch.nn.Identity):
            assert is_parametrized(module.conv) or not isinstance(module.conv, torch.nn.Conv1d | torch.nn.Conv2d), path
    weights = fold(model, weights_only=True)
    thresholds = {path: neuron.threshold for path, neuron in neurons(weights)}
    plain.load_state_dict(weights.state_dict())
    for path, neuron in neurons(plain):
        neuron.threshold = thresholds[path]
    torch.testing.assert_close(plain(x), logits, rtol=0, atol=1e-9)
