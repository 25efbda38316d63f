"""Operations of every small model: no layer is missed, and each weight layer is counted as by brute force."""

import pytest
import torch
from torch import Tensor, nn

from step_ahsar.ahsar import fold
from step_ahsar.measure import operations
from tests.contract.models.zoo import FAMILIES, FOR_MANY_CASES, SMALL, inputs, lively, neurons

WEIGHTS = (nn.Conv1d, nn.Conv2d, nn.Linear)
MIXERS = {"swformer": "product"} | dict.fromkeys(("qkformer", "sdt"), "sum")  # what the attention of a family computes


@torch.no_grad()
def met(layer: nn.Module, x: Tensor) -> float:
    """The weights that the spikes in ``x`` meet: the layer's output if all weights were 1."""
    ones = torch.ones_like(layer.weight)
    x = (x.abs() if torch.equal(x, x.round()) else (x != 0)).to(x.dtype)
    if isinstance(layer, nn.Linear):
        return (x @ ones.T).sum().item()
    conv = torch.nn.functional.conv1d if isinstance(layer, nn.Conv1d) else torch.nn.functional.conv2d
    return conv(x, ones, None, layer.stride, layer.padding, layer.dilation, layer.groups).sum().item()


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_is_counted(name: str) -> None:
    model, read = lively(name), {}
    for path, layer in model.named_modules():
        if isinstance(layer, WEIGHTS):
            layer.register_forward_pre_hook(lambda layer, x, path=path: read.update({path: (layer, x[0])}))
    x = inputs(model, batch=2)
    found = operations(model, [x])
    layers = {layer.name: layer for layer in found.layers if layer.kind in ("conv", "linear", "neuron")}
    assert len(read) > 5
    for path, (layer, given) in read.items():  # of the last call, as in TIM, which repeats calls
        assert layers[path].synaptic_operations * 2 == pytest.approx(met(layer, given)), path
        assert layers[path].group is not None
        assert layers[path].analog == (not torch.equal(given, given.round()))
    for path, neuron in neurons(model):
        assert (layers[path].kind, layers[path].group, layers[path].steps) == ("neuron", neuron.group, 3)
        assert layers[path].spikes > 0
    mixing = [layer for layer in found.layers if layer.group == "attention" and layer.kind in ("product", "sum")]
    assert any(layer.kind == MIXERS.get(FAMILIES[name], "product") and layer.synaptic_operations for layer in mixing)
    first = found.layers[0]
    assert (first.analog, first.steps, found.time_steps) == (True, 1, 3)
    assert found.macs_repeated == pytest.approx(found.macs + 2 * first.macs)


@pytest.mark.parametrize("name", FOR_MANY_CASES)
def test_folding_changes_no_operation(name: str) -> None:
    model = lively(name, neuron="ahsar")
    draw = torch.Generator().manual_seed(0)
    for _, neuron in neurons(model):
        assert neuron.threshold_scale is not None
        neuron.threshold_scale.fill_(float(0.6 + torch.rand((), generator=draw)))
    x = inputs(model)
    counted = operations(model, [x])
    assert operations(fold(model), [x]) == counted
    assert operations(fold(model, norms=True), [x]) == counted


@pytest.mark.parametrize("name", FOR_MANY_CASES)
def test_quantised_weights_are_as_many(name: str) -> None:
    x = inputs(lively(name))
    plain, quantised = (operations(lively(name, weight_bits=bits), [x]) for bits in (32, 4))
    assert [(layer.name, layer.kind, layer.macs) for layer in quantised.layers] == [
        (layer.name, layer.kind, layer.macs) for layer in plain.layers
    ]


@pytest.mark.parametrize("backend", ["spikingjelly", "braincog", "snntorch", "sinabs"])
def test_every_backend_has_the_same_operations(backend: str) -> None:
    x = inputs(lively("spikformer_2_64"))
    assert operations(lively("spikformer_2_64", backend=backend), [x]) == operations(lively("spikformer_2_64"), [x])
