"""What every neuron of the registry keeps, on every backend."""

import copy

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_backends, list_neurons, list_surrogates, neuron_options

EVERY = [(name, backend) for backend in list_backends() for name in list_neurons(backend) if name != "ahsar"]
every_neuron = pytest.mark.parametrize(("name", "backend"), EVERY, ids=lambda v: str(v))

OTHER = {  # another value of every option, which must show
    "threshold": 0.6,
    "tau": 5.0,
    "alpha": 0.7,
    "reset": "soft",
    "detach_reset": False,
}


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def result(neuron, x):
    """Spikes and input gradient."""
    x = x.clone().requires_grad_()
    spikes = neuron(x)
    weight = inputs(*x.shape, seed=1)
    (gradient,) = torch.autograd.grad((spikes * weight).sum(), x)
    return spikes.detach(), gradient


@every_neuron
@pytest.mark.parametrize("shape", [(4, 3), (1, 2, 5), (2, 2, 3, 4), (3, 2, 2, 3, 3), (2, 1, 2, 2, 2, 2), (20, 2, 3)])
def test_shapes_and_values(name, backend, shape):
    neuron = create_neuron(name, backend)
    spikes, gradient = result(neuron, inputs(*shape))
    assert spikes.shape == gradient.shape == shape
    assert ((spikes >= 0) & (spikes <= neuron.max_spikes)).all()
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@every_neuron
def test_too_few_dimensions(name, backend):
    with pytest.raises(UserError, match=r"takes \[T, B, \.\.\.\], got shape \[4\]"):
        create_neuron(name, backend)(torch.zeros(4))


@every_neuron
def test_nothing_leaks_between_calls(name, backend):
    neuron = create_neuron(name, backend)
    x = inputs(4, 3, 6)
    first = neuron(x)
    neuron(inputs(2, 5, 4, seed=3))  # another T and batch
    assert torch.equal(neuron(x), first)


@every_neuron
def test_batch_invariance(name, backend):
    neuron, x = create_neuron(name, backend), inputs(4, 8, 6)
    assert torch.equal(neuron(x)[:, 2:5], neuron(x[:, 2:5]))


@every_neuron
def test_every_option_reaches_the_neuron(name, backend):
    x = inputs(6, 4, 50)
    spikes, gradient = result(create_neuron(name, backend), x)
    for option in neuron_options(name, backend):
        values = [s for s in list_surrogates() if s != "sigmoid"] if option == "surrogate" else [OTHER[option]]
        for value in values:
            other_spikes, other_gradient = result(create_neuron(name, backend, **{option: value}), x)
            changed = not torch.equal(spikes, other_spikes), not torch.equal(gradient, other_gradient)
            if option in ("surrogate", "alpha", "detach_reset"):
                assert changed == (False, True), f"{option}={value}: spikes stay, gradients change"
            else:
                assert changed == (True, True), f"{option}={value} changes nothing"


@every_neuron
def test_threshold_scale_is_a_threshold(name, backend):
    x = inputs(5, 4, 40)
    regulated = create_neuron("ahsar", backend, base=name, threshold=1.0)
    assert torch.equal(regulated(x), create_neuron(name, backend, threshold=1.0)(x))
    for scale in (0.5, 2.0):
        regulated.threshold_scale.fill_(scale)
        plain = create_neuron(name, backend, threshold=scale)
        for got, expected in zip(result(regulated, x), result(plain, x), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@every_neuron
def test_scaling_the_input_is_scaling_the_threshold_where_it_is_said_to_be(name, backend):
    neuron = create_neuron(name, backend, threshold=1.0)
    x = inputs(5, 4, 40)
    same = torch.equal(neuron(x / 2), create_neuron(name, backend, threshold=2.0)(x))  # / 2 is exact
    assert same == neuron.scales_with_input


@every_neuron
def test_regulation_adds_no_parameter_and_survives_copies(name, backend):
    plain, regulated = create_neuron(name, backend), create_neuron("ahsar", backend, base=name)
    assert dict(regulated.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    assert set(regulated.state_dict()) - set(plain.state_dict()) == {"threshold_scale"}
    regulated.threshold_scale.fill_(0.7)
    twin = create_neuron("ahsar", backend, base=name)
    twin.load_state_dict(regulated.state_dict())
    x = inputs(4, 3, 8)
    regulated(x).sum()
    assert torch.equal(copy.deepcopy(regulated)(x), regulated(x))
    assert torch.equal(twin(x), regulated(x))


@every_neuron
def test_half_precision(name, backend):
    neuron = create_neuron("ahsar", backend, base=name)
    x = inputs(4, 3, 8).bfloat16()
    assert neuron(x).dtype == torch.bfloat16
    neuron.threshold_scale.fill_(0.3)
    moved = copy.deepcopy(neuron).to(torch.bfloat16)
    assert moved.threshold_scale.dtype == moved.observed.dtype == torch.float32
    assert moved.threshold_scale == neuron.threshold_scale


@every_neuron
def test_observes_each_training_forward_once(name, backend):
    neuron, x = create_neuron("ahsar", backend, base=name), inputs(4, 3, 8)
    seen = neuron(x).sum().item() / neuron.max_spikes
    assert neuron.observed.tolist() == [pytest.approx(seen), x.numel()]
    neuron(x)
    assert neuron.observed.tolist() == [pytest.approx(2 * seen), 2 * x.numel()]
    neuron.clear_observed()
    neuron.eval()(x)
    with torch.no_grad():
        neuron.train()(x)  # profiling
    assert neuron.observed.tolist() == [0, 0]
