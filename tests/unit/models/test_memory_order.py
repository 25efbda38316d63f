"""Inside the models the channels are last in memory, so that no layer copies what it is given."""

import pytest
import timm
import torch

import step_ahsar.models  # noqa: F401  (registers the models)
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.neurons.memory import is_channels_last


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["spikformer_2_64", "qkformer_3_64", "sdt_2_64"])
def test_neurons_read_and_write_it(name, training, monkeypatch):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    model = timm.create_model(name, num_classes=10, neuron="lif", dim=32) if "qk" not in name else None
    model = model or timm.create_model(name, num_classes=10, neuron="lif")
    orders = {}

    def note(layer, given, out, path):
        if given[0].ndim > 3 and min(given[0].shape[2], given[0][0, 0, 0].numel()) > 1:  # else both orders apply
            orders[path] = is_channels_last(given[0]), is_channels_last(out)

    for path, layer in model.named_modules():
        if isinstance(layer, SpikingNeuron):
            layer.register_forward_hook(lambda *args, path=path: note(*args, path))
    model.train(training)(torch.randn(2, 3, 32, 32))
    assert len(orders) > 10
    others = [path for path, order in orders.items() if order != (True, True)]
    # Q-K attention's sums over the channels of a head are as few as there are heads
    assert others == ([path for path in orders if path.endswith("attn.neuron")][:2] if "qk" in name else [])
