"""What every neuron of the registry keeps, on every backend; own neurons also on the compiled path.

Compiling takes seconds for each number of time steps and for each set of axes of size 1, so the tests that run compiled
share graphs: T = 4, x: [T, B, C, L] without an axis of size 1, and one neuron's tests run in one process.
"""

import copy
import functools
import re

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_backends, list_neurons, list_surrogates, neuron_kind
from step_ahsar.neurons.kernels import compiling

EVERY = [(name, backend) for backend in list_backends() for name in list_neurons(backend) if name != "ahsar"]
COMPILED = [
    pytest.param("compiled", name, backend, marks=pytest.mark.xdist_group(name))
    for name, backend in EVERY
    if backend == "torch"
]
neurons = functools.partial(pytest.mark.parametrize, ("path", "name", "backend"), indirect=["path"])
every_neuron_eager = neurons([("eager", *neuron) for neuron in EVERY])
every_neuron_compiled = neurons(COMPILED)
every_neuron = neurons([("eager", *neuron) for neuron in EVERY] + COMPILED)

OTHER = {  # another value of every option, which must show
    "threshold": 0.6,
    "tau": 5.0,
    "alpha": 0.7,
    "reset": "soft",
    "max_count": 2,
    "current_decay": 0.2,
    "voltage_decay": 0.3,
    "delta_t": 0.5,
    "theta_rh": 0.3,
    "v_rest": 0.2,
    "v_reset": -0.5,
    "a0": 0.5,
    "v_c": 0.5,
    "tau_w": 5.0,
    "a": 0.5,
    "b": 0.5,
    "current": 40.0,
    "dt": 0.5,
    "order": 3,
    "masking": 0.5,
    "surrogate_scale": "theta",
}


@pytest.fixture(autouse=True)
def path(request, monkeypatch):
    """Whether own neurons run eagerly or compiled."""
    if request.param == "compiled" and not compiling._compiler_available("cpu"):
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "1" if request.param == "compiled" else "0")


GIVEN = {
    "tau_w": {"a": 0.5},
    "surrogate_scale": {"threshold": 0.7},
}  # without which an option changes nothing
SIZES = ("time_steps", "channels")  # options that say what the input is


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def make(name, backend, x, regulated=False, **options):
    """A neuron for inputs like x, with the same learnt parameters at each call."""
    known, sizes = neuron_kind(name, backend).options, dict(zip(SIZES, (x.shape[0], *x.shape[2:3]), strict=False))
    options = {size: value for size, value in sizes.items() if size in known} | options
    torch.manual_seed(0)
    if regulated:
        return create_neuron("ahsar", backend, base=name, **options)
    return create_neuron(name, backend, **options)


def result(neuron, x):
    """Spikes and input gradient."""
    x = x.clone().requires_grad_()
    spikes = neuron(x)
    weight = inputs(*x.shape, seed=1)
    (gradient,) = torch.autograd.grad((spikes * weight).sum(), x)
    return spikes.detach(), gradient


def check_shapes_and_values(name, backend, shape):
    x = inputs(*shape)
    if name == "hdlif" and x.ndim == 2:
        with pytest.raises(UserError, match="needs channels"):
            make(name, backend, x)
        return
    neuron = make(name, backend, x)
    spikes, gradient = result(neuron, x)
    assert spikes.shape == gradient.shape == shape
    lowest = -neuron.max_spikes if neuron.signed else 0
    assert ((spikes >= lowest) & (spikes <= neuron.max_spikes)).all()
    assert (spikes < 0).any() == neuron.signed or spikes.numel() < 30
    counts = spikes / neuron.max_spikes * getattr(neuron, "max_count", 1)
    assert torch.equal(counts, counts.round())
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@every_neuron
@pytest.mark.parametrize("shape", [(4, 2, 3, 4), (4, 2, 2, 3, 3)])
def test_shapes_and_values(name, backend, shape):
    check_shapes_and_values(name, backend, shape)


@every_neuron_eager
@pytest.mark.parametrize("shape", [(4, 3), (1, 2, 5), (2, 1, 2, 2, 2, 2), (20, 2, 3)])
def test_other_shapes_and_numbers_of_time_steps(name, backend, shape):
    check_shapes_and_values(name, backend, shape)


@every_neuron_compiled
def test_compiled_and_eager_give_the_same(name, backend, monkeypatch):
    x = inputs(4, 3, 6, 5)
    neuron = make(name, backend, x)
    spikes, gradient = result(neuron, x)
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    expected = result(neuron, x)
    assert torch.equal(spikes, expected[0])
    torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-6)


@every_neuron
def test_too_few_dimensions(name, backend):
    with pytest.raises(UserError, match=r"takes \[T, B, \.\.\.\], got shape \[4\]"):
        make(name, backend, torch.zeros(4, 1, 1))(torch.zeros(4))


@every_neuron
def test_nothing_leaks_between_calls(name, backend):
    x = inputs(4, 3, 6, 2)
    neuron = make(name, backend, x)
    first = neuron(x)
    neuron(inputs(4, 5, 6, 2, seed=3))  # another batch
    assert torch.equal(neuron(x), first)


@every_neuron
def test_a_norm_in_front(name, backend):
    x = inputs(4, 3, 6, 5).double()
    neuron, norm = make(name, backend, x).double(), torch.nn.BatchNorm1d(6, dtype=torch.float64)
    torch.nn.init.uniform_(norm.weight, 1, 3)
    normed = norm(x.flatten(0, 1)).unflatten(0, x.shape[:2]).detach()
    assert torch.equal(neuron(x, norm), neuron(normed))


@every_neuron
def test_inputs_of_another_size_are_refused(name, backend):
    x = inputs(4, 3, 6, 2)
    neuron = make(name, backend, x)
    for size, wrong in (("time_steps", x[1:]), ("channels", x[:, :, 1:])):
        if size in neuron.option_defaults():
            with pytest.raises(UserError, match=f"neuron {name!r} .*got .*{re.escape(str(list(wrong.shape)))}"):
                neuron(wrong)


@every_neuron
def test_batch_invariance(name, backend):
    x = inputs(4, 8, 6, 2)
    neuron = make(name, backend, x)
    if name == "ds_atgo":  # in training its threshold is one of the batch
        neuron(x)
        neuron.eval()
    assert torch.equal(neuron(x)[:, 2:5], neuron(x[:, 2:5]))


def other(neuron, option):
    """Values of an option that the neuron does not have."""
    if option == "surrogate":
        return [s for s in list_surrogates() if s != neuron.surrogate]
    return [not neuron.detach_reset] if option == "detach_reset" else [OTHER[option]]


@every_neuron
def test_every_parameter_gets_a_gradient(name, backend):
    x = inputs(4, 4, 25, 2)
    neuron = make(name, backend, x)
    neuron(x.requires_grad_()).sum().backward()
    for parameter in neuron.parameters():
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).any()


@every_neuron_eager
def test_every_option_reaches_the_neuron(name, backend):
    x = inputs(6, 4, 50)
    neuron = make(name, backend, x)
    for option in neuron_kind(name, backend).options:
        if option in SIZES:
            continue
        given = GIVEN.get(option, {})
        spikes, gradient = result(make(name, backend, x, **given), x)
        if option in getattr(neuron, "fixed", {}):  # the library has no other value
            with pytest.raises(UserError, match=f"{name!r} on backend {backend!r} has {option}=.* only"):
                make(name, backend, x, **{option: other(neuron, option)[0]})
            continue
        for value in other(neuron, option):
            other_spikes, other_gradient = result(make(name, backend, x, **given, **{option: value}), x)
            changed = not torch.equal(spikes, other_spikes), not torch.equal(gradient, other_gradient)
            if option in ("surrogate", "alpha", "detach_reset", "surrogate_scale"):
                assert changed == (False, True), f"{option}={value}: spikes stay, gradients change"
            else:
                assert changed == (True, True), f"{option}={value} changes nothing"


@every_neuron
def test_threshold_scale_is_a_threshold(name, backend):
    x = inputs(4, 4, 20, 2)
    regulated = make(name, backend, x, regulated=True, threshold=1.0)
    assert torch.equal(regulated(x), make(name, backend, x, threshold=1.0)(x))
    for scale in (0.5, 2.0):
        regulated.threshold_scale.fill_(scale)
        plain = make(name, backend, x, threshold=scale)
        for got, expected in zip(result(regulated, x), result(plain, x), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@every_neuron
def test_a_lower_scale_fires_more(name, backend):
    x = inputs(4, 8, 100, 2)
    neuron = make(name, backend, x, regulated=True)
    spikes = []
    for scale in (0.25, 0.5, 0.8, 1.25, 2.0, 4.0):
        neuron.threshold_scale.fill_(scale)
        spikes.append(neuron(x).abs().sum().item())
    assert spikes == sorted(spikes, reverse=True)
    assert spikes[0] > 1.2 * spikes[-1]


@every_neuron
def test_scaling_the_input_is_scaling_the_threshold_where_it_is_said_to_be(name, backend):
    x = inputs(4, 4, 20, 2)
    neuron, other = (make(name, backend, x, threshold=threshold).eval() for threshold in (1.0, 2.0))  # as when folded
    same = torch.equal(neuron(x / 2), other(x))  # / 2 is exact
    assert same == neuron.scales_with_input


@every_neuron
def test_regulation_adds_no_parameter_and_survives_copies(name, backend):
    x = inputs(4, 3, 8, 2)
    plain, regulated = make(name, backend, x), make(name, backend, x, regulated=True)
    assert dict(regulated.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    assert set(regulated.state_dict()) - set(plain.state_dict()) == {"threshold_scale"}
    regulated.threshold_scale.fill_(0.7)
    twin = make(name, backend, x, regulated=True)
    twin.load_state_dict(regulated.state_dict())
    assert torch.equal(copy.deepcopy(regulated)(x), regulated(x))
    assert torch.equal(twin(x), regulated(x))


@every_neuron
def test_half_precision(name, backend):
    x = inputs(4, 3, 8, 2).bfloat16()
    neuron = make(name, backend, x, regulated=True)
    assert neuron(x).dtype == torch.bfloat16
    neuron.start_regulation()
    neuron.threshold_scale.fill_(0.3)
    moved = copy.deepcopy(neuron).to(torch.bfloat16)
    assert moved.threshold_scale.dtype == moved.observed.dtype == torch.float32
    assert moved.threshold_scale == neuron.threshold_scale
    assert moved(x).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert neuron(x.float()).isfinite().all()


@every_neuron
def test_observes_each_training_forward_once(name, backend):
    x = inputs(4, 3, 8, 2)
    neuron = make(name, backend, x, regulated=True)
    assert neuron.observed is None  # without a controller nothing is counted
    neuron.start_regulation()
    seen = neuron(x).abs().sum().item() / neuron.max_spikes
    assert neuron.observed.tolist() == [pytest.approx(seen), x.numel()]
    neuron(x)
    assert neuron.observed.tolist() == [pytest.approx(2 * seen), 2 * x.numel()]
    neuron.clear_observed()
    neuron.eval()(x)
    with torch.no_grad():
        neuron.train()(x)  # profiling
    assert neuron.observed.tolist() == [0, 0]
