import sys
import warnings
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.libraries.braincog.adapter import BrainCogNeuron, load_nodes
from step_ahsar.neurons import create_neuron

pytest.importorskip("braincog")  # the package itself is an empty file


def test_loading_leaves_no_trace(in_new_process):
    """Neither in timm's registry nor in the program: BrainCog's own import changes both."""
    in_new_process("""
import sys, warnings
import einops.packing, timm
import step_ahsar.libraries.braincog.adapter as adapter
from step_ahsar.neurons import create_neuron, list_backends
list_backends()  # loads what has to do with the registry
sys.modules["imp"] = None  # gone from Python 3.12 on
models = {name: timm.model_entrypoint(name) for name in timm.list_models()}
loaded, filters, path = dict(sys.modules), list(warnings.filters), list(sys.path)
nodes = adapter.load_nodes()
assert nodes.LIFNode and nodes is adapter.load_nodes()
create_neuron("plif", backend="braincog")
assert {name: timm.model_entrypoint(name) for name in timm.list_models()} == models
assert sys.modules == loaded, set(sys.modules) ^ set(loaded)
assert warnings.filters == filters and sys.path == path
assert not {"braincog", "tonic", "dv", "pandas", "seaborn"} & set(sys.modules)
""")


@pytest.fixture
def reloading():
    load_nodes.cache_clear()
    yield
    load_nodes.cache_clear()


def test_nodes_that_are_loaded_already_are_used(monkeypatch, reloading):
    loaded = ModuleType(BrainCogNeuron.module)
    monkeypatch.setitem(sys.modules, BrainCogNeuron.module, loaded)
    assert load_nodes() is loaded


def test_what_was_loaded_of_braincog_comes_back(monkeypatch, reloading):
    package = ModuleType("braincog")
    package.__spec__ = find_spec("braincog")
    monkeypatch.setitem(sys.modules, "braincog", package)
    load_nodes()
    assert [name for name in sys.modules if name.startswith("braincog")] == ["braincog"]
    assert sys.modules["braincog"] is package


def test_no_warning_while_loading(reloading):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_nodes()


def theirs(node, surrogate, x):
    """Spikes of a node of BrainCog as its users run it, over [T, B, C]."""
    node = node(step=len(x), layer_by_layer=True, threshold=0.5, act_fun=surrogate)
    return node(x.flatten(0, 1)).view(x.shape)


@pytest.mark.parametrize(("name", "node"), [("if", "IFNode"), ("lif", "LIFNode"), ("plif", "PLIFNode")])
def test_is_braincogs_node(name, node):
    nodes, x = load_nodes(), torch.randn(4, 3, 50, requires_grad=True)
    neuron = create_neuron(name, "braincog", threshold=0.5, alpha=2.0)
    spikes, expected = neuron(x), theirs(getattr(nodes, node), nodes.SigmoidGrad, x)
    assert torch.equal(spikes, expected)
    weight = torch.randn_like(x)
    got, wanted = (torch.autograd.grad((s * weight).sum(), x)[0] for s in (spikes, expected))
    torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("surrogate", "alpha", "act", "act_alpha"),
    [
        ("sigmoid", 4.0, "SigmoidGrad", 4.0),
        ("atan", 2.0, "AtanGrad", 2.0),
        ("piecewise_quadratic", 2.0, "QGateGrad", 2.0),
        ("rectangle", 1.0, "GateGrad", 2.0),
    ],
)
def test_surrogates_are_braincogs_but_for_ties(surrogate, alpha, act, act_alpha):
    neuron = create_neuron("lif", "braincog", surrogate=surrogate, alpha=alpha)
    u = torch.cat([torch.linspace(-2, 2, 100), torch.zeros(1)]).requires_grad_()
    ours, theirs = neuron.fire(u), getattr(load_nodes(), act)(alpha=act_alpha, requires_grad=False)(u)
    gradients = [torch.autograd.grad(s.sum(), u)[0] for s in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-7)
    assert torch.equal(ours[:-1], theirs[:-1])
    assert ours[-1] == 1
    assert theirs[-1] == (1 if surrogate == "sigmoid" else 0)  # the known difference


def test_the_threshold_is_no_parameter_and_reaches_the_node():
    neuron = create_neuron("ahsar", "braincog", threshold=2.0)
    assert list(neuron.parameters()) == []
    assert "threshold" not in dict(neuron.node.named_parameters())
    neuron.threshold_scale.fill_(0.25)
    neuron(torch.ones(1, 1, 1))
    assert neuron.node.threshold == 0.5


def test_resets_it_lacks():
    with pytest.raises(UserError, match="'if' on backend 'braincog' has reset='hard' only, got 'soft'"):
        create_neuron("if", "braincog", reset="soft")
    with pytest.raises(UserError, match="has detach_reset=True only, got False"):
        create_neuron("ahsar", "braincog", base="plif", detach_reset=False)


def test_an_interrupted_call_leaves_no_state(monkeypatch):
    neuron, x = create_neuron("lif", "braincog"), torch.ones(2, 1, 3)
    expected = neuron(x)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(neuron.node, "calc_spike", interrupted)
    with pytest.raises(KeyboardInterrupt):
        neuron(x)
    monkeypatch.undo()
    assert torch.equal(neuron(x), expected)
