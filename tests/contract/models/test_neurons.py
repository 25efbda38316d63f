"""Any norm, any neuron and any backend in every family."""

import copy

import pytest
import timm
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import SpikingConv
from step_ahsar.neurons import NORMS, list_backends, list_neurons, own_parameters
from tests.contract.models.zoo import EVERYTHING, FOR_MANY_CASES, create, inputs, lively


@pytest.mark.parametrize("name", FOR_MANY_CASES)
@pytest.mark.parametrize("norm", sorted(NORMS))
def test_norms(name: str, norm: str) -> None:
    """Fused with its neuron or not, a norm gives the same; tdBN starts at the thresholds; TEBN is bound to T."""
    model = lively(name, norm=norm).train()
    apart = copy.deepcopy(model)
    for module in apart.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: None)  # a norm with hooks runs as a module of its own
    x = inputs(model, batch=4)
    outputs = [each(x) for each in (model, apart)]
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    for logits in outputs:
        logits.square().sum().backward()
    for (key, p), q in zip(model.named_parameters(), apart.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=1e-9, msg=key)
    fresh = timm.create_model(name, norm=norm, threshold=0.7)
    behind = {
        round(float(m.norm.weight.detach()[0]), 6)
        for m in fresh.modules()
        if isinstance(m, SpikingConv) and m.neuron is not None
    }
    assert behind <= ({0.7} if norm == "tdbn" else {1.0})
    if norm == "tebn":
        with pytest.raises(UserError, match="was made for 3 time steps"):
            model(inputs(model, time_steps=2))


@pytest.mark.parametrize("backend", sorted(set(list_backends()) - {"torch"}))
@pytest.mark.parametrize("name", FOR_MANY_CASES)
@torch.no_grad()
def test_any_backend_gives_the_same_logits(name: str, backend: str) -> None:
    """In exact arithmetic; snnTorch and sinabs decay membranes by another rounding, which fp64 and tau 2 hide."""
    model = create(name)
    x = inputs(model)
    torch.testing.assert_close(create(name, backend=backend)(x), model(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("backend", "neuron"),
    [(backend, neuron) for backend in sorted(set(list_backends()) - {"torch"}) for neuron in list_neurons(backend)],
)
@torch.no_grad()
def test_any_neuron_of_any_backend(neuron: str, backend: str) -> None:
    """The model of one family: neuron by neuron the backends are compared in test_equivalence.py."""
    model = create("sdt_2_64", neuron=neuron, backend=backend, threshold=None)
    x = inputs(model)
    logits = model(x)
    assert logits.isfinite().all()
    assert model(x).equal(logits)
    if neuron in list_neurons("torch") and not own_parameters(model):  # which have other names there
        torch.testing.assert_close(create("sdt_2_64", neuron=neuron, threshold=None)(x), logits, rtol=0, atol=1e-9)


# What a neuron can need from a model: T, channels, neither; to be regulated; spikes of its own kind.
KINDS = ("ahsar", "ds_atgo", "hdlif", "lif", "masked_psn", "nilif", "ternary_lif")


@pytest.mark.parametrize(
    ("name", "neuron"),
    [
        (name, neuron)
        for name in FOR_MANY_CASES
        for neuron in sorted(list_neurons())
        if EVERYTHING or name == "sdt_2_64" or neuron in KINDS
    ],
)
def test_any_neuron_trains(name: str, neuron: str) -> None:
    model = create(name, neuron=neuron, threshold=None).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = copy.deepcopy(model.state_dict())
    loss = torch.nn.functional.cross_entropy(model(inputs(model, batch=4)), torch.arange(4))
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())
