"""The invariants of the controller that a model is needed for."""

import copy
import gc
import math
import pickle

import pytest
import torch
from torch import nn
from torch.optim import optimizer
from torch.utils.checkpoint import checkpoint

from step_ahsar import ahsar
from step_ahsar.ahsar import AHSARConfig, Controller, controller_of, is_regulated
from step_ahsar.ahsar.config import FIRST_LAW
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron, create_neuron


def first(**constants):
    """The first law, which moves thresholds in every iteration, with other constants where a test gives them."""
    return AHSARConfig(**{**FIRST_LAW, **constants})


def regulate(model, groups=None, config=None, **options):
    return ahsar.regulate(model, groups, config or first(), **options)


class Net(nn.Module):
    """Hand-written, three spiking layers."""

    def __init__(self, neuron="ahsar", grouped=True, **options):
        super().__init__()
        torch.manual_seed(0)
        groups = ("stem", "mlp", "mlp") if grouped else (None,) * 3
        self.fc = nn.ModuleList(nn.Linear(a, b) for a, b in ((6, 16), (16, 16), (16, 8)))
        self.neurons = nn.ModuleList(create_neuron(neuron, group=g, **options) for g in groups)
        self.head = nn.Linear(8, 3)
        self.checkpointed: bool | None = None  # None, or use_reentrant

    def block(self, i, x):
        return self.neurons[i](2 * self.fc[i](x))

    def forward(self, x):
        for i in range(3):
            x = (
                self.block(i, x)
                if self.checkpointed is None
                else checkpoint(self.block, i, x, use_reentrant=self.checkpointed)
            )
        return self.head(x.mean(0))


def batch(i, n=8):
    generator = torch.Generator().manual_seed(i)
    return torch.randn(4, n, 6, generator=generator), torch.randint(3, (n,), generator=generator)


def train(model, controller=None, steps=6, start=0, opt=None, micro=1):
    opt = opt or torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for i in range(start, start + steps):
        x, y = batch(i)
        for part, label in zip(x.chunk(micro, 1), y.chunk(micro), strict=True):
            loss = nn.functional.cross_entropy(model(part.requires_grad_()), label) / micro
            loss.backward()
        opt.step()
        opt.zero_grad()
        if controller:
            controller.step()
        losses.append(loss.item())
    return losses, opt


def scales(controller):
    return [layer["threshold_scale"] for layer in controller.layers().values()]


def test_gain_zero_is_the_plain_neuron_bit_for_bit():
    """Invariant 1, training included."""
    plain, off = Net("lif"), Net("ahsar")
    controller = regulate(off, config=first(gamma=0.0))
    assert train(plain)[0] == train(off, controller)[0]
    controller.epoch_end(0.5)
    assert scales(controller) == [1, 1, 1]
    for a, b in zip(plain.parameters(), off.parameters(), strict=True):
        assert torch.equal(a, b)


def test_no_parameter_and_no_gradient():
    """Invariant 2."""
    model = Net()
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in Net("lif").named_parameters()]
    controller = regulate(model)
    train(model, controller)
    for neuron in model.neurons:
        assert not neuron.threshold_scale.requires_grad
        assert neuron.threshold_scale.grad is None
    assert not controller._h.requires_grad


def test_state_stays_fp32_under_autocast():
    """Invariant 2."""
    model = Net()
    controller = regulate(model)
    with torch.autocast("cpu", torch.bfloat16):
        train(model, controller)
    assert all(n.threshold_scale.dtype == n.observed.dtype == torch.float32 for n in model.neurons)
    assert all(getattr(controller, f"_{name}").dtype == torch.float32 for name in ("h", "rate", "gamma"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -3.0, 7.0])
def test_a_bad_rate_is_skipped_and_counted(bad):
    """Invariant 3."""
    model = Net()
    controller = regulate(model)
    train(model, controller)
    before = controller.state_dict()
    for neuron in model.neurons:
        neuron.observed.copy_(torch.tensor([bad, 1.0]))
    controller.step()
    after = controller.state_dict()
    assert controller.skipped.tolist() == [1, 1, 1]
    assert torch.equal(after["h"], before["h"])
    assert torch.equal(after["rate"], before["rate"])


def test_a_step_without_forwards_moves_nothing():
    model = Net()
    controller = regulate(model)
    train(model, controller)
    before = scales(controller)
    controller.step()
    assert scales(controller) == before
    assert controller.skipped.sum() == 0


def test_silent_layers_are_woken_and_saturated_ones_calmed():
    for threshold, band, sign in ((20.0, (0.2, 0.4), -1), (1e-4, (0.01, 0.1), 1)):
        model = Net(threshold=threshold)
        controller = regulate(model, config=first(band=band))
        train(model, controller, steps=10)
        assert all((s - 1) * sign > 0 for s in scales(controller))


def test_nothing_moves_in_eval_or_while_paused():
    """Invariant 5."""
    model = Net()
    controller = regulate(model)
    train(model, controller, steps=2)
    x, _ = batch(0)
    model(x)
    kept = [n.observed.clone() for n in model.neurons]
    model.eval()(x)
    with controller.paused():
        model.train()(x)
        controller.step()
        controller.epoch_end(1.0)
    assert all(torch.equal(n.observed, k) for n, k in zip(model.neurons, kept, strict=True))


def test_an_evaluation_while_paused_ends_no_epoch():
    model = Net()
    controller = regulate(model, config=first(mu=0.1, band=(0.9, 0.95)), auto=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def iterate():
        x, y = batch(0)
        nn.functional.cross_entropy(model.train()(x), y).backward()
        optimiser.step()
        return controller.gammas()

    before = iterate()
    with controller.paused(), torch.no_grad():
        model.eval()(batch(1)[0])
    assert iterate() == before
    with torch.no_grad():
        model.eval()(batch(1)[0])
    assert iterate() != before


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("micro", [1, 2])
def test_activation_checkpointing_observes_once(reentrant, micro):
    """Invariant 5: recomputed forwards, with gradient accumulation."""
    runs = []
    for checkpointed in (None, reentrant):
        model = Net()
        controller = regulate(model)
        model.checkpointed = checkpointed
        losses, _ = train(model, controller, steps=3, micro=micro)
        x, _ = batch(9)
        model(x.requires_grad_()).sum().backward()
        runs.append((losses, scales(controller), [n.observed.tolist() for n in model.neurons]))
    assert runs[0] == runs[1]


def test_accumulation_observes_all_micro_batches_once():
    """Invariant 5: two halves of a batch are the batch, where no norm tells them apart."""
    rates = []
    for micro in (1, 2):
        model = Net()
        controller = regulate(model)
        train(model, controller, steps=1, micro=micro)
        rates.append([layer["rate"] for layer in controller.layers().values()])
    assert rates[0] == pytest.approx(rates[1], rel=1e-6)


def test_checkpoint_round_trip_is_exact(tmp_path):
    """Invariant 6: 3 + 3 iterations through files equal 6."""
    straight = Net()
    controller = regulate(straight)
    opt = train(straight, controller, steps=3)[1]
    controller.epoch_end(0.3)
    torch.save([straight.state_dict(), opt.state_dict(), controller.state_dict()], tmp_path / "state")
    train(straight, controller, steps=3, start=3, opt=opt)
    controller.epoch_end(0.4)

    resumed = Net()
    again = regulate(resumed)
    model_state, opt_state, state = torch.load(tmp_path / "state", weights_only=True)
    resumed.load_state_dict(model_state)
    again.load_state_dict(state)
    opt = torch.optim.AdamW(resumed.parameters(), lr=1e-2)
    opt.load_state_dict(opt_state)
    train(resumed, again, steps=3, start=3, opt=opt)
    again.epoch_end(0.4)
    assert scales(again) == scales(controller)
    assert again.gammas() == controller.gammas()
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_state_of_another_model_is_refused():
    state = regulate(Net()).state_dict()
    with pytest.raises(ValueError, match="other layers"):
        regulate(nn.Sequential(create_neuron("ahsar"))).load_state_dict(state)


def test_a_new_controller_takes_over_the_scales_it_finds():
    model = Net()
    train(model, regulate(model))
    before = [n.threshold_scale.clone() for n in model.neurons]
    controller_of(model).leave()
    regulate(model)._write()
    torch.testing.assert_close([n.threshold_scale for n in model.neurons], before, rtol=1e-5, atol=0)


def test_copies_and_ema():
    """Invariant 6."""
    from timm.utils import ModelEmaV3

    model = Net()
    controller = regulate(model)
    train(model, controller, steps=2)
    ema, twin = ModelEmaV3(model, decay=0.5), copy.deepcopy(model)
    train(model, controller, steps=2)
    ema.update(model)
    for neuron, old, mean in zip(model.neurons, twin.neurons, ema.module.neurons, strict=True):
        assert old.threshold_scale != neuron.threshold_scale
        torch.testing.assert_close(mean.threshold_scale, (old.threshold_scale + neuron.threshold_scale) / 2)
    x, _ = batch(0)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


def test_one_stacked_write_and_no_synchronisation_per_layer():
    """Invariant 8: no step asks the device for a value."""
    model = Net()
    controller = regulate(model)
    train(model, controller, steps=1)  # the first step asks whether any layer was seen
    model(batch(0)[0])

    class NoItem(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            assert getattr(func, "__name__", "") not in ("item", "tolist", "__bool__", "__float__", "cpu", "nonzero")
            return func(*args, **(kwargs or {}))

    with NoItem():
        controller.step()


def observe(model, *rates):
    """As if each layer had fired at such a rate."""
    for neuron, rate in zip(model.neurons, rates, strict=True):
        neuron.observed.copy_(torch.tensor([1000.0 * rate, 1000.0]) if rate is not None else torch.zeros(2))


def test_the_slow_loop_by_hand():
    """The gain of a group follows the mean of its layers' squared deviations and the metric's relative progress."""
    model = Net()
    config = first(band=(0.2, 0.4), eta=1.0, eps=1e-3, mu=0.1, gamma_min=0.1, gamma_max=10.0)
    controller = regulate(model, config=config)
    observe(model, 0.05, 0.9, 0.3)
    controller.step()
    low, high = math.log(0.051 / 0.201), math.log(0.901 / 0.401)
    energy = {"stem": low**2, "mlp": (high**2 + 0) / 2}  # the third layer is inside the band
    gain = dict.fromkeys(energy, 1.0)
    best = None
    for metric in (0.5, 0.4, 0.6, None, 0.3, 0.9):
        controller.epoch_end(metric)
        progress = 0.0 if None in (metric, best) else (metric - best) / best
        best = metric if best is None else max(best, metric or 0.0)
        for group in gain:
            gain[group] *= math.exp(0.1 * (math.tanh(energy[group]) - max(progress, 0.0)))
        assert controller.gammas() == pytest.approx(gain, rel=1e-5)
    assert controller._best == 0.9
    scale = torch.exp(config.a * controller._gamma[controller._group] * torch.tanh(controller._h))
    assert scales(controller) == pytest.approx(scale.tolist())  # the slow loop writes thresholds


def test_centred_on_the_layers_the_fast_loop_only_balances_them():
    """The mean of the two layers of mlp is 0.3: deviations are ln(0.1 / 0.3) and ln(0.5 / 0.3). The stem is alone."""
    model = Net()
    config = first(centre="layers", leak=0, diffusion=0, eps=1e-12, eta=1, a=1.0)
    controller = regulate(model, config=config)
    observe(model, 0.9, 0.1, 0.5)
    controller.step()
    moved = [0.2 * math.tanh(math.log(each / 0.3)) for each in (0.1, 0.5)]
    assert scales(controller) == pytest.approx([1.0, *(math.exp(math.tanh(h)) for h in moved)], rel=1e-5)
    controller.epoch_end(0.5)
    spread = sum(math.log(each / 0.3) ** 2 for each in (0.1, 0.5)) / 2  # its energy is that of these deviations
    gain = math.exp(0.05 * math.tanh(spread))
    assert controller.gammas() == pytest.approx({"stem": 1.0, "mlp": gain}, rel=1e-5)
    other = Net()
    controller = regulate(other, config=config)
    observe(other, 0.9, 0.1, None)  # a layer that did not run is no part of the mean
    controller.step()
    assert scales(controller) == pytest.approx([1.0, 1.0, 1.0])


def test_a_gain_on_the_threshold_moves_a_whole_group_towards_its_band():
    """The stem is too active, the layers of mlp are too silent, whatever the fast loop does (k 0)."""
    model = Net()
    controller = regulate(model, config=first(gain="threshold", k=0, leak=0, eps=1e-12, eta=1))
    observe(model, 0.8, 0.1, 0.05)
    controller.step()
    assert scales(controller) == [1.0, 1.0, 1.0]
    controller.epoch_end(0.5)
    stem = math.exp(0.05 * math.tanh(math.log(0.8 / 0.4)))
    mlp = math.exp(0.05 * math.tanh((math.log(0.1 / 0.2) + math.log(0.05 / 0.2)) / 2))
    assert mlp < 1 < stem
    assert scales(controller) == pytest.approx([stem, mlp, mlp], rel=1e-5)
    assert controller.gammas() == pytest.approx({"stem": stem, "mlp": mlp}, rel=1e-5)
    model.load_state_dict(
        {key: value * 0.9 if key.endswith("_scale") else value for key, value in model.state_dict().items()}
    )
    observe(model, 0.3, 0.3, 0.3)
    controller.step()  # continues from loaded scales
    assert scales(controller) == pytest.approx([0.9 * stem, 0.9 * mlp, 0.9 * mlp], rel=1e-4)


@pytest.mark.parametrize("gamma", [0.3, 3.0])
def test_without_a_slow_loop_the_gain_is_constant_wherever_it_is(gamma):
    model = Net()
    controller = regulate(model, config=first(gamma=gamma, mu=0.0))
    observe(model, *[0.9] * len(model.neurons))
    controller.step()
    before = scales(controller)
    controller.epoch_end(0.5)
    assert scales(controller) == before
    assert all(found == pytest.approx(gamma) for found in controller.gammas().values())


def test_the_gain_has_bounds_and_progress_too():
    config = first(mu=1.0, gamma_min=0.2, gamma_max=1.5)
    controller = regulate(Net(), config=config)
    controller.epoch_end(1e-3)
    controller.epoch_end(1.0)  # a thousandfold: counts as full progress
    assert controller.gammas() == pytest.approx(dict.fromkeys(("stem", "mlp"), math.exp(-1)))
    controller.epoch_end(2.0)
    assert controller.gammas() == pytest.approx(dict.fromkeys(("stem", "mlp"), 0.2))  # e^-2 is below the bound
    controller = regulate(model := Net(), config=config)
    observe(model, 1e-6, 1e-6, 1e-6)
    controller.step()
    for _ in range(5):
        controller.epoch_end()
    assert controller.gammas() == pytest.approx(dict.fromkeys(("stem", "mlp"), 1.5))


@pytest.mark.parametrize("metric", [math.nan, math.inf, -math.inf, None])
def test_a_metric_that_is_no_number_is_no_progress(metric):
    controller = regulate(Net(), config=first(mu=1.0, gamma_min=0.01))
    for value in (metric, 0.5, metric):
        controller.epoch_end(value)
        assert controller.gammas() == {"stem": 1.0, "mlp": 1.0}
    controller.epoch_end(0.75)  # half as much again as the best
    assert controller.gammas() == pytest.approx(dict.fromkeys(("stem", "mlp"), math.exp(-0.5)))


def test_layers_count_from_when_they_are_first_seen():
    model = Net()
    controller = regulate(model, config=first(eta=0.25, mu=0.1))
    observe(model, 0.1, None, 0.3)
    controller.step()
    assert [layer["rate"] for layer in controller.layers().values()] == [pytest.approx(0.1), None, pytest.approx(0.3)]
    controller.epoch_end()
    assert controller.gammas()["mlp"] == 1.0  # its only layer that was seen is in the band
    observe(model, 0.3, 0.8, None)
    controller.step()
    rates = [layer["rate"] for layer in controller.layers().values()]
    assert rates == pytest.approx([0.15, 0.8, 0.3])  # running, first, kept


def test_a_layer_that_is_never_called_does_not_pull_its_neighbours():
    """Fault of linking the chain through layers without activity."""

    class WithIdle(Net):
        def __init__(self):
            super().__init__("lif")
            idle = create_neuron("lif", group="mlp")
            self.neurons = nn.ModuleList([self.neurons[0], self.neurons[1], idle, self.neurons[2]])
            self.order = (0, 1, 3)

        def block(self, i, x):
            return self.neurons[self.order[i]](2 * self.fc[i](x))

    with_idle, without = WithIdle(), Net("lif")
    controllers = [regulate(model, config=first(diffusion=0.25)) for model in (with_idle, without)]
    for model, controller in zip((with_idle, without), controllers, strict=True):
        train(model, controller)
    found, expected = (list(c.layers().values()) for c in controllers)
    assert found[2] == {"group": "mlp", "rate": None, "threshold_scale": 1.0}
    assert [found[i] for i in (0, 1, 3)] == expected
    assert expected[1]["threshold_scale"] != 1


@pytest.mark.parametrize(("rate", "counts"), [(1.0, True), (1 + 5e-5, True), (1 + 2e-4, False), (-1e-6, False)])
def test_rates_are_bounded_but_for_rounding(rate, counts):
    """Spikes are summed in fp32, so a saturated layer may be found a little above 1."""
    model = Net()
    controller = regulate(model)
    for neuron in model.neurons:
        neuron.observed.copy_(torch.tensor([1e6 * rate, 1e6]))
    controller.step()
    assert controller.skipped.tolist() == [0 if counts else 1] * 3
    assert all((layer["rate"] is not None) == counts for layer in controller.layers().values())


def test_nothing_seen_is_said_once():
    model = Net()
    controller = regulate(model)
    with pytest.warns(
        UserWarning, match="3 of the 3 regulated layers were not seen in training.*neurons.0, .*torch.compiler.reset"
    ):
        controller.step()
    controller.step()
    train(model, controller, steps=1)
    assert scales(controller) != [1, 1, 1]


def test_slow_loop():
    model = Net(threshold=20.0)  # silent: the activity energy is high
    controller = regulate(model)
    train(model, controller, steps=2)
    controller.epoch_end(0.5)
    gains = [controller.gammas()["mlp"]]
    controller.epoch_end(0.5)  # no progress
    gains.append(controller.gammas()["mlp"])
    controller.epoch_end(1.0)  # the metric doubles
    gains.append(controller.gammas()["mlp"])
    assert 1 < gains[0] < gains[1]
    assert gains[2] == pytest.approx(gains[1], abs=1e-3)  # full progress outweighs any energy
    controller.epoch_end(float("nan"))
    assert controller._best == 1.0


# -- attaching -------------------------------------------------------------------------------------------------------


def test_groups_of_the_neurons_patterns_and_callables():
    assert regulate(Net()).groups == ("stem", "mlp")
    assert regulate(Net("lif", grouped=False)).groups == ("all",)
    by_pattern = regulate(Net("lif", grouped=False), groups={"attention": "neurons.0", "mlp": ["*.1", "*.2"]})
    assert {n: v["group"] for n, v in by_pattern.layers().items()} == {
        "neurons.0": "attention",
        "neurons.1": "mlp",
        "neurons.2": "mlp",
    }
    model = Net("lif")
    some = regulate(model, groups=lambda name, neuron: "deep" if name.endswith("2") else None)
    assert list(some.layers()) == ["neurons.2"]
    assert model.neurons[0].threshold_scale is None


@pytest.mark.parametrize(
    ("model", "groups", "message"),
    [
        (nn.Linear(2, 2), None, "Linear holds no spiking neuron"),
        (Net("lif"), {"mlp": "*.mlp.*"}, r"'\*\.mlp\.\*' matches no spiking neuron; the model has neurons\.0"),
        (Net("lif"), {"a": "neurons.*", "b": "*.1"}, r"'neurons\.1' is in more than one group: a, b"),
        (Net("lif"), lambda *_: None, "no spiking neuron was put in a group"),
    ],
)
def test_attach_errors(model, groups, message):
    with pytest.raises(UserError, match=message):
        regulate(model, groups)


def test_a_neuron_that_cannot_be_regulated_is_named():
    """Invariant 10."""

    class Fixed(SpikingNeuron):
        name = "fixed"

        def start_regulation(self):
            raise UserError("neuron 'fixed' has no threshold to scale")

    with pytest.raises(UserError, match="layer '1': neuron 'fixed' has no threshold"):
        regulate(nn.Sequential(create_neuron("lif"), Fixed()))


def test_release_gives_the_model_back():
    for neuron in ("lif", "ahsar"):
        model = Net(neuron)
        before = {k: v.clone() for k, v in model.state_dict().items() if "scale" in k}
        hooks = len(optimizer._global_optimizer_post_hooks)
        controller = regulate(model, auto=True)
        train(model)
        controller.release()
        assert {k: v for k, v in model.state_dict().items() if "scale" in k} == before
        assert is_regulated(model) == (neuron == "ahsar")
        assert not model._forward_pre_hooks
        assert len(optimizer._global_optimizer_post_hooks) == hooks


def test_auto_equals_explicit_steps():
    explicit, auto = Net("lif"), Net("lif")
    controller, driven = regulate(explicit), regulate(auto, auto=True)
    try:
        other = nn.Linear(2, 2)
        torch.optim.SGD(other.parameters(), lr=0.1).step()  # another model's optimiser drives nothing
        x, _ = batch(0)
        for model, loop in ((explicit, controller), (auto, None)):
            _, opt = train(model, loop, steps=3)
            model.eval()(x)
            train(model.train(), steps=1, start=3, opt=opt)
            if loop:  # the slow loop runs with the first step after an evaluation
                loop.epoch_end()
                loop.step()
            train(model, loop, steps=2, start=4, opt=opt)
        assert scales(driven) == scales(controller)
        assert driven.gammas() == controller.gammas()
    finally:
        driven.release()


def test_processes_see_the_joined_batch(monkeypatch):
    """Invariant 7, on one process: what the others observed is added. tests/integration/test_ranks.py has two."""
    one, two = Net(), Net()
    joined, split = regulate(one), regulate(two)
    x, _ = batch(0)
    one(x)
    joined.step()
    two(x[:, 4:])
    elsewhere = torch.stack([n.observed for n in two.neurons])
    for neuron in two.neurons:
        neuron.clear_observed()
    two(x[:, :4])
    monkeypatch.setattr("step_ahsar.ranks.total", lambda observed: observed + elsewhere)
    split.step()
    assert scales(split) == pytest.approx(scales(joined), rel=1e-6)
    assert isinstance(split, Controller)


# -- a controller that the model keeps ------------------------------------------------------------------------------


def test_the_model_keeps_its_controller():
    model = Net("lif")
    with pytest.raises(UserError, match=r"Net has no controller; regulate\(model\) creates one"):
        controller_of(model)
    controller = regulate(model)
    assert controller_of(model) is controller
    assert controller_of(nn.ModuleDict({"backbone": model})) is controller  # of a part, as in a wrapper
    assert "_ahsar_controller" not in model.state_dict()
    two = nn.ModuleList([model, other := Net("lif")])
    regulate(other)
    with pytest.raises(UserError, match="several parts with a controller each"):
        controller_of(two)
    controller.release()
    with pytest.raises(UserError, match="has no controller"):
        controller_of(model)


def test_regulating_twice_is_refused():
    """Fault: a second controller would have moved the same thresholds."""
    model = Net("lif")
    controller = regulate(model)
    with pytest.raises(UserError, match=r"Net is under a controller already.*controller_of"):
        regulate(model)
    with pytest.raises(UserError, match="under a controller already"):
        regulate(nn.Sequential(model))
    with pytest.raises(UserError, match="under a controller already"):  # fault: other groups were accepted
        regulate(model, groups={"a": "neurons.0"})
    controller.release()
    controller = regulate(model, groups={"a": "neurons.0"})
    with pytest.raises(UserError, match="under a controller already"):
        regulate(model, groups={"b": "neurons.1"})
    train(model, controller, steps=1)
    controller.release()
    regulate(model).release()


@pytest.mark.parametrize("save", [pickle.dumps, lambda model: torch.save(model, "/dev/null"), copy.deepcopy])
@pytest.mark.parametrize("auto", [True, False])
def test_models_can_be_saved_with_their_controller(save, auto):
    """Fault: under auto=True the hook was a closure, which cannot be pickled."""
    model = Net("lif")
    regulate(model, auto=auto)
    save(model)
    controller_of(model).release()


def test_a_copy_is_driven_by_the_optimiser_of_its_own_parameters():
    model = Net("lif")
    regulate(model, auto=True)
    train(model, steps=2)
    twin = pickle.loads(pickle.dumps(model))
    assert controller_of(twin) is not controller_of(model)
    assert controller_of(twin).model is twin
    before = scales(controller_of(model))
    train(twin, steps=2, start=2)
    assert scales(controller_of(model)) == before
    train(model, steps=2, start=2)
    assert scales(controller_of(twin)) == scales(controller_of(model))
    for each in (model, twin):
        controller_of(each).release()


def test_a_deleted_model_takes_its_hook_along():
    gc.collect()
    hooks = len(optimizer._global_optimizer_post_hooks)
    model = Net("lif")
    regulate(model, auto=True)
    assert len(optimizer._global_optimizer_post_hooks) == hooks + 1
    del model
    gc.collect()
    assert len(optimizer._global_optimizer_post_hooks) == hooks


@pytest.mark.parametrize("explicit", [True, False])
def test_a_frozen_part_in_eval_mode_ends_no_epoch(explicit):
    """Fault: the slow loop ran after every iteration, and the gains went to their maximum."""
    model = Net(threshold=20.0)
    if explicit:
        regulate(model, config=first(mu=0.1), auto=True)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)

    def iterate():
        model.train()
        model.neurons[0].eval()
        x, y = batch(0)
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
        return controller_of(model)._epochs

    for _ in range(3):
        assert iterate() == 0
    with torch.no_grad():
        model.eval()(batch(1)[0])
    assert iterate() == 1
    assert not explicit or controller_of(model).gammas()["mlp"] > 1
    controller_of(model).release()


@pytest.mark.parametrize("between", ["pause", "another optimiser"])
def test_an_epoch_ends_whatever_comes_between_a_forward_pass_and_the_step(between):
    model, other = Net(threshold=20.0), nn.Linear(2, 2)
    controller = regulate(model, config=first(mu=0.1), auto=True)
    optimiser, theirs = (torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, other))
    train(model, steps=1, opt=optimiser)
    with torch.no_grad():
        model.eval()(batch(1)[0])
    model.train()(batch(2)[0]).sum().backward()
    if between == "pause":
        with controller.paused():
            model(batch(3)[0])
    else:
        theirs.step()
    assert controller.gammas()["mlp"] == 1
    optimiser.step()
    assert controller.gammas()["mlp"] > 1
    controller.release()


def test_loaded_scales_are_noticed_in_a_step():
    model = Net()
    controller = regulate(model)
    for neuron in model.neurons:
        neuron.threshold_scale.fill_(0.5)
    train(model, controller, steps=1)
    assert [neuron.threshold_scale.item() for neuron in model.neurons] == pytest.approx([0.5] * 3, rel=0.2)


@pytest.mark.parametrize("auto", [True, False])
def test_loaded_scales_are_continued_from(auto):
    """Fault: a state dict that was loaded after regulate, as docs/regulate.md says, was lost at the first step."""
    model = Net(threshold=20.0)
    train(model, regulate(model), steps=10)
    learnt = controller_of(model).layers()
    resumed = Net(threshold=20.0)
    controller = regulate(resumed, auto=auto)
    resumed.load_state_dict(model.state_dict())
    assert scales(controller) == [layer["threshold_scale"] for layer in learnt.values()]
    train(resumed, None if auto else controller, steps=1)
    for neuron in model.neurons:  # a new controller that finds the scales does the same
        neuron.stop_observing()
    controller_of(model).leave()
    other = regulate(model)
    assert scales(other) == [layer["threshold_scale"] for layer in learnt.values()]
    train(model, other, steps=1, start=0)
    assert all(
        0.5 < new / old["threshold_scale"] <= 1 for new, old in zip(scales(controller), learnt.values(), strict=True)
    )
    assert max(scales(controller)) < 0.9
    for each in (controller, other):
        each.release()


def test_scales_loaded_before_the_end_of_an_epoch_are_kept():
    model = Net()
    controller = regulate(model)
    train(model, controller, steps=1)
    for neuron in model.neurons:
        neuron.threshold_scale.fill_(0.5)
    controller.epoch_end()  # within the band there is no energy, so that the gain stays
    assert scales(controller) == pytest.approx([0.5] * 3, rel=0.1)


def test_a_controller_that_was_released_says_so():
    model = Net()
    controller = regulate(model)
    train(model, controller, steps=1)
    last = controller.layers()
    controller.release()
    for call in (controller.step, controller.epoch_end):
        with pytest.raises(UserError, match=r"was released; regulate\(model\) creates a new one"):
            call()
    assert controller.layers() == last
    successor = regulate(model)
    train(model, successor, steps=1)
    before = scales(successor)
    controller.release()  # fault: it ended what had taken over
    controller.leave()
    train(model, successor, steps=1)
    assert scales(successor) != before
    successor.release()


def test_a_part_of_the_model_has_the_models_controller():
    model = Net("lif")
    controller = regulate(model)
    assert controller_of(model.neurons) is controller_of(torch.compile(model, backend="eager")) is controller
    with pytest.raises(UserError, match="no controller"):
        controller_of(model.fc)


class Module(nn.Module):
    """As Lightning has it: forward is not what training calls, and there is no loop to edit."""

    def __init__(self):
        super().__init__()
        self.net = Net("lif")

    def training_step(self, x, y):
        return nn.functional.cross_entropy(self.net(x), y)


def test_the_slow_loop_runs_when_training_goes_on_after_an_evaluation():
    """Fault: under auto=True a module whose forward is never called never ended an epoch."""
    module = Module()
    controller = regulate(module, config=first(mu=0.1, band=(0.9, 0.95)), auto=True)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    gains = []
    for _epoch in range(3):
        module.train()
        for i in range(2):
            optimiser.zero_grad()
            module.training_step(*batch(i)).backward()
            optimiser.step()
        gains.append(controller.gammas()["mlp"])
        module.eval()
        with torch.no_grad():
            for i in range(2):
                module.net(batch(i)[0])
    assert gains[0] == 1
    assert gains[0] < gains[1] < gains[2]  # once per epoch, not once per batch
    once = controller.gammas()["mlp"]
    assert once == gains[2]
    controller.release()


# -- controls ----------------------------------------------------------------------------------------------------------


def test_thresholds_rest_after_so_many_epochs():
    model = Net()
    controller = regulate(model, config=first(rest_after=2))
    for epoch in range(2):
        observe(model, 0.9, 0.0, 0.9)
        before = scales(controller)
        controller.step()
        assert all(now != was for now, was in zip(scales(controller), before, strict=True))
        controller.epoch_end(0.5 + epoch)
    at_rest, gains = scales(controller), controller.gammas()
    again = regulate(other := Net(), config=first(rest_after=2))
    other.load_state_dict(model.state_dict())
    again.load_state_dict(controller.state_dict())
    for each, given in ((model, controller), (other, again)):
        observe(each, 0.9, 0.0, 0.9)
        given.step()
        given.epoch_end(0.1)
        assert scales(given) == pytest.approx(at_rest)
        assert given.gammas() == gains
    assert controller.layers()["neurons.1"]["rate"] == 0.0  # rates are still told


def test_a_budget_rests_too():
    controller = regulate(model := Net(), config=first(budget=0.1, rest_after=1))
    controller.epoch_end(0.1)
    controller._calibration = None
    observe(model, 0.9, 0.0, 0.9)
    controller.step()
    assert scales(controller) == [1.0, 1.0, 1.0]


def test_a_placebo_does_not_look_at_rates():
    """It moves as far as the law can, and in the same way whatever the layers do."""

    def moved(rates, seed=0, steps=100):
        model = Net()
        torch.manual_seed(seed)
        controller = regulate(model, config=first(placebo=True, leak=0, diffusion=0))
        trace = []
        for _ in range(steps):
            observe(model, *rates)
            controller.step()
            trace.append(controller._h.tolist())
        controller.epoch_end(0.5)
        return torch.tensor(trace), scales(controller), controller.gammas()

    trace, found, gains = moved((0.3, 0.3, 0.3))
    assert moved((0.0, 0.9, 0.5))[1:] == (found, gains)
    assert moved((0.3, 0.3, 0.3), seed=1)[1] != found
    steps = trace.diff(dim=0)
    assert steps.abs().max() <= 0.2 * math.tanh(1) + 1e-6
    assert steps.mean().abs() < 0.03
    assert len({round(scale, 4) for scale in found}) == 3


def test_a_placebo_goes_on_from_its_state():
    straight, resumed = Net(), Net()
    config = first(placebo=True)
    controller, again = regulate(straight, config=config), regulate(resumed, config=config)
    observe(straight, 0.3, 0.3, 0.3)
    controller.step()
    resumed.load_state_dict(straight.state_dict())
    again.load_state_dict(controller.state_dict())
    for model, given in ((straight, controller), (resumed, again)):
        observe(model, 0.3, 0.3, 0.3)
        given.step()
    assert scales(again) == scales(controller)
    assert scales(controller_of(copy.deepcopy(straight))) == scales(controller)


def test_controls_that_contradict_each_other():
    with pytest.raises(UserError, match=r"ahsar.rest_after must be an epoch >= 1, got 0; without updates use k: 0"):
        first(rest_after=0)
    with pytest.raises(UserError, match=r"ahsar.placebo is about the law, and under a budget"):
        first(placebo=True, budget=0.1)
    with pytest.raises(UserError, match=r"ahsar.budget and ahsar.thresholds_of both set"):
        first(budget=0.2, thresholds_of="runs/x")
    assert AHSARConfig(thresholds_of="runs/x").level is None  # it takes the place of the calibrated start
