"""Every neuron against its paper's equation written a second time, and what must come out in special cases."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch.utils.checkpoint import checkpoint

from step_ahsar import ranks
from step_ahsar.neurons import create_neuron, equations, list_neurons, neuron_kind
from step_ahsar.neurons.kernels import heaviside

from . import references

BASIC = {"ahsar", "if", "lif", "plif", "hodgkin_huxley"}  # in test_equations_by_hand.py, or below
OPTIONS = {"izhikevich": {"a": 0.5, "b": 0.25}}
CASES = [(name, {}) for name in list_neurons("torch") if name not in {*BASIC, "hdlif"}]
CASES += [(name, {"channels": 3}) for name in ("glif", "hdlif", "rouser")]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def create(name, time_steps=4, **options):
    """A neuron in float64, all its parameters moved away from where they start."""
    sizes = {"time_steps": time_steps} if "time_steps" in neuron_kind(name).options else {}
    torch.manual_seed(0)
    neuron = create_neuron(name, **{**sizes, **OPTIONS.get(name, {}), **options}).double()
    with torch.no_grad():
        for parameter in neuron.parameters():
            parameter += 0.3 * torch.rand_like(parameter)
    return neuron


def drive(neuron, value, time_steps):
    """Spikes of one neuron under a constant input."""
    return neuron(torch.full((time_steps, 1), value, dtype=torch.float64))[:, 0].tolist()


@pytest.mark.parametrize("time_steps", [1, 2, 4, 9, 19])
@pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_equals_the_paper(name, options, time_steps):
    neuron, x = create(name, time_steps, **options), draw(time_steps, 5, 3, 4, 2)
    weight = draw(*x.shape, seed=1)
    results = []
    for run in (neuron, lambda x: getattr(references, name)(x, neuron)):
        x.requires_grad_()
        spikes = run(x)
        results.append([spikes, *torch.autograd.grad((spikes * weight).sum(), [x, *neuron.parameters()])])
    (ours, *gradients), (expected, *wanted) = results
    assert torch.equal(ours, expected)
    assert ours.abs().mean() < neuron.max_spikes
    assert ours.any() or time_steps == 1
    for gradient, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, want, rtol=1e-9, atol=1e-9)


# -- leaky -------------------------------------------------------------------------------------------------------------


def test_klif_is_lif_for_positive_inputs_at_k_1():
    x = draw(9, 50).abs()
    assert torch.equal(create_neuron("klif")(x), create_neuron("lif")(x))


def test_clif_resets_deeper_the_more_it_fires():
    # 4 fires: m = 1, v = 4 - 1 - sigma(1); then half of that + 4 fires: m = sigma(v/2) + 1
    one, four = torch.tensor(1.0), torch.tensor(4.0)
    v = m = torch.tensor(0.0)
    parameters = {"threshold": one, "tau": torch.tensor(2.0), "fire": heaviside, "reset": equations.soft_reset}
    s, v, m = equations.clif_step(four, v, m, **parameters)
    assert (s, m) == (1, 1)
    assert v.item() == pytest.approx(3 - 1 / (1 + math.exp(-1)))
    charged = v.item() / 2 + 4
    s, v, m = equations.clif_step(four, v, m, **parameters)
    assert m.item() == pytest.approx(1 / (1 + math.exp(-charged / 2)) + 1)
    assert v.item() == pytest.approx(charged - 1 - 1 / (1 + math.exp(-m.item())))


def test_cubalif_fires_on_the_current_that_an_input_leaves():
    # c: 0.4 0.2 0.1; v: 0.4, 0.3 + 0.2 = 0.5 fires on the tie, 0 + 0.1
    x = torch.tensor([0.4, 0.0, 0.0]).view(3, 1)
    assert create_neuron("cubalif")(x)[:, 0].tolist() == [0, 1, 0]


# -- whole numbers -----------------------------------------------------------------------------------------------------


def test_integer_values_by_hand():
    # v = 2.75 -> 3, keeps -0.25; /4 + 9.0 -> 4 at most, keeps 4.9375; /4 + 0 = 1.234 -> 1; 0.06 - 3 -> 0
    x = torch.tensor([2.75, 9.0, 0.0, -3.0]).view(4, 1)
    assert create_neuron("ilif")(x)[:, 0].tolist() == [3, 4, 1, 0]
    assert create_neuron("nilif")(x)[:, 0].tolist() == [0.75, 1, 0.25, 0]
    assert create_neuron("ilif", threshold=2.0)(2 * x)[:, 0].tolist() == [3, 4, 1, 0]
    assert create_neuron("ilif", max_count=2)(x)[0].item() == 2


def test_integer_rates_are_of_the_most_that_is_possible():
    x = torch.full((1, 2, 3), 3.0)
    for name in ("ilif", "nilif"):
        neuron = create_neuron(name)
        neuron.start_regulation()
        neuron(x)
        assert neuron.observed.tolist() == [6 * 3 / 4, 6]


# -- gated -------------------------------------------------------------------------------------------------------------


def test_glif_at_the_ends_of_its_gates():
    neuron, x = create("glif", threshold=0.7), draw(4, 30)
    ends = {"gate_decay": 50.0, "gate_input": -50.0, "gate_reset": 50.0, "decay": 0.0, "level": 0.0}
    for name, value in ends.items():
        getattr(neuron, name).data.fill_(value)
    # decay by half, plain input, hard reset: LTMD's membrane with tau 2
    assert torch.equal(neuron(x), create("ltmd", tau=2.0, threshold=0.7).requires_grad_(False).apply(reset_k)(x))
    neuron.gate_decay.data.fill_(-50.0)
    neuron.gate_reset.data.fill_(-50.0)
    neuron.leak.data.fill_(-50.0)
    neuron.subtract.data.fill_(0.0)  # no decay, reset by the threshold: IF
    assert torch.equal(neuron(x), create_neuron("if", threshold=0.7, reset="soft")(x))


def reset_k(module):
    module.k.fill_(0.5)


def test_glif_starts_as_published():
    neuron = create_neuron("glif", time_steps=4, channels=5)
    starts = {"decay": 0.25, "leak": 0.5 / 8, "subtract": 0.5, "level": 0.5, "conductance": 0.5}
    for name, value in starts.items():
        torch.testing.assert_close(getattr(neuron, name).sigmoid(), torch.full_like(getattr(neuron, name), value))
    for gate in (neuron.gate_decay, neuron.gate_input, neuron.gate_reset):
        assert gate.abs().max() <= 0.1
        assert len(gate.unique()) == 5


def test_hdlif_keeps_the_best_two_experts_in_inference():
    neuron, x = create("hdlif", 4, channels=3).eval(), draw(4, 6, 3, 7)
    assert torch.equal(neuron(x), references.hdlif(x, neuron))
    gates = neuron.gates(x)
    assert ((gates > 0).sum(0) == 2).all()
    torch.testing.assert_close(gates.sum(0), torch.ones(6, 1, 7, dtype=torch.float64))
    assert not torch.equal(neuron(x), neuron.train()(x))


def test_hdlif_does_not_take_rest_for_a_spike():
    neuron = create_neuron("hdlif", time_steps=2, channels=1)
    assert neuron(torch.zeros(2, 3, 1)).sum() == 0


# -- parallel ----------------------------------------------------------------------------------------------------------


def test_masks():
    weight = torch.ones(4, 4)
    assert equations.masked_psn_weight(weight, 2, 1.0).tolist() == [
        [1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1],
    ]  # fmt: skip
    assert torch.equal(equations.masked_psn_weight(weight, 2, 0.0), weight)
    assert equations.masked_psn_weight(weight, 1, 0.25)[0].tolist() == [1, 0.75, 0.75, 0.75]
    assert equations.sliding_psn_weight(torch.tensor([1.0, 2.0, 3.0]), 4).tolist() == [
        [3, 0, 0, 0], [2, 3, 0, 0], [1, 2, 3, 0], [0, 1, 2, 3],
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["masked_psn", "sliding_psn"])
def test_masked_parallel_neurons_are_causal(name):
    neuron, x = create(name, 6, order=3), draw(6, 500)
    changed = torch.cat([x[:4], draw(2, 500, seed=5)])
    assert torch.equal(neuron(x)[:4], neuron(changed)[:4])
    assert not torch.equal(neuron(x)[4:], neuron(changed)[4:])


def test_sliding_psn_starts_as_published():
    assert create_neuron("sliding_psn", order=4).weight.tolist() == [0.125, 0.25, 0.5, 1.0]


# -- excitable ---------------------------------------------------------------------------------------------------------


def test_izhikevich_in_mv_is_his_regular_spiking_neuron():
    """Izhikevich 2003, a = 0.02, b = 0.2, c = -65, d = 8 under 10 units of current, in steps of half a ms."""
    v, u, expected = -65.0, -13.0, []
    for t in range(2000):
        v += 0.5 * (0.04 * v * v + 5 * v + 140 - u + 10)
        u += 0.5 * 0.02 * (0.2 * v - u)
        if v >= 30:
            v, u = -65.0, u + 8
            expected.append(t)
    low, high = ((-5 + sign * math.sqrt(25 - 4 * 0.04 * 140)) / 0.08 for sign in (-1, 1))
    offset = 0.2 * low  # u = w + offset
    neuron = create_neuron(
        "izhikevich", threshold=30.0, tau=2.0, a0=0.04, v_rest=low, v_c=high, v_reset=-65.0, tau_w=100.0, a=0.2, b=8.0
    ).double()
    x = torch.full((2000, 1), 10.0 - offset, dtype=torch.float64)
    start = torch.tensor([[-65.0], [-13.0 - offset]], dtype=torch.float64)
    spikes, _ = neuron.stream(x, tuple(start))
    times = spikes[:, 0].nonzero()[:, 0].tolist()
    assert times == expected
    intervals = np.diff(times) / 2
    assert 15 <= len(times) <= 40
    assert intervals[-1] > 1.2 * intervals[0]  # it adapts


def test_rheobase():
    """Zeros: v (v - 0.8) + x has none for x > 0.16, exp(v - 0.8) - v + x none for x > -0.2. Then they fire."""
    for name, rheobase in (("qif", 0.16), ("eif", -0.2)):
        assert sum(drive(create_neuron(name), rheobase - 0.01, 300)) == 0
        assert sum(drive(create_neuron(name), rheobase + 0.01, 300)) > 2


def test_hodgkin_huxley_rests():
    known = [-65, 0.0529, 0.5961, 0.3177]
    assert list(equations.HH_REST) == pytest.approx(known, abs=1e-4)
    neuron = create_neuron("hodgkin_huxley").double()
    spikes, (v, *gates) = neuron.stream(torch.zeros(200, 1, dtype=torch.float64))
    assert spikes.sum() == 0
    assert v.item() == pytest.approx(-65, abs=0.01)
    assert [g.item() for g in gates] == pytest.approx(equations.HH_REST[1:], abs=1e-3)


def hodgkin_huxley(t, y, current):
    """The equations of 1952 in their own letters: V displaced from rest, and its rates."""
    V, m, h, n = y[0] + 65, *y[1:]
    rates = {
        "m": (0.1 * (25 - V) / np.expm1((25 - V) / 10), 4 * np.exp(-V / 18)),
        "h": (0.07 * np.exp(-V / 20), 1 / (np.exp((30 - V) / 10) + 1)),
        "n": (0.01 * (10 - V) / np.expm1((10 - V) / 10), 0.125 * np.exp(-V / 80)),
    }
    flows = [a * (1 - y) - b * y for (a, b), y in zip(rates.values(), (m, h, n), strict=True)]
    return [current - 120 * m**3 * h * (V - 115) - 36 * n**4 * (V + 12) - 0.3 * (V - 10.613), *flows]


@pytest.mark.parametrize("current", [3.0, 10.0, 20.0])
def test_hodgkin_huxley_spikes_when_the_equations_do(current):
    def rises(t, y, *_):
        return y[0]

    rises.direction = 1
    solution = solve_ivp(
        hodgkin_huxley, (0, 60), equations.HH_REST, args=(current,), events=rises, rtol=1e-8, atol=1e-8
    )
    expected = solution.t_events[0]
    times = np.flatnonzero(drive(create_neuron("hodgkin_huxley"), current / 20, 60))
    assert len(times) == len(expected) == {3.0: 1, 10.0: 4, 20.0: 6}[current]
    assert np.abs(times + 0.5 - expected).max() < 1  # the time step holds the spike, or the next one does


def test_hodgkin_huxley_takes_any_input():
    neuron, x = create_neuron("hodgkin_huxley"), (100 * draw(6, 40).float()).requires_grad_()
    spikes = neuron(x)
    spikes.sum().backward()
    assert spikes.isfinite().all()
    assert x.grad.isfinite().all()


# -- surrogates whose width follows the threshold ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["if", "lif", "plif", "klif", "cubalif", "ternary_lif"])
@pytest.mark.parametrize("normed", [False, True])
def test_with_surrogates_on_relative_membranes_only_the_relative_input_counts(name, normed):
    """Input and threshold times 4 give these neurons the same spikes, and a quarter of the gradient."""
    found = []
    for scale in (1.0, 4.0):
        neuron = create_neuron(name, threshold=0.5, surrogate_scale="theta").double()
        neuron.start_regulation()
        neuron.threshold_scale.fill_(scale)
        norm = torch.nn.BatchNorm1d(3).double() if normed else None
        if normed:
            torch.nn.init.constant_(norm.weight, scale)
        x = (draw(4, 8, 3) if normed else draw(4, 8, 3) * scale).requires_grad_()
        spikes = neuron(x, norm)
        (gradient,) = torch.autograd.grad((spikes * draw(4, 8, 3, seed=1)).sum(), x)
        found.append((spikes, gradient if normed else gradient * scale))
    assert found[0][0].any()
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1])


# -- thresholds that are learnt ----------------------------------------------------------------------------------------


def test_silent_neurons_are_roused():
    """More spikes wanted: gradient descent lowers the thresholds until there are some."""
    x = draw(4, 8, 3, 5).abs().float()
    for name in ("rouser", "ltmd"):
        neuron = create_neuron(name, threshold=8.0, surrogate="atan")
        before = neuron(x).sum()
        optimizer = torch.optim.Adam(neuron.parameters(), lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            (neuron(x).mean() - 0.5).square().backward()
            optimizer.step()
        assert before < 5 < 20 < neuron(x).sum()


def test_where_learnt_thresholds_start():
    x = torch.zeros(2, 2, 3)
    assert create_neuron("rouser", threshold=0.7).scaled_threshold(x).item() == pytest.approx(0.7)
    assert create_neuron("rouser", threshold=0.7, channels=3).scaled_threshold(x).shape == (3, 1)
    assert create_neuron("ltmd").scaled_threshold(x).item() == pytest.approx(math.tanh(0.5))
    assert create_neuron("ltmd", threshold=2.0).scaled_threshold(x).item() == pytest.approx(2.0)
    assert create_neuron("trsg").scaled_threshold(x).item() == pytest.approx(2.0)
    assert create_neuron("trsg", threshold=100.0).scaled_threshold(x).item() == pytest.approx(100.0)


def test_trsg_with_a_norm_behind_learns_as_with_the_papers_factor():
    """The paper multiplies spikes by the threshold. A norm behind the next layer cancels that, in gradients too."""
    neuron, x = create("trsg"), draw(4, 8, 6).requires_grad_()
    weight, target = draw(5, 6, seed=1), draw(4, 8, 5, seed=2)
    theta = neuron.scaled_threshold(x)
    found = []
    for spikes in (neuron(x), theta * neuron(x)):
        y = (spikes @ weight.T).flatten(0, 1)
        normed = (y - y.mean(0)) / y.std(0)
        found.append(torch.autograd.grad((normed.view_as(target) * target).sum(), [x, neuron.k, neuron.w]))
    assert found[0][1] != 0
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


# -- thresholds that follow the membranes ------------------------------------------------------------------------------


def test_ds_atgo_by_hand():
    neuron = create_neuron("ds_atgo", time_steps=2, surrogate="rectangle")
    x = torch.tensor([[[0.0], [2.0]], [[1.0], [1.0]]], requires_grad=True)  # [T, B, C]
    # Step 1: membranes 0 and 2, mean 1, deviation sqrt(2): nobody reaches 2.41, and the width is 1 + tanh(0.41) = 1.39,
    # so that a membrane passes gradients within 0.7 of the threshold. Step 2: membranes 1 and 1.4, mean 1.2, deviation
    # 0.28: nobody reaches 1.48, the width is 1 + tanh(-0.72) = 0.385. The reset of the membrane of 2 loses 2 ds.
    spikes = neuron(x)
    assert not spikes.any()
    (gradient,) = torch.autograd.grad(spikes.sum(), x)
    deviation = math.sqrt(2)
    first, second = (1 / (1 + math.tanh(each - 1)) for each in (deviation, 0.2 * deviation))
    expected = [[[0.0], [first + 0.2 * (1 - 2 * first) * second]], [[0.0], [second]]]
    torch.testing.assert_close(gradient, torch.tensor(expected))
    level = [0.9 + 0.1 * (1 + deviation), 0.9 + 0.1 * (1.2 + 0.2 * deviation)]
    torch.testing.assert_close(neuron.level, torch.tensor(level))
    torch.testing.assert_close(neuron.spread, torch.tensor([0.9 + 0.1 * deviation, 0.9 + 0.02 * deviation]))
    x = torch.tensor([[[1.15], [1.13]], [[0.0], [0.85]]])  # thresholds 1.14 and 1.048, the last membrane 1.076
    assert neuron.eval()(x).flatten().tolist() == [1, 0, 0, 1]
    assert neuron.level.tolist() == pytest.approx(level)


def test_ds_atgo_on_several_processes_has_the_threshold_of_the_joined_batch(monkeypatch):
    neuron, x = create("ds_atgo"), draw(4, 5, 3)
    joined = neuron(torch.cat([x, x], 1))
    level = neuron.level.clone()
    monkeypatch.setattr(ranks, "total", lambda value: 2 * value)  # as if another process had the same inputs
    other = create("ds_atgo")
    assert torch.equal(other(x), joined[:, :5])
    torch.testing.assert_close(other.level, level)


def test_ds_atgo_averages_once_where_activations_are_recomputed():
    neuron, x = create("ds_atgo"), draw(4, 5, 3).requires_grad_()
    checkpoint(neuron, x, use_reentrant=False).sum().backward()
    level = neuron.level.clone()
    twin = create("ds_atgo")
    twin(x)
    assert torch.equal(twin.level, level)
