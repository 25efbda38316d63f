"""Under one seed, a difference between two models is a difference of the thing named."""

import pytest
import timm
import torch

import step_ahsar.models  # noqa: F401
from step_ahsar.neurons import SpikingNeuron, create_neuron, list_backends, list_neurons, neuron_kind, own_parameters

EVERY = [(name, backend) for backend in list_backends() for name in list_neurons(backend)]
MODELS = ["spikformer_2_64", "qkformer_3_64", "spikformer_seq_2_64"]


def build(model, neuron, backend, **options):
    torch.manual_seed(3)
    return timm.create_model(model, num_classes=4, time_steps=3, neuron=neuron, backend=backend, **options)


@pytest.mark.parametrize(("neuron", "backend"), EVERY)
@pytest.mark.parametrize("model", MODELS)
def test_the_weights_are_the_same_whatever_the_neuron(model, neuron, backend):
    """Fault: what psn, glif and hdlif draw for themselves was taken from the stream of the weights."""
    expected, found = build(model, "lif", "torch").state_dict(), build(model, neuron, backend)
    own = own_parameters(found)
    shared = {key: value for key, value in found.state_dict().items() if key in expected}
    assert shared.keys() == expected.keys()
    assert not own & shared.keys()
    different = [key for key, value in shared.items() if not torch.equal(value, expected[key])]
    assert not different
    # and what is drawn next, such as dropout or the order of the data, is the same too
    drawn = torch.rand(3)
    build(model, "lif", "torch")
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize("neuron", ["psn", "glif", "hdlif"])
def test_what_a_neuron_draws_is_its_own_and_the_seeds(neuron):
    def drawn(seed):
        torch.manual_seed(seed)
        model = timm.create_model("spikformer_2_64", neuron=neuron)
        return [p for name, p in model.named_parameters() if name in own_parameters(model) and p.numel() > 1]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.unique().numel() > 1)
    random = [p for p in first if p.unique().numel() == p.numel()]
    assert len(random) > 10
    alike = [(i, j) for i, a in enumerate(random) for j in range(i) if torch.equal(a, random[j])]
    assert not alike  # every layer has draws of its own


def test_the_same_draws_on_every_backend():
    pytest.importorskip("spikingjelly")
    options = {"time_steps": 4, "channels": 3}
    for name in ("psn", "glif"):
        known = {key: value for key, value in options.items() if key in neuron_kind(name).options}
        parameters = []
        for backend in ("torch", "spikingjelly"):
            torch.manual_seed(0)
            parameters.append(list(create_neuron(name, backend, **known).parameters()))
        assert all(torch.equal(a, b) for a, b in zip(*parameters, strict=True))


@pytest.mark.parametrize(("neuron", "backend"), EVERY)
@pytest.mark.parametrize("model", ["spikformer_2_64", "qkformer_3_64"])
def test_neurons_run_at_their_own_thresholds_unless_told_otherwise(model, neuron, backend):
    """Fault: 1 was passed to every neuron, so ltmd, glif, cubalif and hdlif never ran at their published defaults."""
    own = neuron_kind(neuron, backend).threshold
    for given, expected in ((None, own), (0.8, 0.8)):
        found = build(model, neuron, backend, threshold=given)
        for path, module in found.named_modules():
            if isinstance(module, SpikingNeuron):
                assert module.threshold == (expected / 2 if path.endswith("attn.neuron") else expected), path


def test_published_thresholds():
    found = {name: neuron_kind(name).threshold for name in ("lif", "ltmd", "glif", "cubalif", "hdlif")}
    assert found == pytest.approx({"lif": 1.0, "ltmd": 0.462117, "glif": 0.5, "cubalif": 0.5, "hdlif": 0.5}, abs=1e-6)
