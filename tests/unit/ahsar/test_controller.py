"""The invariants of the controller that a model is needed for."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import optimizer
from torch.utils.checkpoint import checkpoint

from step_ahsar.ahsar import AHSARConfig, Controller, is_regulated, regulate
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron, create_neuron


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
    controller = regulate(off, config=AHSARConfig(gamma=0.0))
    assert train(plain)[0] == train(off, controller)[0]
    controller.epoch_end(0.5)
    assert scales(controller) == [1, 1, 1]
    for a, b in zip(plain.parameters(), off.parameters(), strict=True):
        assert torch.equal(a, b)


def test_without_steps_it_is_the_plain_neuron():
    plain, unused = Net("lif"), Net("ahsar")
    assert train(plain)[0] == train(unused)[0]


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
        controller = regulate(model, config=AHSARConfig(band=band))
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
    model(batch(0)[0])

    class NoItem(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            assert getattr(func, "__name__", "") not in ("item", "tolist", "__bool__", "__float__", "cpu", "nonzero")
            return func(*args, **(kwargs or {}))

    with NoItem():
        controller.step()


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
            for epoch in range(2):
                train(model.train(), loop, steps=3, start=3 * epoch)
                model.eval()(x)
                if loop:
                    loop.epoch_end()
        auto.train()(x)
        assert scales(driven) == scales(controller)
        assert driven.gammas() == controller.gammas()
    finally:
        driven.release()


def test_processes_see_the_joined_batch(monkeypatch):
    """Invariant 7, on one process: the all-reduce adds up what the others observed."""
    import torch.distributed as dist

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
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "all_reduce", lambda t: t.add_(elsewhere))
    split.step()
    assert scales(split) == pytest.approx(scales(joined), rel=1e-6)
    assert isinstance(split, Controller)
