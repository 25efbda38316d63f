"""The law: hand arithmetic, and its invariants as properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ahsar.ahsar import AHSARConfig, law
from step_ahsar.ahsar.config import FIRST_LAW
from step_ahsar.errors import UserError

finite = st.floats(-50, 50)
rates = st.floats(0, 1)
vectors = st.lists(finite, min_size=2, max_size=12).map(lambda v: torch.tensor(v, dtype=torch.float64))


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def chain(n):
    """Each layer's neighbour before it, in one group whose layers were all seen."""
    return torch.arange(n) - 1


def test_one_step_by_hand():
    # rates below, in and above the band [0.2, 0.4]; eps 0
    d = law.deviation(f64(0.1, 0.3, 0.8), f64(0.2, 0.2, 0.2), f64(0.4, 0.4, 0.4), 0.0)
    torch.testing.assert_close(d, f64(math.log(1 / 2), 0.0, math.log(2)))
    # tanh(ln 2) = 3/5; leak takes a tenth; a quarter of each difference flows
    h = law.react(f64(0.0, 1.0, 0.0), d, chain(3), k=0.5, leak=0.1, diffusion=0.25)
    torch.testing.assert_close(h, f64(-0.3 + 0.25, 1 - 0.1 - 0.5, 0.3 + 0.25))
    torch.testing.assert_close(law.threshold_scale(f64(0.0, math.inf), f64(1.0, 1.0), math.log(4)), f64(1.0, 4.0))


def test_sensing_starts_from_the_first_observation():
    average = law.sense(f64(0.0, 0.5), f64(0.3, 0.1), torch.tensor([False, True]), eta=0.25)
    torch.testing.assert_close(average, f64(0.3, 0.4))


def test_groups_do_not_mix():
    before = law.nearest_before(torch.ones(4, dtype=torch.bool), torch.tensor([0, 0, 1, 1]))
    assert before.tolist() == [-1, 0, -1, 2]
    h = law.react(f64(1.0, 1.0, -1.0, -1.0), f64(0, 0, 0, 0), before, k=0, leak=0, diffusion=0.25)
    assert torch.equal(h, f64(1.0, 1.0, -1.0, -1.0))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), min_size=1, max_size=12))
def test_neighbours_are_the_nearest_layers_seen_in_the_same_group(layers):
    layers = sorted(layers, key=lambda layer: layer[1])
    seen, group = (torch.tensor(column) for column in zip(*layers, strict=True))
    expected = [
        max((j for j in range(i) if seen[j] and group[j] == group[i]), default=-1) if seen[i] else -1
        for i in range(len(layers))
    ]
    assert law.nearest_before(seen, group).tolist() == expected


def test_layers_that_were_not_seen_are_passed_over():
    before = law.nearest_before(torch.tensor([True, False, True]), torch.zeros(3, dtype=torch.int64))
    h = law.react(f64(1.0, 9.0, 0.0), f64(0, 0, 0), before, k=0, leak=0, diffusion=0.25)
    assert torch.equal(h, f64(0.75, 9.0, 0.25))


def test_energy_is_a_mean_over_the_layers_seen():
    seen, group = torch.tensor([True, False, True, False]), torch.tensor([0, 0, 0, 1])
    assert law.mean_by_group(f64(1.0, 100.0, 4.0, 100.0), seen, group, 2).tolist() == [2.5, 0.0]


@given(vectors, st.floats(0, 0.25))
def test_diffusion_keeps_the_mean_and_shrinks_the_spread(h, diffusion):
    """Invariant 4."""
    after = law.react(h, torch.zeros_like(h), chain(len(h)), k=0.0, leak=0.0, diffusion=diffusion)
    assert after.mean().item() == pytest.approx(h.mean().item(), abs=1e-9)
    assert after.max() <= h.max() + 1e-9
    assert after.min() >= h.min() - 1e-9
    assert after.std() <= h.std() + 1e-9


@given(rates, st.floats(0.01, 0.5), st.floats(0.01, 0.49))
def test_silent_falls_saturated_rises_in_band_stays(rate, low, width):
    """Invariant 4."""
    low, high = f64(low), f64(low + width)
    d = law.deviation(f64(rate), low, high, eps=1e-3)
    h = law.react(f64(0.0), d, chain(1), k=0.2, leak=0.02, diffusion=0.05)
    scale = law.threshold_scale(h, f64(1.0), math.log(4)).item()
    assert scale == 1 if low <= rate <= high else (scale < 1) == (rate < low)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), st.floats(0, 2), st.floats(0, 2))
def test_scale_stays_in_its_bounds(h, gamma, a):
    """Invariant 3, for any state."""
    scale = law.threshold_scale(torch.tensor(h), torch.tensor(gamma), a)
    bound = math.exp(a * gamma) * (1 + 1e-6)
    assert ((scale >= 1 / bound) & (scale <= bound)).all()


@pytest.mark.parametrize("gain", ["exponent", "threshold"])
@given(st.floats(-3, 3), st.floats(0.1, 2))
def test_state_of_scale_inverts(gain, h, gamma):
    gamma = f64(gamma)
    scale = law.threshold_scale(f64(h), gamma, 1.0, gain)
    torch.testing.assert_close(law.state_of_scale(scale, gamma, 1.0, gain), f64(h), rtol=1e-6, atol=1e-6)


def test_where_the_gain_acts():
    h, gamma = f64(0.0, 0.0, 1.0), f64(0.5, 2.0, 2.0)
    up = math.log(4) * math.tanh(1)
    torch.testing.assert_close(law.threshold_scale(h, gamma, math.log(4)), f64(1, 1, math.exp(2 * up)))
    torch.testing.assert_close(law.threshold_scale(h, gamma, math.log(4), "threshold"), f64(0.5, 2, 2 * math.exp(up)))


@given(st.floats(0.5, 2), st.floats(0, 1e3), st.floats(-1, 1))
def test_gain_stays_in_its_bounds_and_falls_with_progress(gamma, energy, progress):
    new = law.slow_gain(f64(gamma), f64(energy), progress, 0.05, 0.5, 2.0)
    assert 0.5 <= new.item() <= 2.0
    better = law.slow_gain(f64(gamma), f64(energy), min(1.0, progress + 0.5), 0.05, 0.5, 2.0)
    assert better <= new


def test_gain_by_hand():
    # no energy, full progress: exp(-mu); much energy, no progress: exp(mu)
    gains = law.slow_gain(f64(1.0, 1.0), f64(0.0, 1e9), 0.0, 0.1, 0.5, 2.0)
    torch.testing.assert_close(gains, f64(1.0, math.exp(0.1)))
    torch.testing.assert_close(law.slow_gain(f64(1.0), f64(0.0), 1.0, 0.1, 0.5, 2.0), f64(math.exp(-0.1)))


@settings(max_examples=30)
@given(st.floats(0.05, 20.0))
def test_closed_loop_settles_in_the_band_from_any_threshold(theta):
    """Layers whose rate falls with the threshold, rate = exp(-threshold): the loop brings them to the band."""
    config = AHSARConfig(**{**FIRST_LAW, "a": math.log(30)})
    low, high = (f64(edge) for edge in config.band_of("mlp"))
    h, average = f64(0.0), f64(0.0)
    for i in range(400):
        rate = torch.exp(-theta * law.threshold_scale(h, f64(1.0), config.a))
        average = law.sense(average, rate, torch.tensor([i > 0]), config.eta)
        d = law.deviation(average, low, high, config.eps)
        h = law.react(h, d, chain(1), config.k, config.leak, config.diffusion)
    assert 0.15 <= rate.item() <= 0.5


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"eta": 0.0}, r"ahsar\.eta must be in"),
        ({"diffusion": 0.3}, r"ahsar\.diffusion must be in \[0, 0\.25\]"),
        ({"k": math.nan}, r"ahsar\.k must be in"),
        ({"band": (0.4, 0.2)}, r"ahsar\.band must be \[lo, hi\]"),
        ({"band": {"mlp": (0.2, 1.5)}}, r"ahsar\.band of group 'mlp'"),
        ({"gamma_min": 3.0}, r"ahsar\.gamma_m"),
        ({"centre": "layer"}, r"ahsar\.centre must be band or layers, got 'layer'"),
        ({"gain": "both"}, r"ahsar\.gain must be exponent or threshold, got 'both'"),
        ({"gain": "threshold", "gamma_min": 0.0}, r"ahsar\.gamma_min must be > 0, got 1.0 and 0.0"),
    ],
)
def test_constants_out_of_range(constants, message):
    with pytest.raises(UserError, match=message):
        AHSARConfig(**constants)


def test_bands_by_group():
    config = AHSARConfig(band={"mlp": (0.1, 0.2)})
    assert config.band_of("mlp") == (0.1, 0.2)
    assert config.band_of("stem") == AHSARConfig().band
