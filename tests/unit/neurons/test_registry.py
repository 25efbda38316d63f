import pytest
import torch
from torch import nn

from step_ahsar import plugins
from step_ahsar.errors import UserError
from step_ahsar.libraries import list_libraries
from step_ahsar.neurons import (
    SpikingNeuron,
    create_neuron,
    list_backends,
    list_neurons,
    neuron_kind,
    register_neuron,
    registry,
)


def test_lists():
    assert {"if", "lif", "plif", "ahsar"} <= set(list_neurons("torch"))
    assert "torch" in list_backends()
    assert set(list_backends()) >= {"torch", *list_libraries()}
    common = ["threshold", "surrogate", "alpha", "reset", "detach_reset", "surrogate_scale"]
    assert list(neuron_kind("if").options) == common
    assert set(neuron_kind("lif").options) == {*neuron_kind("if").options, "tau"}


def test_one_place_says_what_a_neuron_is():
    plain, regulated = neuron_kind("plif"), neuron_kind("ahsar", base="plif")
    assert (plain.base, plain.regulated, plain.threshold) == ("plif", False, 1.0)
    assert (regulated.base, regulated.regulated, regulated.threshold) == ("plif", True, 1.0)
    assert regulated.options == {"base": "plif", **plain.options}
    assert neuron_kind("ahsar").base == "lif"
    assert neuron_kind("ltmd").threshold == pytest.approx(0.4621, abs=1e-4)  # tanh(1/2), the paper's


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"name": "liff"}, "unknown neuron 'liff'; did you mean 'lif'"),
        ({"name": "lif", "backend": "tocrh"}, "unknown backend 'tocrh'; did you mean 'torch'"),
        ({"name": "lif", "treshold": 1.0}, "'treshold'; did you mean 'threshold'"),
        ({"name": "if", "tau": 2.0}, "unknown option of neuron 'if' on backend 'torch': 'tau'"),
        ({"name": "ahsar", "base": "liff"}, "did you mean 'lif'"),
        ({"name": "ahsar", "base": "ahsar"}, "must be a neuron that is not regulated itself"),
        ({"name": "ahsar", "tauu": 2.0}, "did you mean 'tau'"),
        ({"name": "lif", "group": "attn"}, "unknown group 'attn'"),
        ({"name": "lif", "surrogate": "atn"}, "did you mean 'atan'"),
        ({"name": "lif", "reset": "zero"}, "unknown reset 'zero'"),
        ({"name": "lif", "threshold": 0.0}, "threshold must be > 0"),
        ({"name": "lif", "threshold": float("nan")}, "threshold must be > 0"),
        ({"name": "lif", "tau": 1.0}, "tau must be > 1"),
        ({"name": "plif", "tau": 0.5}, "tau must be > 1"),
        ({"name": "lif", "alpha": -1.0}, "alpha must be > 0"),
    ],
)
def test_errors_name_the_fault_and_the_way_out(kwargs, message):
    with pytest.raises(UserError, match=message):
        create_neuron(**kwargs)


def test_duplicate_registration_is_refused():
    with pytest.raises(UserError, match="'lif' is already registered on backend 'torch'"):

        @register_neuron("lif", backend="torch")
        class Another(SpikingNeuron):
            pass


def test_third_parties_come_by_entry_point(monkeypatch):
    class Entry:
        name = "others"

        def load(self):
            register_neuron("silent", backend="elsewhere")(Silent)

    class Silent(SpikingNeuron):
        def simulate(self, x):
            return 0 * x, None

    list_neurons()  # what is installed is loaded
    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry()] if group == "step_ahsar.plugins" else [])
    monkeypatch.setattr(plugins, "_begun", False)
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    registry._load_others.cache_clear()
    assert isinstance(create_neuron("silent", backend="elsewhere", threshold=3.0), Silent)
    assert create_neuron("ahsar", backend="elsewhere", base="silent").threshold_scale == 1
    with pytest.raises(UserError, match="it exists on: elsewhere"):
        create_neuron("silent")


def test_repr_shows_every_option():
    neuron = create_neuron("plif", threshold=2.0, tau=4.0, group="mlp")
    assert isinstance(neuron, nn.Module)
    assert all(f"{option}=" in repr(neuron) for option in (*neuron_kind("plif").options, "group"))
    assert "regulated" in repr(create_neuron("ahsar"))


@pytest.mark.parametrize("name", ["psn", "glif", "hdlif"])
def test_creating_a_neuron_draws_nothing_from_the_weights_stream(name):
    sizes = {"time_steps": 4, "channels": 3}
    options = {key: value for key, value in sizes.items() if key in (neuron_kind(name).options or {})}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = create_neuron(name, **options)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), create_neuron(name, **options).parameters(), strict=True):
        assert torch.equal(a, b)
    torch.rand(())  # as the weights of a layer in between do
    again = create_neuron(name, **options)
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
