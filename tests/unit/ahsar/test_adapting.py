"""Adaptation at test time: thresholds that lead layers back to the rates they had on clean data."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from step_ahsar.ahsar import Adaptation, adapt_thresholds, controller_of, fold, record_rates, regulate
from step_ahsar.ahsar.adapting import WINDOW
from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_neurons

T, C = 4, 6
STEADY = {"threshold": 0.5}
OPTIONS = {name: {"time_steps": T} for name in ("ds_atgo", "glif", "hdlif", "masked_psn", "psn")}
OPTIONS["hdlif"]["channels"] = C


class Net(nn.Module):
    """[T, B, C] -> [T, B, 64], three layers."""

    def __init__(self, neuron="lif", norm=False):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = nn.Linear(C, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.norm = nn.BatchNorm1d(64) if norm else nn.Identity()
        self.a, self.b, self.c = (create_neuron(neuron, **STEADY) for _ in range(3))

    def forward(self, x):
        one = self.a(self.norm(self.first(x).flatten(0, 1)).unflatten(0, x.shape[:2]))
        return self.c(3 * self.third(self.b(3 * self.second(one))))


def inputs(factor=1.0, number=8, size=32, seed=1):
    drawn = torch.randn(number, T, size, C, generator=torch.Generator().manual_seed(seed))
    return list(2 * factor * drawn)


def rates_of(model, batches):
    found = {}

    def keep(name):
        return lambda _, __, spikes: found.setdefault(name, []).append(spikes.mean())

    hooks = [getattr(model, name).register_forward_hook(keep(name)) for name in "abc"]
    with torch.no_grad():
        for x in batches:
            model(x)
    for hook in hooks:
        hook.remove()
    return {name: torch.stack(values).mean().item() for name, values in found.items()}


def scales(model):
    return [getattr(model, name).threshold_scale.item() for name in "abc"]


def adapted(model, batches, **options):
    found = adapt_thresholds(model, batches, batch_axis=1, **options)
    return found, scales(model)


def test_rates_are_those_of_the_layers():
    model = Net().train()
    keys = list(model.state_dict())
    found = record_rates(model, [(x, "a label") for x in inputs()])
    assert found == pytest.approx(rates_of(model.eval(), inputs()), rel=1e-6)
    assert list(found) == ["a", "b", "c"]
    assert list(model.state_dict()) == keys  # a plain model stays one
    assert model.a.observed is None


def test_modes_are_left_as_they_were():
    model = Net().train()
    model.second.eval()
    record_rates(model, inputs())
    adapt_thresholds(model, inputs(0.6), batch_axis=1)
    assert model.training
    assert model.a.training
    assert not model.second.training


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.5, 4.0])
def test_every_layer_is_led_back(factor):
    model = Net()
    clean = record_rates(model, inputs())
    shifted = inputs(factor, seed=2)
    before = rates_of(model.eval(), shifted)
    found, _ = adapted(model, shifted)
    after = rates_of(model, shifted)
    for name, rate in clean.items():
        assert after[name] == pytest.approx(rate, rel=0.1)
        assert found[name] == pytest.approx(rate, rel=0.1)
    assert abs(before["a"] / clean["a"] - 1) > 0.2


def test_weights_and_norms_are_not_touched():
    model = Net(norm=True)
    with torch.no_grad():
        model.train()(inputs()[0])
    record_rates(model, inputs())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted(model, inputs(0.6))
    after = model.state_dict()
    assert set(after) - set(before) == {f"{name}.threshold_scale" for name in "abc"}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in model.parameters())


def test_the_size_of_batches_does_not_matter():
    """A batch of one sample does not move thresholds by itself."""
    every = torch.cat(inputs(0.6), dim=1)
    found = []
    for size in (1, 8, WINDOW):
        model = Net()
        record_rates(model, inputs())
        found.append(adapted(model, every.split(size, dim=1))[1])
    assert found[0] == pytest.approx(found[2], rel=1e-5)
    assert found[1] == pytest.approx(found[2], rel=1e-5)
    model = Net()
    record_rates(model, inputs())
    assert adapted(model, [every])[1] == pytest.approx(found[2], rel=0.1)


def test_steps_are_the_most_changes_of_thresholds(monkeypatch):
    seen = []
    step = Adaptation.step

    def counted(self, samples):
        before = self._moved.clone()
        step(self, samples)
        seen.append(not torch.equal(before, self._moved))

    monkeypatch.setattr(Adaptation, "step", counted)
    model = Net()
    record_rates(model, inputs())
    with pytest.warns(UserWarning, match=r"could not be adapted in 3 steps; firing rates: . 0\.\d+ in place of 0"):
        adapted(model, inputs(0.1), steps=3)
    # The last one only measures what was reached.
    assert seen == [True, True, True, False]


def test_a_refused_adaptation_leaves_the_model_as_it_was():
    model = Net().eval()
    keys = list(model.state_dict())
    with pytest.raises(UserError, match="the firing rates are of another model"):
        Adaptation(model, {"nope": 0.2})
    record_rates(model, inputs())
    with pytest.raises(UserError, match="adaptation needs 32 samples"):
        adapt_thresholds(model, [], batch_axis=1)
    assert list(model.state_dict()) == keys


def test_few_inputs_are_gone_through_again():
    model = Net()
    model_rates = record_rates(model, inputs())
    few = inputs(0.6)[0][:, :8]
    found, _ = adapted(model, [few])
    assert found == pytest.approx(rates_of(model, [few]), rel=1e-5)
    assert found["a"] == pytest.approx(model_rates["a"], rel=0.1)
    with pytest.raises(UserError, match="adaptation needs 32 samples, or batches that can be gone through again"):
        adapt_thresholds(model, iter([inputs()[0][:, :8]]), batch_axis=1)
    with pytest.raises(UserError, match="adaptation needs 32 samples"):
        adapt_thresholds(model, [], batch_axis=1)


def test_a_folded_model_is_adapted_alike():
    """Its norm is in its weights, and its thresholds from training are, too."""
    model = Net("ahsar", norm=True).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for x in inputs(number=5):
        model(x).mean().backward()
        optimizer.step()
    model.eval()
    trained = scales(model)
    assert max(abs(scale - 1) for scale in trained) > 0.05
    plain = fold(model)
    plain.first, plain.norm = fuse_linear(plain.first, plain.norm), nn.Identity()
    controller_of(model).leave()
    clean = record_rates(model, inputs())
    assert record_rates(plain, inputs()) == pytest.approx(clean, rel=1e-3)
    for each in (model, plain):
        adapted(each, inputs(0.6))
    relative = [now / before for now, before in zip(scales(model), trained, strict=True)]
    assert scales(plain) == pytest.approx(relative, rel=1e-3)


def fuse_linear(linear, norm):
    conv = nn.Conv1d(linear.in_features, linear.out_features, 1)
    with torch.no_grad():
        conv.weight.copy_(linear.weight[..., None])
        conv.bias.copy_(linear.bias)
    fused = fuse_conv_bn_eval(conv.eval(), norm.eval())
    found = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        found.weight.copy_(fused.weight[..., 0])
        found.bias.copy_(fused.bias)
    return found


def test_copies_have_the_rates():
    model = Net("ahsar")
    clean = record_rates(model, inputs())
    for each in (copy.deepcopy(model), fold(model)):
        found, _ = adapted(each, inputs(0.7))
        assert found == pytest.approx(clean, rel=0.1)
    assert "threshold_scale" in "".join(model.state_dict())


@pytest.mark.parametrize("name", list_neurons())
def test_every_neuron_of_the_registry(name):
    torch.manual_seed(3)
    x = 2 * torch.randn(T, 64, C, 5)
    model = nn.Sequential(create_neuron(name, **OPTIONS.get(name, {}))).eval()
    clean = record_rates(model, [x])["0"]
    assert clean > 0
    found = adapt_thresholds(model, [1.5 * x], batch_axis=1)["0"]
    assert found == pytest.approx(clean, rel=0.1)
    assert model[0].threshold_scale > 1.05


def test_nodes_of_another_library():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason="spikingjelly is optional")
    functional = pytest.importorskip("spikingjelly.activation_based.functional")
    node = neuron.LIFNode(step_mode="m", v_threshold=0.5)
    model = nn.Sequential(node)
    model.register_forward_pre_hook(lambda *_: functional.reset_net(node))
    clean = record_rates(model, inputs())["0"]
    assert getattr(node, "threshold_scale", None) is None
    found = adapt_thresholds(model, inputs(0.6), batch_axis=1)["0"]
    assert found == pytest.approx(clean, rel=0.05)
    assert node.threshold_scale < 0.9
    assert node.v_threshold == 0.5


def test_a_compiled_model():
    model = Net()
    clean = record_rates(model, inputs())
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    with torch.no_grad():
        compiled.eval()(inputs()[0])
    found, by_model = adapted(model, inputs(0.6))
    again = adapt_thresholds(compiled, inputs(0.6), batch_axis=1)
    assert again == pytest.approx(found)
    assert found == pytest.approx(clean, rel=0.1)
    assert scales(compiled) == pytest.approx(by_model)
    with torch.no_grad():  # what was compiled reads the new thresholds
        assert compiled(inputs(0.6)[0]).mean().item() == pytest.approx(model.eval()(inputs(0.6)[0]).mean().item())


# -- targets -----------------------------------------------------------------------------------------------------------


def test_a_layer_that_was_silent_is_left_alone():
    model = Net()
    found = record_rates(model, inputs())
    _, after = adapted(model, inputs(0.6), rates=found | {"b": 0.0})
    assert after[1] == 1
    _, after = adapted(Net(), inputs(0.6), rates={"a": found["a"]})
    assert after[0] < 0.9
    assert after[1:] == [1, 1]


def test_a_layer_that_fires_at_most_steps_can_be_led_there():
    model = nn.Sequential(create_neuron("if"))
    x = torch.rand(8, 64, 100)
    found = adapt_thresholds(model, [x], rates={"0": 0.7}, batch_axis=1)
    assert found["0"] == pytest.approx(0.7, rel=0.05)


def test_thresholds_move_by_no_more_than_a_factor_of_eight():
    model = nn.Sequential(create_neuron("lif"))
    with pytest.warns(UserWarning, match=r"not be adapted in 25 steps; firing rates: 0 0 in place of 0\.2"):
        adapt_thresholds(model, [torch.zeros(T, 32, C)], rates={"0": 0.2}, batch_axis=1)
    assert model[0].threshold_scale.item() == pytest.approx(1 / 8)
    with pytest.warns(UserWarning, match="firing rates: 0 1 in place of"):
        adapt_thresholds(model, [torch.full((T, 32, C), 1e3)], rates={"0": 0.2}, batch_axis=1)
    assert model[0].threshold_scale.item() == pytest.approx(1)


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_that_shifts():
    model = Net().eval()
    clean = record_rates(model, inputs())
    adaptation = Adaptation(model)

    @torch.no_grad()
    def run(factor, seed):
        for x in inputs(factor, number=40, seed=seed):
            model(x)
            adaptation.step(samples=x.shape[1])

    run(1.0, seed=3)
    assert adaptation.settled
    assert scales(model) == pytest.approx([1, 1, 1], abs=0.1)
    at_rest = scales(model)
    run(1.1, seed=4)  # a small shift
    assert scales(model) == at_rest
    for factor, seed in ((0.4, 5), (2.5, 6)):
        run(factor, seed)
        assert adaptation.settled
        assert rates_of(model, inputs(factor, seed=seed)) == pytest.approx(clean, rel=0.1)
        at_rest = scales(model)
        run(factor, seed + 10)
        assert scales(model) == at_rest
    adaptation.end()
    assert model.a.observed is None
    run_on = inputs(0.4)
    rates_of(model, run_on)
    assert scales(model) == at_rest


def test_afterwards_a_controller_counts_training_alone():
    model = Net()
    record_rates(model, inputs())
    adapted(model, inputs(0.6))
    regulate(model)
    with torch.no_grad():
        model.eval()(inputs()[0])
    assert model.a.observed.tolist() == [0.0, 0.0]
    assert model.a.evaluated


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_adapted():
    model = Net()
    with pytest.raises(UserError, match=r"Net has no saved firing rates; .* record_rates\(model, batches\)"):
        adapt_thresholds(model, inputs())
    with pytest.raises(UserError, match="are of another model: there is no spiking layer d"):
        adapt_thresholds(model, inputs(), rates={"a": 0.1, "d": 0.1})
    assert model.a.observed is None
    with pytest.raises(UserError, match="steps must be >= 1, got 0"):
        adapt_thresholds(model, inputs(), steps=0, rates={"a": 0.1})
    model.train()
    with pytest.raises(UserError, match=r"call model.eval\(\) first; in training mode is Net, first, second and"):
        Adaptation(model, {"a": 0.1})
    with pytest.raises(UserError, match="no batch, or no spiking layer ran"):
        record_rates(model, [])
    with pytest.raises(UserError, match="Linear holds no spiking neuron"):
        record_rates(nn.Linear(2, 2), inputs())
    regulate(model)
    for act in (lambda: record_rates(model, inputs()), lambda: adapt_thresholds(model, inputs(), rates={"a": 0.1})):
        with pytest.raises(UserError, match=r"Net is under a controller; end it first.*controller_of\(model\).leave"):
            act()
    assert model.a.observed is not None  # the controller goes on


def test_a_layer_that_cannot_be_regulated_leaves_the_model_as_it_was():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron", reason="spikingjelly is optional")
    model = nn.Sequential(create_neuron("lif"), neuron.DSRIFNode())
    with pytest.raises(UserError, match="layer '1': DSRIFNode cannot be regulated"):
        record_rates(model, inputs())
    assert model[0].threshold_scale is None
    assert model[0].observed is None


def test_thresholds_stay_numbers():
    model = Net()
    record_rates(model, inputs())
    with pytest.warns(UserWarning, match="could not be adapted in 25 steps; firing rates: a 0 in place of"):
        _, found = adapted(model, [torch.full((T, 32, C), math.nan)])
    assert all(math.isfinite(scale) for scale in found)
