"""Calibration: the search by itself, for layers whose rates are known functions, and in models."""

import copy
import math
import warnings

import pytest
import timm
import torch
from scipy.stats import norm
from torch import nn

import step_ahsar.models  # noqa: F401  (registers the models)
from step_ahsar.ahsar import AHSARConfig, controller_of, regulate
from step_ahsar.ahsar.calibration import TRIALS, Calibration
from step_ahsar.ahsar.config import FIRST_LAW
from step_ahsar.ahsar.law import set_points, towards
from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_neurons
from tests.unit.ahsar.test_controller import Net, batch, observe, train

WIDE = {"a": 3.0, "leak": 0.0, "k": 0.0}


def config(rate=0.2, **options):
    return AHSARConfig(**{**WIDE, "calibrate": rate, **options})


def rates(controller):
    return [layer["rate"] for layer in controller.layers().values()]


def scales(controller):
    return [layer["threshold_scale"] for layer in controller.layers().values()]


def forward_of(model, i=0):
    x, _ = batch(i, n=64)
    return lambda: model(x)


# -- the search --------------------------------------------------------------------------------------------------------


def test_one_change_is_enough_for_normal_inputs():
    """There the rate is the normal distribution's tail beyond the threshold."""
    thresholds = torch.tensor([0.3, 1.0, 2.5])
    rate = torch.tensor(norm.sf(thresholds), dtype=torch.float32)
    found = thresholds * towards(rate, torch.tensor(0.2)).exp()
    assert torch.allclose(found, torch.full((3,), float(norm.isf(0.2))), rtol=1e-4)


def search(rate_of, target=0.2, start=(0.0,)):
    """The logarithms of thresholds at which a search ends, and the search."""
    found, log = Calibration([str(i) for i in range(len(start))]), torch.tensor(start)
    while not found.done:
        log = log + found.changes(rate_of(log), torch.full_like(log, target))
    return log, found


@pytest.mark.parametrize("start", [-2.0, 0.0, 3.0])
@pytest.mark.parametrize("steepness", [0.3, 1.0, 3.0, 20.0])
def test_it_ends_near_the_target_however_steep_the_rate_is(start, steepness):
    """A rate that falls from 1 to 0 within a hair's breadth is stepped over, back and forth."""
    _, found = search(lambda log: torch.sigmoid(-steepness * (log - 0.5)), start=(start,))
    assert found.trials < TRIALS
    assert found.level.item() == pytest.approx(0.2, rel=0.02)
    assert found.missed() == []


def test_the_rates_that_are_told_are_those_of_the_thresholds_that_are_left():
    """A rate that jumps over the target is never near it, and the last trial is not followed by a change."""

    def rate_of(log):
        return torch.where(log > 0.3, 0.1, 0.4)

    log, found = search(rate_of)
    assert found.trials == TRIALS
    assert rate_of(log).tolist() == found.level.tolist()
    assert found.missed() != []


def test_a_saturated_layer_is_raised_even_if_its_rate_is_rounded_up():
    assert towards(torch.tensor([1.0, 1.00001]), torch.tensor(0.2)).tolist() == [float("inf")] * 2


def test_a_search_does_not_end_before_everything_has_run():
    found = Calibration(["near", "late"])
    found.changes(torch.tensor([0.2, torch.nan]), torch.tensor([0.2, 0.2]))
    assert not found.done
    found.changes(torch.tensor([0.2, 0.2]), torch.tensor([0.2, 0.2]))
    assert found.done


def test_it_is_made_on_the_cpu_wherever_the_model_is():
    with torch.device("meta"):
        found = Calibration(["model"])
    assert found.changes(torch.tensor([0.0]), torch.tensor([0.2])).tolist() == pytest.approx([-0.7])


def test_a_rate_that_cannot_be_reached_is_told():
    _, found = search(lambda log: torch.full_like(log, 0.1), start=(0.0, 1.0))
    assert found.trials == TRIALS
    assert found.missed() == ["0 0.1 in place of 0.2", "1 0.1 in place of 0.2"]


def test_the_last_trial_changes_nothing():
    found = Calibration(["model"])
    moved = [found.changes(torch.tensor([0.1]), torch.tensor([0.2])).item() for _ in range(TRIALS)]
    assert moved[-2] != 0
    assert moved[-1] == 0


def test_what_may_have_any_rate_keeps_no_search_going():
    found = Calibration(["near", "any rate"])
    found.changes(torch.tensor([0.2, 0.4]), torch.tensor([0.2, torch.nan]))
    assert found.done


def test_what_did_not_run_and_what_has_no_target_is_left_alone():
    found = Calibration(["silent", "not run", "any rate", "near"])
    changes = found.changes(torch.tensor([0.0, torch.nan, 0.4, 0.202]), torch.tensor([0.2, 0.2, torch.nan, 0.2]))
    assert changes.tolist() == [pytest.approx(-0.7), 0, 0, 0]
    assert not found.done
    assert found.missed() == ["silent 0 in place of 0.2"]


# -- in models ---------------------------------------------------------------------------------------------------------


def test_the_threshold_that_was_given_has_no_say():
    """One factor for the model: thresholds end where they do from any start, in the proportions that they had."""
    ends = []
    for threshold in (0.3, 1.0, 2.0):
        model = Net(threshold=threshold).train()
        controller = regulate(model, config=config())
        assert controller.calibrate(forward_of(model)) == {"model": pytest.approx(0.2, rel=0.02)}
        assert len(set(scales(controller))) == 1
        ends.append(threshold * scales(controller)[0])
    assert ends == pytest.approx([ends[0]] * 3, rel=0.03)


@pytest.mark.parametrize(("per", "names"), [("group", ["stem", "mlp"]), ("layer", [f"neurons.{i}" for i in range(3)])])
def test_groups_and_layers_have_factors_of_their_own(per, names):
    model = Net(threshold=2.0).train()
    controller = regulate(model, config=config(calibrate_per=per))
    assert controller.calibrate(forward_of(model)) == {name: pytest.approx(0.2, rel=0.02) for name in names}
    assert len(set(scales(controller))) == len(names)
    # The rates of the next pass are those that were told.
    forward_of(model)()
    controller.step()
    found = rates(controller)
    assert [found[0], sum(found[1:]) / 2] == pytest.approx([0.2, 0.2], rel=0.02)


def test_nothing_else_is_changed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.1), nn.Linear(6, 6), create_neuron("ahsar", threshold=2.0))
    x = torch.randn(4, 8, 6)

    def run():
        return model[1:](model[0](x.flatten(0, 1)).view_as(x))

    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    controller = regulate(model, config=config())
    controller.calibrate(run)
    after = model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"3.threshold_scale"}
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert rates(controller) == [None]  # training has not been observed yet
    assert all(module.training for module in model.modules())
    assert not model[3].trained
    assert model[3].observed.tolist() == [0, 0]


def test_a_state_that_a_module_replaces_is_restored():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("last", torch.zeros(6))

        def forward(self, x):
            self.last = x.mean((0, 1))
            return x

    model = nn.Sequential(Remembers(), nn.Linear(6, 6), create_neuron("lif"))
    before = model[0].last
    regulate(model, config=config()).calibrate(lambda: model(torch.ones(4, 8, 6)))
    assert model[0].last is before
    assert before.tolist() == [0] * 6


def test_it_may_be_repeated():
    model = Net(threshold=2.0).train()
    controller = regulate(model, config=config())
    controller.calibrate(forward_of(model))
    first = scales(controller)
    controller.calibrate(forward_of(model))
    assert scales(controller) == pytest.approx(first, rel=1e-5)


def test_what_cannot_be_calibrated(recwarn):
    model = Net().train()
    with pytest.raises(UserError, match="no firing rate to calibrate to; set calibrate or budget"):
        regulate(model, config=config(None)).calibrate(forward_of(model))
    controller_of(model).release()
    controller = regulate(model, config=config())
    model.eval()
    controller._calibration = None  # as after an earlier one
    with pytest.raises(UserError, match="no regulated layer ran in training mode"):
        controller.calibrate(forward_of(model))
    assert controller._calibration is None  # and training does not begin another
    controller.release()
    model = Net(threshold=100.0).train()
    controller = regulate(model, config=config(a=0.1))
    with pytest.warns(UserWarning, match=r"calibrated in 25 trials; firing rates: model 0 in place of 0\.2"):
        controller.calibrate(forward_of(model))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calibrate": 0.5}, r"ahsar.calibrate must be a firing rate above 0 and at most 0\.45, got 0\.5"),
        ({"budget": 0.0}, r"ahsar.budget must be a firing rate above 0 and at most 0\.45, got 0\.0"),
        ({"budget": {"mlp": 0.7}}, r"ahsar.budget.mlp must be a firing rate above 0 and at most 0\.45, got 0\.7"),
        ({"budget": {"mlp": None}}, "ahsar.budget.mlp must be a firing rate above 0 and at most 0\\.45, got None"),
        ({"budget": {}}, "ahsar.budget names no group"),
        ({"budget": 0.1, "budget_ops": 1e6}, "ahsar.budget and ahsar.budget_ops both set the level of activity"),
        ({"budget": 0.1, "gamma": 0.0, "gamma_min": 0.0}, "ahsar.gamma is 0"),
        ({"shares": {"mlp": 0.0}}, r"ahsar.shares.mlp must be > 0, got 0\.0"),
        ({"calibrate_per": "block"}, "ahsar.calibrate_per must be model, group or layer, got 'block'"),
    ],
)
def test_constants_out_of_range(options, words):
    with pytest.raises(UserError, match=words):
        AHSARConfig(**options)


# -- over the first iterations -----------------------------------------------------------------------------------------


def test_without_a_call_the_first_iterations_calibrate():
    """The learning rate is 0, so the search is the same as on one batch, with one change an iteration."""
    model = Net(threshold=2.0).train()
    controller = regulate(model, config=config(), auto=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x, y = batch(0, n=64)
    seen = []
    for _ in range(TRIALS):
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seen.append(scales(controller)[0])
    twin = Net(threshold=2.0).train()
    other = regulate(twin, config=config())
    other.calibrate(forward_of(twin))
    assert seen[-1] == pytest.approx(scales(other)[0])
    assert len(set(seen)) < TRIALS  # it rests once it is there


@pytest.mark.parametrize("stop", [2, 6])
def test_a_resumed_search_is_the_search_that_never_stopped(stop):
    def begun():
        model = Net(threshold=2.0).train()
        controller = regulate(model, config=config(rate=0.05, calibrate_per="layer"))
        return model, controller, torch.optim.AdamW(model.parameters(), lr=1e-2)

    model, controller, optimizer = begun()
    train(model, controller, steps=12, opt=optimizer)
    stopped = begun()
    train(stopped[0], stopped[1], steps=stop, opt=stopped[2])
    states = copy.deepcopy([each.state_dict() for each in stopped])
    assert states[1]["calibration"]["trials"] == stop
    again, second, other = begun()
    second.calibrate(forward_of(again))  # a search that has ended is gone on with, too
    for each, state in zip((again, second, other), states, strict=True):
        each.load_state_dict(state)
    train(again, second, steps=12 - stop, start=stop, opt=other)
    assert scales(second) == scales(controller)


def test_an_iteration_without_input_is_no_trial():
    model = Net(threshold=2.0).train()
    controller = regulate(model, config=config())
    with pytest.warns(UserWarning, match="were not seen in training"):
        controller.step()
    assert controller.state_dict()["calibration"]["trials"] == 0
    for _ in range(TRIALS):
        forward_of(model)()
        controller.step()
    assert rates(controller)[0] is not None
    assert scales(controller)[0] < 0.5


def test_a_state_of_an_earlier_release_is_not_calibrated():
    model = Net(threshold=2.0).train()
    controller = regulate(model, config=config())
    state = controller.state_dict()
    del state["calibration"]
    controller.load_state_dict(state)
    train(model, controller, steps=2)
    assert scales(controller) == [1.0] * 3


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_set_points_have_their_proportions_and_the_mean_of_all_neurons():
    shares, neurons = torch.tensor([0.15, 2.5, 4.0]), torch.tensor([500.0, 300.0, 40.0])
    found = set_points(0.02, shares, neurons, most=0.45)
    assert (found / found[0]).tolist() == pytest.approx((shares / shares[0]).tolist())
    assert ((found * neurons).sum() / neurons.sum()).item() == pytest.approx(0.02)


def counted(model, x):
    """Spikes per neuron and step of each group, and of all neurons, in one pass."""
    spikes, neurons = {}, {}
    hooks = []
    for neuron in model.neurons:

        def count(neuron, _, out):
            spikes[neuron.group] = spikes.get(neuron.group, 0) + out.sum().item()
            neurons[neuron.group] = neurons.get(neuron.group, 0) + out.numel()

        hooks.append(neuron.register_forward_hook(count))
    model(x)
    for hook in hooks:
        hook.remove()
    return {g: spikes[g] / neurons[g] for g in spikes}, sum(spikes.values()) / sum(neurons.values())


def test_a_budget_is_the_rate_of_all_neurons():
    """Layers of 16, 16 and 8 neurons: every neuron counts alike, whatever its layer."""
    model = Net(threshold=1.0).train()
    controller = regulate(model, config=config(rate=None, budget=0.05, shares={"stem": 4.0, "mlp": 1.0}))
    controller.calibrate(forward_of(model))
    groups, total = counted(model, batch(0, n=64)[0])
    assert total == pytest.approx(0.05, rel=0.05)
    assert groups["stem"] / groups["mlp"] == pytest.approx(4.0, rel=0.1)


def test_a_budget_that_is_not_divided_is_held_by_one_factor():
    model = Net(threshold=1.0).train()
    controller = regulate(model, config=config(rate=None, budget=0.05, shares=None, k=0.2))
    assert list(controller.calibrate(forward_of(model))) == ["model"]
    assert counted(model, batch(0, n=64)[0])[1] == pytest.approx(0.05, rel=0.05)
    assert len(set(scales(controller))) == 1
    controller.budget = 0.1
    for _ in range(60):
        forward_of(model)()
        controller.step()
    assert counted(model, batch(0, n=64)[0])[1] == pytest.approx(0.1, rel=0.02)
    assert len(set(scales(controller))) == 1
    controller.release()
    groups = regulate(model, config=config(rate=None, budget={"mlp": 0.05}, shares=None))  # there they have no say
    assert list(groups.calibrate(forward_of(model))) == ["stem", "mlp"]


def test_the_rest_of_a_group_that_would_be_too_loud_goes_to_the_others():
    shares, neurons = torch.tensor([1.0, 2.0, 50.0]), torch.tensor([100.0, 100.0, 100.0])
    found = set_points(0.3, shares, neurons, most=0.45)
    assert found.tolist() == pytest.approx([0.15, 0.3, 0.45])
    found = set_points(0.42, shares, neurons, most=0.45)  # then the second is too loud, too
    assert found.tolist() == pytest.approx([0.36, 0.45, 0.45])
    assert set_points(0.45, shares, neurons, most=0.45).tolist() == pytest.approx([0.45] * 3)


def test_budgets_of_groups_and_groups_without():
    model = Net(threshold=1.0).train()
    controller = regulate(model, config=config(rate=None, budget={"mlp": 0.05}))
    controller.calibrate(forward_of(model))
    assert counted(model, batch(0, n=64)[0])[0]["mlp"] == pytest.approx(0.05, rel=0.05)
    assert scales(controller)[0] == 1.0  # the stem has no budget
    for _ in range(3):
        forward_of(model)()
        controller.step()
    assert scales(controller)[0] == 1.0
    assert counted(model, batch(0, n=64)[0])[0]["mlp"] == pytest.approx(0.05, rel=0.05)
    model.fc[1].weight.data *= 1e-3  # its next layers fall silent; a threshold falls by k times 0.7 at a time
    before = scales(controller)[1]
    forward_of(model)()
    controller.step()
    assert scales(controller)[1] > before / 2
    controller.release()
    with pytest.raises(UserError, match=r"ahsar\.budget: no layer is in attention; groups are stem, mlp"):
        regulate(model, config=config(rate=None, budget={"attention": 0.05}))
    with pytest.raises(UserError, match=r"ahsar\.shares: no layer is in atention; groups are stem, mlp"):
        regulate(model, config=config(rate=None, budget=0.05, shares={"atention": 0.1}))
    hash(AHSARConfig(budget=0.05))


def test_thresholds_of_a_silent_group_fall_step_by_step():
    model = Net(threshold=1.0).train()
    controller = regulate(model, config=config(rate=None, budget={"stem": 0.05}, k=0.2))
    controller.calibrate(forward_of(model))
    before = scales(controller)[0]
    with torch.no_grad():
        model.fc[0].weight.zero_(), model.fc[0].bias.fill_(-1)
    forward_of(model)()
    controller.step()
    assert scales(controller)[0] == pytest.approx(before * math.exp(-0.2 * 0.7), rel=1e-4)


@pytest.mark.parametrize(
    ("budget", "power"), [(0.001, 1), (0.02, 1), (0.02 * 10**0.25, 0.75), (0.02 * 10**0.5, 0.5), (0.2, 0), (0.4, 0)]
)
def test_the_smaller_the_budget_the_more_uneven_are_the_shares(budget, power):
    expected = {"attention": 0.15**power, "mlp": 2.5**power, "stem": 4.0**power}
    assert AHSARConfig().shares_of(budget) == pytest.approx(expected)
    given = AHSARConfig(budget=0.1, shares={"stem": 2.0})
    assert given.shares_of(budget) == pytest.approx(expected | {"stem": 2.0})
    assert AHSARConfig(shares={"stem": 2.0}) == AHSARConfig()  # without a budget they have no say


def test_the_shares_follow_a_rate_that_is_set():
    """The rates that are held, of groups as large as each other, have the proportions of the shares."""
    model = Net()
    controller = regulate(model, config=AHSARConfig(budget=0.2))
    ran = torch.ones(len(controller.layers()))
    even = controller._levels(ran, ran.bool(), ran)[1].tolist()
    assert even == pytest.approx([0.2, 0.2])
    controller.budget = 0.02
    stem, mlp = controller._levels(ran, ran.bool(), ran)[1].tolist()
    assert stem / mlp == pytest.approx(4.0 / 2.5)


def test_the_rate_that_is_held_can_be_set_and_is_saved():
    controller = regulate(Net(), config=AHSARConfig(budget=0.2))
    for wrong in (0, 0.5, float("nan")):
        with pytest.raises(UserError, match=r"budget must be a firing rate above 0 and at most 0\.45"):
            controller.budget = wrong
    controller.budget = 0.05
    other = regulate(Net(), config=AHSARConfig(budget=0.2))
    other.load_state_dict(controller.state_dict())
    assert other.budget == 0.05
    for config in (AHSARConfig(), AHSARConfig(budget={"mlp": 0.05})):
        with pytest.raises(UserError, match="holds no firing rate of the whole model"):
            regulate(Net(), config=config).budget = 0.1


def test_a_band_of_a_group_that_is_not_there():
    with pytest.raises(UserError, match=r"ahsar\.band: no layer is in mpl; groups are stem, mlp"):
        regulate(Net(), config=AHSARConfig(band={"mpl": (0.1, 0.2)}))


def test_a_budget_is_held_while_weights_change():
    """Weights are scaled up in steps, as training does: a calibration alone would be left behind."""
    model = Net(threshold=1.0).train()
    controller = regulate(model, config=config(rate=None, budget=0.05, k=0.2))
    resting = copy.deepcopy(model)
    for each in (model, resting):
        controller_of(each).calibrate(forward_of(each))
    for _ in range(30):
        for each in (model, resting):
            with torch.no_grad():
                for fc in each.fc:
                    fc.weight *= 1.02
        forward_of(model)()
        controller.step()
    assert counted(resting, batch(0, n=64)[0])[1] > 0.08
    for _ in range(20):
        forward_of(model)()
        controller.step()
    assert counted(model, batch(0, n=64)[0])[1] == pytest.approx(0.05, rel=0.05)
    before = scales(controller)
    controller.epoch_end(0.5)
    assert scales(controller) == before  # the slow loop does nothing


# -- the start that is the default -------------------------------------------------------------------------------------


def test_the_default_is_a_calibrated_start_and_then_rest():
    model = Net(threshold=3.0).train()
    controller = regulate(model)
    reached = controller.calibrate(forward_of(model))
    assert reached == {"model": pytest.approx(0.2, rel=0.02)}
    at_rest = scales(controller)
    assert max(at_rest) == pytest.approx(min(at_rest))  # one factor for the whole model
    train(model, controller, steps=20)
    assert scales(controller) == at_rest
    controller.epoch_end(0.5)
    assert scales(controller) == at_rest


def test_a_budget_or_the_thresholds_of_a_run_take_its_place():
    assert AHSARConfig().level == 0.2
    for options in (
        {"budget": 0.1},
        {"budget_ops": 1e6},
        {"thresholds_of": "runs/x"},
        {"gamma": 0.0, "gamma_min": 0.0},
    ):
        assert AHSARConfig(**options).level is None
    assert not AHSARConfig(thresholds_of="runs/x").calibrates
    assert not AHSARConfig(gamma=0.0, gamma_min=0.0).calibrates
    assert AHSARConfig(budget_ops=1e6).calibrates


def test_a_layer_far_outside_comes_back_within_ten_iterations_and_not_too_far():
    """Its rate is the normal distribution's tail; the others are within the guard's band and do not move."""
    low, high = AHSARConfig().band
    for start, edge in ((5.0, low), (-0.9, high)):
        controller = regulate(model := Net(), config=AHSARConfig(calibrate=None))
        trace = []
        for _ in range(20):
            scale = scales(controller)[1]
            rate = float(norm.sf(start * scale if start > 0 else start + math.log(scale)))
            trace.append(rate)
            observe(model, 0.2, rate, 0.2)
            controller.step()
        assert scales(controller)[0] == scales(controller)[2] == 1.0
        near = [0.98 * low <= rate <= 1.02 * high for rate in trace]  # it nears the upper edge in ever smaller steps
        assert not near[0]
        assert all(near[10:])
        assert all(abs(rate - edge) < 0.1 for rate in trace[10:])


def test_states_of_the_first_law(tmp_path):
    """They load under its constants, and are refused under others, where they would mean other thresholds."""
    first = AHSARConfig(**FIRST_LAW)
    controller = regulate(model := Net(), config=first)
    train(model, controller)
    state = controller.state_dict()
    del state["bounds"], state["calibration"]  # as the first releases wrote it
    again = regulate(other := Net(), config=first)
    other.load_state_dict(model.state_dict())
    again.load_state_dict(state)
    assert scales(again) == pytest.approx(scales(controller))
    second = regulate(third := Net())
    third.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match=r"saved under ahsar.a 1.386 and gain exponent, and this controller has 2.5"):
        second.load_state_dict(state)
    with pytest.raises(ValueError, match=r"saved under ahsar.a 1.386 and gain exponent, and this controller has 2.5"):
        second.load_state_dict(controller.state_dict())
    wide = AHSARConfig(budget=0.1)  # an earlier release, too, knew budgets with such bounds
    controller = regulate(model := Net(), config=wide)
    train(model, controller)
    state = controller.state_dict()
    del state["bounds"]
    again = regulate(other := Net(), config=wide)
    other.load_state_dict(model.state_dict())
    again.load_state_dict(state)
    assert scales(again) == pytest.approx(scales(controller))


# -- over the registry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neuron", list_neurons())
def test_every_neuron_is_calibrated(neuron):
    """All that can be regulated."""
    torch.manual_seed(0)
    options = {"base": neuron} if neuron != "ahsar" else {}
    try:
        spiking = create_neuron("ahsar", **options)
    except UserError:
        pytest.skip("not regulated")
    model = nn.Sequential(nn.Linear(8, 64), nn.Sequential(spiking)).train()
    controller = regulate(model, config=config(rate=0.1))
    x = torch.randn(4, 64, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reached = controller.calibrate(lambda: model(x))
    assert reached["model"] == pytest.approx(0.1, rel=0.1)


def test_a_spiking_transformer():
    """From thresholds at which it is silent."""
    torch.manual_seed(0)
    model = timm.create_model("spikformer_2_64", img_size=16, neuron="ahsar", threshold=4.0, time_steps=4).train()
    controller = regulate(model, config=config())
    x = torch.rand(16, 3, 16, 16)
    assert controller.calibrate(lambda: model(x)) == {"model": pytest.approx(0.2, rel=0.02)}
