"""What the neurons take and refuse."""

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_neurons, neuron_kind
from step_ahsar.neurons.torch import HodgkinHuxley

COMMON = {"threshold", "surrogate", "alpha", "reset", "detach_reset", "surrogate_scale"}
OTHER_THRESHOLDS = COMMON - {"surrogate_scale"}  # whose threshold or surrogate is of their own
OWN = {
    "clif": COMMON - {"reset", "detach_reset"} | {"tau"},
    "cubalif": COMMON | {"current_decay", "voltage_decay"},
    "ds_atgo": OTHER_THRESHOLDS | {"time_steps", "tau"},
    "eif": COMMON - {"reset"} | {"tau", "v_rest", "v_reset", "delta_t", "theta_rh"},
    "glif": OTHER_THRESHOLDS - {"reset", "detach_reset"} | {"time_steps", "channels", "tau"},
    "hdlif": OTHER_THRESHOLDS - {"reset"} | {"time_steps", "channels", "tau"},
    "hodgkin_huxley": OTHER_THRESHOLDS - {"reset", "detach_reset"} | {"current", "dt"},
    "ilif": {"threshold", "detach_reset", "max_count", "tau"},
    "izhikevich": COMMON - {"reset"} | {"tau", "v_rest", "v_reset", "a0", "v_c", "tau_w", "a", "b"},
    "klif": COMMON | {"tau"},
    "ltmd": OTHER_THRESHOLDS | {"tau"},
    "masked_psn": {"threshold", "surrogate", "alpha", "time_steps", "order", "masking"},
    "nilif": {"threshold", "detach_reset", "max_count", "tau"},
    "psn": {"threshold", "surrogate", "alpha", "time_steps"},
    "qif": COMMON - {"reset"} | {"tau", "v_rest", "v_reset", "a0", "v_c"},
    "rouser": OTHER_THRESHOLDS | {"channels", "tau"},
    "sliding_psn": {"threshold", "surrogate", "alpha", "order"},
    "ternary_if": COMMON,
    "ternary_lif": COMMON | {"tau"},
    "trsg": OTHER_THRESHOLDS - {"reset"} | {"tau"},
}


@pytest.mark.parametrize("name", sorted(OWN))
def test_options(name):
    assert set(neuron_kind(name).options) == OWN[name]


def test_all_are_listed():
    assert set(list_neurons("torch")) == {*OWN, "if", "lif", "plif", "ahsar"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("psn", {}, "neuron 'psn' needs time_steps, an integer >= 1, got None"),
        ("masked_psn", {"time_steps": 0}, "needs time_steps, an integer >= 1, got 0"),
        ("masked_psn", {"time_steps": 4, "order": 0}, "needs order, an integer >= 1, got 0"),
        ("masked_psn", {"time_steps": 4, "masking": 1.5}, r"masking must be in \[0, 1\], got 1.5"),
        ("sliding_psn", {"order": 1.5}, "needs order, an integer >= 1, got 1.5"),
        ("sliding_psn", {"time_steps": 4}, "unknown option of neuron 'sliding_psn'"),
        ("glif", {}, "neuron 'glif' needs time_steps"),
        ("glif", {"time_steps": 4, "channels": 0}, "needs channels, an integer >= 1, got 0"),
        ("glif", {"time_steps": 4, "reset": "soft"}, "unknown option of neuron 'glif' on backend 'torch': 'reset'"),
        ("hdlif", {"time_steps": 4}, "neuron 'hdlif' needs channels"),
        ("ds_atgo", {}, "neuron 'ds_atgo' needs time_steps"),
        ("trsg", {"reset": "hard"}, "'reset'"),
        ("lif", {"surrogate_scale": "v"}, "surrogate_scale must be null or theta, got 'v' \\(neuron 'lif'\\)"),
        ("if", {"surrogate_scale": "theta", "surrogate": "triangle"}, "width of surrogate 'triangle' does not follow"),
        ("rouser", {"surrogate_scale": "theta"}, "'surrogate_scale'"),
        ("rouser", {"channels": True}, "needs channels, an integer >= 1, got True"),
        ("ilif", {"max_count": 0}, "needs max_count, an integer >= 1, got 0"),
        ("ilif", {"surrogate": "atan"}, "'surrogate'"),
        ("clif", {"reset": "hard"}, "'reset'"),
        ("eif", {"reset": "soft"}, "'reset'"),
        ("eif", {"delta_t": 0.0}, "delta_t must be > 0, got 0.0"),
        ("qif", {"a0": -1.0}, "a0 must be > 0, got -1.0"),
        ("qif", {"v_reset": 0.1}, "v_reset must be <= 0, below every threshold, got 0.1"),
        ("izhikevich", {"tau_w": 1.0}, "tau_w must be > 1, got 1.0"),
        ("cubalif", {"current_decay": 1.0}, r"current_decay must be in \[0, 1\), got 1.0"),
        ("cubalif", {"voltage_decay": -0.1}, r"voltage_decay must be in \[0, 1\), got -0.1"),
        ("cubalif", {"tau": 2.0}, "'tau'"),
        ("hodgkin_huxley", {"current": 0.0}, "current must be > 0, got 0.0"),
        ("hodgkin_huxley", {"dt": float("nan")}, "dt must be > 0, got nan"),
        *(
            (name, {"tau": 1.0}, r"tau must be > 1, got 1.0")
            for name in ("klif", "clif", "eif", "ilif", "rouser", "ltmd", "ternary_lif", "trsg")
        ),
        ("ds_atgo", {"time_steps": 4, "tau": 1.0}, "tau must be > 1"),
        ("glif", {"time_steps": 4, "tau": 1.0}, "tau must be > 1"),
        ("hdlif", {"time_steps": 4, "channels": 2, "tau": 1.0}, "tau must be > 1"),
    ],
)
def test_bad_values(name, options, message):
    with pytest.raises(UserError, match=message) as error:
        create_neuron(name, **options)
    assert "\n" not in str(error.value)


def test_what_a_neuron_is_without_is_no_argument_either():
    with pytest.raises(TypeError, match="reset"):
        HodgkinHuxley(reset="soft")
    with pytest.raises(UserError, match="neuron 'hodgkin_huxley' has no surrogate_scale"):
        HodgkinHuxley(surrogate_scale="theta")


@pytest.mark.parametrize("name", sorted({*OWN, "if", "lif", "plif"}))
def test_streaming(name):
    known = neuron_kind(name).options
    sizes = {size: n for size, n in {"time_steps": 5, "channels": 4}.items() if size in known}
    neuron, x = create_neuron(name, **sizes), torch.randn(5, 3, 4) * 2
    if "time_steps" in known or name == "sliding_psn":
        with pytest.raises(UserError, match=f"neuron {name!r} cannot stream"):
            neuron.stream(x)
        return
    first, state = neuron.stream(x[:2])
    last, _ = neuron.stream(x[2:], state)
    assert torch.equal(torch.cat([first, last]), neuron(x))
