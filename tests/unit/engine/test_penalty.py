"""The penalty on firing rates: its value and gradient by hand, and how its weight is steered."""

import pytest
import torch
from torch import nn

from step_ahsar.config import Config, RatePenaltyConfig
from step_ahsar.engine.penalty import RatePenalty
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron, create_neuron


class Values(SpikingNeuron):
    """A layer whose spikes are its input, so that rates are known and gradients pass unchanged."""

    def __init__(self, max_spikes=1.0, signed=False):
        super().__init__()
        self.max_spikes, self.signed = max_spikes, signed

    def simulate(self, x):
        return x, None


def penalty(model, budget=0.2, weight=10.0, **options):
    return RatePenalty(model, RatePenaltyConfig(budget=budget, weight=weight, **options))


def passed(model, given, x, samples=1):
    with given:
        model(x)
    return given.term(samples)


def test_every_neuron_counts_alike():
    """4 of 8 neurons of one layer and 1 of 24 of the other fire: 5 of 32, not the mean of the layers' rates."""
    model = nn.ModuleList([Values(), Values()])
    small, large = torch.zeros(1, 2, 4), torch.zeros(1, 2, 12)
    small[0, :, :2], large[0, 0, 0] = 1.0, 1.0
    small.requires_grad_()
    given = penalty(model, budget=0.1)
    with given:
        model[0](small), model[1](large)
    term = given.term(2)
    assert term.item() == pytest.approx(10 * (5 / 32 - 0.1))
    term.backward()
    assert small.grad.unique().tolist() == pytest.approx([10 / 32])
    given.step()
    assert given.rate == pytest.approx(5 / 32)


@pytest.mark.parametrize("options", [{"max_spikes": 4.0}, {"signed": True}])
def test_integer_and_negative_spikes(options):
    x = torch.tensor([[[4.0, 2.0, 0.0, -1.0 if options.get("signed") else 1.0]]])
    rate = 7 / 4 / options.get("max_spikes", 1)
    layer = Values(**options)
    assert passed(layer, penalty(layer), x).item() == pytest.approx(10 * (rate - 0.2))


def test_a_rate_within_the_budget_costs_nothing():
    x = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]], requires_grad=True)
    term = passed(layer := Values(), penalty(layer), x)
    assert term.item() == 0
    term.backward()
    assert x.grad.abs().sum() == 0


def test_the_weight_follows_the_excess():
    """By 0.3 of the relative excess, between 0 and the largest weight."""
    given, weights = penalty(layer := Values(), weight=0.0, most=1.0), []
    for rate in (0.5, 0.5, 0.5, 0.1, 0.0, 0.0, 0.0, 0.0):
        x = torch.zeros(1, 1, 10)
        x[..., : int(10 * rate)] = 1.0
        passed(layer, given, x)
        given.step()
        weights.append(given.weight)
    assert weights == pytest.approx([0.45, 0.9, 1.0, 0.85, 0.55, 0.25, 0.0, 0.0])


def test_a_step_of_several_passes_has_their_mean_rate():
    given = penalty(layer := Values(), weight=0.0)
    for value in (1.0, 0.0):
        passed(layer, given, torch.full((1, 1, 4), value))
    given.step()
    assert (given.rate, given.weight) == (0.5, pytest.approx(0.3 * 1.5))


def test_a_constant_weight():
    given = penalty(layer := Values(), gain=0.0)
    passed(layer, given, torch.ones(1, 1, 4))
    given.step()
    assert given.weight == 10.0


def test_it_goes_on_from_its_state():
    given = penalty(layer := Values())
    passed(layer, given, torch.ones(1, 1, 4))
    given.step()
    other = penalty(layer)
    other.load_state_dict(given.state_dict())
    assert (other.weight, other.rate) == (given.weight, given.rate) == (pytest.approx(11.2), 1.0)


def test_a_band_draws_each_layer_into_it():
    """Rates 0.5, 0.1 and 0.3 of layers of different sizes, band [0.2, 0.4]: (0.1 + 0.1 + 0) / 3, and no steering."""
    model = nn.ModuleList([Values(), Values(), Values()])
    inputs = [torch.zeros(1, 1, 10), torch.zeros(1, 1, 100), torch.zeros(1, 1, 10)]
    for x, number in zip(inputs, (5, 10, 3), strict=True):
        x[..., :number] = 1.0
        x.requires_grad_()
    given = RatePenalty(model, RatePenaltyConfig(band=[0.2, 0.4], weight=2.0))
    with given:
        for layer, x in zip(model, inputs, strict=True):
            layer(x)
    term = given.term(1)
    assert term.item() == pytest.approx(2 * 0.2 / 3)
    term.backward()
    assert [x.grad.unique().tolist() for x in inputs] == [pytest.approx([g]) for g in (2 / 30, -2 / 300, 0.0)]
    given.step()
    assert (given.weight, given.rate) == (2.0, pytest.approx(18 / 120))


def test_what_a_band_needs():
    for options, why in (
        ({"band": [0.2, 0.4]}, "has a constant weight: set train.rate_penalty.weight > 0"),
        ({"band": [0.4, 0.2], "weight": 1.0}, "must be .lo, hi. with 0 <= lo < hi <= 1, got .0.4, 0.2."),
        (
            {"band": [0.2, 0.4], "budget": 0.1},
            "train.rate_penalty.budget and train.rate_penalty.band: give one of them",
        ),
    ):
        with pytest.raises(UserError, match=why):
            Config().with_values({"train.rate_penalty": options})


def test_passes_outside_of_the_block_do_not_count():
    given = penalty(layer := Values())
    layer(torch.ones(1, 1, 4))
    assert passed(layer, given, torch.zeros(1, 1, 4)).item() == 0
    layer(torch.ones(1, 1, 4))
    given.step()
    assert given.rate == 0


def test_the_gradient_is_the_surrogates():
    """Of an integrate-and-fire neuron, compared with the gradient of the mean of its spikes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), create_neuron("if"))
    x = torch.randn(3, 5, 4)
    passed(model, penalty(model, budget=0.01), x).backward()
    found = model[0].weight.grad.clone()
    model[0].weight.grad = None
    (10 * model(x).mean()).backward()
    assert torch.allclose(found, model[0].weight.grad, rtol=1e-5)


def test_a_weight_above_the_largest_is_refused():
    with pytest.raises(UserError, match=r"weight must be <= train\.rate_penalty\.most, got 300 > 200"):
        Config().with_values({"train.rate_penalty": {"budget": 0.1, "weight": 300.0}})
