"""A neuron is the same on every backend: the same spikes, and the same gradients to 1e-6 of their size.

Inputs are random, or on a grid of which many membranes land on the threshold exactly, or within one bit of the least
input that makes the neuron fire.
"""

import functools
import itertools
import runpy
from pathlib import Path
from typing import NamedTuple

import pytest
import timm
import torch
from torch.nn import functional as F

import step_ahsar.models  # noqa: F401
from step_ahsar.neurons import (
    SpikingNeuron,
    create_neuron,
    list_backends,
    list_neurons,
    list_surrogates,
    neuron_kind,
)
from step_ahsar.neurons.equations import hard_reset, soft_reset
from step_ahsar.neurons.torch import TorchNeuron

fill = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "golden.py"))["fill"]

OTHERS = [backend for backend in list_backends() if backend != "torch"]
PAIRS = [(name, b) for b in OTHERS for name in list_neurons(b) if name != "ahsar" and name in list_neurons("torch")]
ROUNDED = {  # the same equation in another order of operations: see the modules of these backends
    *itertools.product(("lif", "plif"), ("snntorch", "sinabs")),
    ("cubalif", "sinabs"),
}
RESETS = {"hard": hard_reset, "soft": soft_reset}
DECAYED = ("lif", "plif", "klif", "ternary_lif")  # tau divides the input too

every_pair = pytest.mark.parametrize(("name", "backend"), PAIRS)
each_precision = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])


class Case(NamedTuple):
    inputs: str  # random, grid or edge
    time_steps: int
    options: tuple[tuple[str, object], ...]

    def option(self, name, default):
        return dict(self.options).get(name, default)


def cases(name):
    """Every combination of inputs, time steps, threshold and tau, with every combination of the rest in turn."""
    known = neuron_kind(name).options
    main, rest = (
        {option: values for option, values in choice.items() if option in known}
        for choice in (
            {"threshold": (0.5, 1.0, 2.0), "tau": (2.0, 3.0, 5.5)},
            {
                "surrogate": list_surrogates(),
                "alpha": (None, 1.5),
                "reset": ("hard", "soft"),
                "detach_reset": (True, False),
                "channels": (None, 5),
            },
        )
    )
    in_turn = itertools.cycle(itertools.product(*rest.values()))
    kinds = ("random", "grid") if name.endswith("psn") else ("random", "grid", "edge")
    again = range(1 if "tau" in main else 3)
    for kind, time_steps, *chosen, _ in itertools.product(kinds, (1, 2, 4, 9), *main.values(), again):
        options = dict(zip((*main, *rest), (*chosen, *next(in_turn)), strict=True))
        if "time_steps" in known:
            options["time_steps"] = time_steps
        yield Case(kind, time_steps, tuple(options.items()))


def make(name, backend, case, regulated=False):
    """The neuron; learnt parameters are moved away from where they start, for a grid to a grid."""
    torch.manual_seed(0)
    base = {"base": name} if regulated else {}
    neuron = create_neuron("ahsar" if regulated else name, backend, **base, **dict(case.options))
    with torch.no_grad():
        for parameter in neuron.parameters():
            if case.inputs == "random":
                parameter.add_(torch.randn_like(parameter) / 10)
            elif name.endswith("psn"):
                parameter.copy_(torch.where(parameter < 0, -0.5, 0.5) * (parameter.abs() * 2).ceil())
    return neuron


def inputs(name, case):
    """[T, B, C] in fp32."""
    generator = torch.Generator().manual_seed(1)
    shape, unit = (case.time_steps, 4, 5), case.option("threshold", 1.0)
    if name in DECAYED:
        unit *= case.option("tau", 1.0)
    if case.inputs == "random":
        return torch.randn(shape, generator=generator) * 2 * unit
    if case.inputs == "grid":
        return torch.randint(-4, 9, shape, generator=generator) * (unit / 4)
    bits = torch.randint(-1, 2, shape, generator=generator, dtype=torch.int32)
    what_counts = ("threshold", "tau", "time_steps", "channels")
    least = least_input(name, case.time_steps, tuple((o, v) for o, v in case.options if o in what_counts))
    return (least.view(torch.int32) + bits).view(torch.float32)


@functools.cache
def least_input(name, time_steps, options):
    """The least inputs that make the neurons fire in the first time step, [C] in fp32, by bisection over their bits."""
    neuron = make(name, "torch", Case("edge", time_steps, options))
    low, high = torch.zeros(5, dtype=torch.int32), torch.full((5,), 1000.0).view(torch.int32)
    while (low + 1 < high).any():
        middle = low + (high - low) // 2
        x = torch.zeros(time_steps, 1, 5)
        x[0] = middle.view(torch.float32)
        fires = neuron(x)[0, 0] > 0
        low, high = torch.where(fires, low, middle), torch.where(fires, middle, high)
    return high.view(torch.float32)


def run(neuron, x):
    """Spikes, then the gradients of x and of the learnt parameters, for a random gradient of the spikes."""
    x = x.clone().requires_grad_()
    spikes = neuron(x)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    return spikes.detach(), torch.autograd.grad((spikes * weight).sum(), [x, *neuron.parameters()])


@functools.cache
def wanted(name, case, dtype=torch.float32):
    return run(make(name, "torch", case).to(dtype), inputs(name, case).to(dtype))


def error(got, expected, x):
    """The largest difference as a part of the gradient's size; a sum that may cancel out has the size of its terms."""
    of_x, *learnt = expected
    terms = max(float(v) for v in ((of_x * x).abs().sum(), of_x.abs().sum(), *(g.abs().max() for g in learnt)))
    sizes = [float(of_x.abs().max()), *[terms] * len(learnt)]
    return max(float((a - b).abs().max()) / max(size, 1e-30) for a, b, size in zip(got, expected, sizes, strict=True))


@functools.cache
def fixed(name, backend):
    """The options that the backend has in one value only."""
    sizes = (("time_steps", 1),) if "time_steps" in neuron_kind(name).options else ()
    return getattr(make(name, backend, Case("random", 1, sizes)), "fixed", {})


def has_options(name, backend, case):
    return all(case.option(option, value) == value for option, value in fixed(name, backend).items())


def has_ties(name, backend, case):
    """Whether both compute the last bit alike: always, or for a leak of a half on a grid of powers of two."""
    return (name, backend) not in ROUNDED or (case.inputs == "grid" and case.option("tau", 2.0) == 2.0)


@each_precision
@every_pair
def test_spikes_and_gradients(name, backend, dtype):
    compared, worst = 0, 0.0
    for case in cases(name):
        if not has_options(name, backend, case) or not (case.inputs == "random" or has_ties(name, backend, case)):
            continue
        if dtype == torch.float64 and case.time_steps != 4:
            continue
        x = inputs(name, case).to(dtype)
        spikes, gradients = run(make(name, backend, case).to(dtype), x)
        wanted_spikes, wanted_gradients = wanted(name, case, dtype)
        assert torch.equal(spikes, wanted_spikes), f"{int((spikes != wanted_spikes).sum())} spikes differ: {case}"
        worst = max(worst, error(gradients, wanted_gradients, x))
        compared += 1
    assert compared >= 6
    assert worst < (5e-6 if (name, backend) in ROUNDED else 1e-6)


@pytest.mark.parametrize("name", sorted({name for name, _ in PAIRS}))
def test_there_are_ties(name):
    """A threshold larger by two bits changes spikes: some membranes were on the threshold."""
    changed = 0
    for case in cases(name):
        if case.inputs != "random":
            neuron = make(name, "torch", case, regulated=True)
            neuron.threshold_scale.fill_(1 + 2**-22)
            changed += int((neuron(inputs(name, case)) != wanted(name, case)[0]).sum())
    assert changed


@pytest.mark.parametrize(("name", "backend"), sorted(pair for pair in ROUNDED if pair[0] != "cubalif"))
def test_rounding_is_all_that_differs(name, backend):
    """For a leak of a third on a grid: the first spike that differs hangs on the last bits of a membrane."""
    different = 0
    for reset in ("hard", "soft"):
        case = Case("grid", 9, (("tau", 3.0), ("reset", reset)))
        if not has_options(name, backend, case):
            continue
        x = torch.randint(-16, 33, (9, 100, 100), generator=torch.Generator().manual_seed(1)) * (3 / 16)
        neuron = make(name, "torch", case)
        spikes = neuron(x).detach()
        leak = neuron.w.detach().sigmoid() if name == "plif" else 1 / neuron.tau
        v, membranes = torch.zeros_like(x[0]), []
        for step, s in zip(x, spikes, strict=True):
            v = v + (step - v) * leak
            membranes.append(v)
            v = RESETS[reset](v, s, torch.tensor(1.0))
        differs = make(name, backend, case)(x).detach() != spikes
        first = differs & (differs.cumsum(0) == 1)
        assert ((torch.stack(membranes)[first] - 1).abs() < 1e-6).all()
        different += int(first.sum())
    assert different < 100  # of 10 000 neurons over 9 time steps
    assert different or name == "lif"


# -- whole models ------------------------------------------------------------------------------------------------------


def build(model, neuron, backend):
    """The model, and the spikes of each layer to come."""
    base = {} if neuron == "lif" else {"base": neuron.removeprefix("ahsar ")}
    torch.manual_seed(0)
    net = timm.create_model(
        model, num_classes=7, img_size=16, time_steps=4, neuron=neuron.split()[0], backend=backend, **base
    )
    spikes = []
    for module in net.modules():
        if isinstance(module, SpikingNeuron):
            module.register_forward_hook(lambda _, __, out: spikes.append(out.detach()))
    return net, spikes


@functools.cache
def state_dict(model, neuron):
    """Weights with which every layer is active, and threshold scales from 0.4 to 1.6."""
    net, _ = build(model, neuron, "torch")
    fill(net)
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, SpikingNeuron) and module.threshold_scale is not None:
            module.threshold_scale.copy_(torch.rand((), generator=generator) * 1.2 + 0.4)
    return net.state_dict()


def outputs(model, neuron, backend, dtype):
    """In eval and in training mode: logits, spikes of every layer, gradients by name."""
    for training in (False, True):
        net, spikes = build(model, neuron, backend)
        net.load_state_dict(state_dict(model, neuron))
        x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(3), dtype=dtype)
        logits = net.to(dtype).train(training)(x)
        F.cross_entropy(logits, torch.arange(3)).backward()
        # a bias in front of a batch norm has no gradient in training, only the noise of rounding
        gradients = {n: p.grad for n, p in net.named_parameters() if not (training and n.endswith("conv.bias"))}
        yield logits.detach(), spikes, gradients


@functools.cache
def wanted_outputs(model, neuron, dtype):
    return list(outputs(model, neuron, "torch", dtype))


def compare(model, neuron, backend, dtype, tolerance):
    pairs = zip(outputs(model, neuron, backend, dtype), wanted_outputs(model, neuron, dtype), strict=True)
    for (logits, spikes, gradients), (wanted_logits, wanted_spikes, wanted_gradients) in pairs:
        assert all(0 < s.mean() < 1 for s in spikes)
        assert sum(int((a != b).sum()) for a, b in zip(spikes, wanted_spikes, strict=True)) == 0
        assert torch.equal(logits, wanted_logits)
        assert gradients.keys() == wanted_gradients.keys()
        for key, gradient in wanted_gradients.items():
            assert (gradients[key] - gradient).abs().max() <= tolerance * gradient.abs().max(), key


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("model", ["spikformer_2_64", "qkformer_3_64"])
def test_whole_models(model, backend):
    """From one state dict, AHSAR on: the same spikes, logits, and gradients of weights and of time constants."""
    compare(model, "ahsar plif", backend, torch.float64, 5e-6 if backend == "sinabs" else 1e-6)


@pytest.mark.parametrize("neuron", ["lif", "ahsar plif"])
@pytest.mark.parametrize("backend", ["spikingjelly", "braincog"])
@pytest.mark.parametrize("model", ["spikformer_2_64", "qkformer_3_64"])
def test_whole_models_in_fp32(model, backend, neuron, monkeypatch):
    """The same to the bit, where the batch norm is no part of the torch neuron's pass and so rounds as it does alone.

    A time constant's gradient is a sum over a layer in which most cancels out, hence the tolerance.
    """
    monkeypatch.setattr(TorchNeuron, "fuses_norm", False)
    compare(model, neuron, backend, torch.float32, 2e-6 if neuron == "lif" else 5e-5)
