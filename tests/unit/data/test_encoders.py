"""Each encoder's defining property."""

from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.data.encoders import ENCODERS, encode, phase_weights
from step_ahsar.errors import UserError

SPIKING = [name for name in ENCODERS if name != "direct"]
PIXELS = torch.arange(256) / 255  # all that an 8-bit image holds
values = st.floats(0, 1, width=32)
lengths = st.integers(1, 20)


def spikes_of(x, name, time_steps):
    """The train of one value, as a list."""
    return encode(torch.tensor([x]), name, time_steps, None)[:, 0].tolist()


@pytest.mark.parametrize("name", SPIKING)
@pytest.mark.parametrize("time_steps", [1, 2, 4, 11])
@pytest.mark.parametrize("shape", [(1,), (3, 7), (2, 5, 6)])
def test_spikes_are_zeros_and_ones_in_the_shape_of_the_input(name, time_steps, shape):
    spikes = encode(torch.rand(shape), name, time_steps, None)
    assert spikes.shape == (time_steps, *shape)
    assert spikes.dtype == torch.float32
    assert set(spikes.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("name", SPIKING)
def test_black_never_fires_and_white_does(name):
    assert encode(torch.zeros(1, 2, 2), name, 8, None).sum() == 0
    assert (encode(torch.ones(1, 2, 2), name, 8, None).sum(0) > 0).all()


@pytest.mark.parametrize("name", SPIKING)
def test_brighter_never_means_fewer_spikes_or_a_later_first_one(name):
    spikes = encode(PIXELS, name, 12, torch.Generator().manual_seed(0))
    if name in ("delta", "burst"):
        assert (spikes.sum(0).diff() >= 0).all()
    if name in ("delta", "burst", "ttfs"):
        first = torch.where(spikes.any(0), spikes.argmax(0), 12)
        assert (first.diff() <= 0).all()


def test_direct_shows_the_values_at_every_step():
    assert set(ENCODERS) == {"direct", *SPIKING}
    assert torch.equal(encode(PIXELS, "direct", 3, None), PIXELS.expand(3, *PIXELS.shape))


def test_rates_converge_to_intensity():
    x = torch.linspace(0, 1, 11)
    spikes = encode(x, "rate", 40_000, torch.Generator().manual_seed(0))
    deviation = (x * (1 - x) / 40_000).sqrt()
    assert ((spikes.mean(0) - x).abs() <= 4 * deviation).all()
    # steps are independent of each other
    centred = spikes - spikes.mean(0)
    assert ((centred[1:] * centred[:-1]).mean(0).abs() < 4 * 0.25 / 200).all()


def test_rate_draws_from_its_generator():
    x = torch.rand(3, 8, 8)
    first, again = (encode(x, "rate", 4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, encode(x, "rate", 4, torch.Generator().manual_seed(6)))
    state = torch.get_rng_state()
    encode(x, "rate", 4, torch.Generator())
    for name in set(ENCODERS) - {"rate"}:
        encode(x, name, 4, None)
    assert torch.equal(state, torch.get_rng_state())


def test_ttfs_by_hand():
    # T = 5: round((1 - x) 4)
    assert spikes_of(1.0, "ttfs", 5) == [1, 0, 0, 0, 0]
    assert spikes_of(0.75, "ttfs", 5) == [0, 1, 0, 0, 0]
    assert spikes_of(0.4, "ttfs", 5) == [0, 0, 1, 0, 0]  # 2.4
    assert spikes_of(0.01, "ttfs", 5) == [0, 0, 0, 0, 1]
    assert spikes_of(0.0, "ttfs", 5) == [0, 0, 0, 0, 0]


@given(values, lengths)
def test_ttfs_fires_once_at_the_right_time(x, time_steps):
    spikes = spikes_of(x, "ttfs", time_steps)
    assert sum(spikes) == (x > 0)
    if x > 0:
        assert abs(spikes.index(1) - (1 - x) * (time_steps - 1)) <= 0.5 + 1e-5


def test_phase_by_hand():
    # 0.6875 = 0.1011 in binary
    assert spikes_of(0.6875, "phase", 4) == [1, 0, 1, 1]
    assert spikes_of(0.6875, "phase", 3) == [1, 0, 1]
    assert spikes_of(0.6875, "phase", 10) == [1, 0, 1, 1, 0, 0, 0, 0, 1, 0]
    assert [spikes_of(x, "phase", 1) for x in (0.49, 0.5)] == [[0], [1]]


@given(values, lengths)
def test_phase_weights_reconstruct_the_value(x, time_steps):
    phases = min(time_steps, 8)
    weighted = phase_weights(time_steps) * torch.tensor(spikes_of(x, "phase", time_steps))
    for start in range(0, time_steps - phases + 1, phases):  # every complete period
        value = weighted[start : start + phases].sum().item()
        assert 0 <= x - value <= 2**-phases


def test_phase_sends_the_bits_of_a_pixel():
    weighted = phase_weights(8)[:, None] * encode(PIXELS, "phase", 8, None)
    assert (weighted.sum(0) * 256).tolist() == list(range(256))


def test_delta_by_hand():
    # the integral from 0.5 on: 0.9, 1.3 -> 0.3, 0.7, 1.1 -> 0.1, 0.5
    assert spikes_of(0.4, "delta", 5) == [0, 1, 0, 1, 0]
    assert spikes_of(1.0, "delta", 3) == [1, 1, 1]
    assert spikes_of(0.5, "delta", 4) == [1, 0, 1, 0]


@given(values, lengths)
def test_delta_counts_follow_the_integral(x, time_steps):
    count = 0
    for t, spike in enumerate(spikes_of(x, "delta", time_steps), start=1):
        count += int(spike)
        assert abs(count - t * Fraction(x)) <= Fraction(1, 2)


def test_burst_by_hand():
    # T = 13: up to 5 spikes, intervals of up to 12 // 4 = 3 steps: ceil(3 - 2 x)
    assert spikes_of(1.0, "burst", 13) == [1, 1, 1, 1, 1] + [0] * 8
    assert spikes_of(0.5, "burst", 13) == [1, 0, 1, 0, 1] + [0] * 8  # ceil(2.5) spikes at intervals of 2
    assert spikes_of(0.3, "burst", 13) == [1, 0, 0, 1] + [0] * 9  # ceil(1.5) at ceil(2.4)
    assert spikes_of(0.1, "burst", 13) == [1] + [0] * 12
    assert spikes_of(0.6, "burst", 4) == [1, 1, 1, 0]  # ceil(2.4) of up to 4, back to back
    assert spikes_of(0.6, "burst", 1) == [1]


@given(values, lengths)
def test_bursts_are_complete_and_regular(x, time_steps):
    times = [t for t, spike in enumerate(spikes_of(x, "burst", time_steps)) if spike]
    most = min(5, time_steps)
    assert len(times) == -(-torch.tensor(x) * most // 1)
    assert len({after - before for before, after in pairwise(times)}) <= 1
    assert not times or times[0] == 0


@pytest.mark.parametrize("bad", [-0.01, 1.01, float("nan"), float("inf")])
@pytest.mark.parametrize("name", SPIKING)
def test_values_outside_0_to_1(name, bad):
    with pytest.raises(UserError, match=rf"encoder '{name}' takes values in \[0, 1\], got values in"):
        encode(torch.tensor([[0.5, bad]]), name, 4, None)


def test_unknown_names_and_no_time():
    with pytest.raises(UserError, match="unknown encoder 'rats'; did you mean 'rate'"):
        encode(torch.rand(2), "rats", 4, None)
    with pytest.raises(UserError, match="at least one time step, got 0"):
        encode(torch.rand(2), "rate", 0, None)
