"""Every family and every neuron becomes a graph by torch.export, with any batch size."""

import pytest
import torch

from step_ahsar.engine.export.graphs import graph_of, inference_model
from step_ahsar.neurons import create_neuron, list_neurons, neuron_kind
from tests.contract.models.zoo import EVERYTHING, FOR_MANY_CASES, inputs, lively

# An export takes seconds. These have every kind of layer between them.
FEW = ("metaspikeformer_2_64", "qkformer_3_64", "sglformer_2_64", "spikingresformer_3_64", "swformer_2_64")


@pytest.mark.parametrize("name", FOR_MANY_CASES if EVERYTHING else FEW)
@torch.no_grad()
def test_a_model(name):
    model = inference_model(lively(name, neuron="ahsar", time_steps=2))
    x = inputs(model, batch=3)
    graph = graph_of(model, x[:2], batch_axis=0).module()
    assert torch.equal(graph(x), model(x))
    assert model(x).std(0).min() > 0


@torch.no_grad()
def test_fixed_random_attention():
    """Its pattern is drawn once and kept: not while it is exported, where tensors have no values."""
    model = inference_model(lively("spikformer_2_64", attention="random", attn_threshold=None, time_steps=2, dim=32))
    x = inputs(model, batch=3)
    assert torch.equal(graph_of(model, x[:2], batch_axis=0).module()(x), model(x))


@torch.no_grad()
def test_an_export_before_any_other_pass_leaves_no_traces():
    model = lively("swformer_2_64", time_steps=2)
    x = inputs(model, batch=2).float()
    model.float()
    graph = torch.export.export(model, (x,)).module()
    assert torch.equal(graph(x), model(x))


@pytest.mark.parametrize("name", [name for name in list_neurons("torch") if name != "ahsar"])
@torch.no_grad()
def test_a_neuron(name):
    steps = 1 if name == "hodgkin_huxley" else 4  # a step of it is a hundred small ones
    sizes = {"time_steps": steps, "channels": 5}  # for neurons that have parameters for each
    neuron = create_neuron(name, **{key: n for key, n in sizes.items() if key in neuron_kind(name, "torch").options})
    neuron.eval()
    x = 2 * torch.randn(steps, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    graph = graph_of(neuron, x[:, :2], batch_axis=1).module()
    assert torch.equal(graph(x), neuron(x))
    assert neuron(x).any()
