import pytest
import torch

from step_ahsar.neurons import create_neuron

neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")

RESETS = {"hard": 0.0, "soft": None}
EXCITABLE = {"v_rest": 0.1, "v_reset": -0.2}
RECOVERY = {"tau_w": 3.0, "a": 0.3, "b": 0.2}


def of_both(name, node, ours, theirs):
    """Our neuron and their node in the same state, T = 4."""
    torch.manual_seed(0)
    mine = create_neuron(name, "spikingjelly", **ours)
    theirs = getattr(neuron, node)(**theirs)
    if hasattr(theirs, "step_mode"):
        theirs.step_mode = "m"
    return mine, theirs


def assert_same(mine, theirs, x):
    """The same spikes and gradients to the last bit."""
    x = x.requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    results = []
    for each in (mine, theirs):
        spikes = each(x)
        assert 0 < spikes.mean() < 1
        results.append([spikes, *torch.autograd.grad((spikes * weight).sum(), [x, *each.parameters()])])
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize(
    ("name", "node", "ours", "theirs"),
    [
        ("if", "IFNode", {}, {}),
        ("lif", "LIFNode", {"tau": 3.0}, {"tau": 3.0}),
        ("plif", "ParametricLIFNode", {"tau": 3.0}, {"init_tau": 3.0}),
        ("klif", "KLIFNode", {"tau": 3.0}, {"tau": 3.0}),
    ],
)
def test_neurons_with_a_choice_of_reset_are_nodes_of_spikingjelly(name, node, ours, theirs, reset):
    common = {"detach_reset": False, "surrogate_function": surrogate.Sigmoid(4.0), "v_reset": RESETS[reset]}
    pair = of_both(
        name,
        node,
        {"threshold": 0.5, "reset": reset, "detach_reset": False, **ours},
        {"v_threshold": 0.5, **common, **theirs},
    )
    assert_same(*pair, torch.randn(4, 3, 50))


@pytest.mark.parametrize(
    ("name", "node", "ours", "theirs"),
    [
        (
            "eif",
            "EIFNode",
            {"tau": 3.0, "delta_t": 0.5, "theta_rh": 0.6, **EXCITABLE},
            {"tau": 3.0, "delta_T": 0.5, "theta_rh": 0.6, **EXCITABLE},
        ),
        ("qif", "QIFNode", *[{"tau": 3.0, "a0": 0.7, "v_c": 0.6, **EXCITABLE}] * 2),
        ("izhikevich", "IzhikevichNode", *[{"tau": 3.0, "a0": 0.7, "v_c": 0.6, **EXCITABLE, **RECOVERY}] * 2),
    ],
)
def test_excitable_neurons_are_nodes_of_spikingjelly(name, node, ours, theirs):
    theirs = {"surrogate_function": surrogate.ATan(2.0), "detach_reset": True, **theirs}
    assert_same(*of_both(name, node, {"surrogate": "atan", **ours}, theirs), torch.randn(4, 3, 50))


@pytest.mark.parametrize(
    ("name", "node", "ours", "theirs"),
    [
        ("clif", "ComplementaryLIFNode", {"tau": 3.0}, {"tau": 3.0}),
        (
            "cubalif",
            "CUBALIFNode",
            {"current_decay": 0.4, "voltage_decay": 0.6, "detach_reset": False},
            {"c_decay": 0.4, "v_decay": 0.6, "surrogate_function": surrogate.Rect(1.0)},
        ),
        (
            "ilif",
            "ILIFNode",
            {"max_count": 3, "tau": 2.0},
            {"tau": 2.0, "surrogate_function": surrogate.MultiLevelSpikeCount(3), "detach_reset": True},
        ),
    ],
)
def test_other_neurons_are_nodes_of_spikingjelly(name, node, ours, theirs):
    assert_same(*of_both(name, node, ours, theirs), torch.randn(4, 3, 50))


@pytest.mark.parametrize(
    ("name", "node", "ours", "theirs"),
    [
        ("psn", "PSN", {"time_steps": 4}, {"T": 4}),
        ("masked_psn", "MaskedPSN", {"time_steps": 4, "order": 3}, {"T": 4, "k": 3, "lambda_init": 1.0}),
        (
            "masked_psn",
            "MaskedPSN",
            {"time_steps": 4, "order": 3, "masking": 0.25},
            {"T": 4, "k": 3, "lambda_init": 0.25},
        ),
        ("sliding_psn", "SlidingPSN", {"order": 3}, {"k": 3}),
    ],
)
def test_parallel_neurons_are_nodes_of_spikingjelly(name, node, ours, theirs):
    mine, theirs = of_both(name, node, ours, {"surrogate_function": surrogate.ATan(2.0), **theirs})
    theirs.load_state_dict(mine.state_dict(), strict=False)
    assert_same(mine, theirs, torch.randn(4, 3, 5, 10) * 3)


def test_gated_lif_is_spikingjellys():
    names = {
        "gate_decay": "alpha",
        "gate_input": "beta",
        "gate_reset": "gamma",
        "decay": "tau",
        "leak": "linear_decay",
        "subtract": "v_subreset",
        "level": "v_threshold",
        "conductance": "conduct",
    }
    mine, theirs = of_both(
        "glif",
        "GatedLIFNode",
        {"time_steps": 4, "channels": 6},
        {"T": 4, "inplane": 6, "surrogate_function": surrogate.Sigmoid(4.0)},
    )
    with torch.no_grad():
        for name, parameter in mine.named_parameters():
            getattr(theirs, names[name]).copy_(parameter.add_(torch.randn_like(parameter)))
    x = torch.randn(4, 3, 6, 2, 5, requires_grad=True)
    spikes, expected = mine(x), theirs(x)
    assert torch.equal(spikes, expected)
    wanted = dict(theirs.named_parameters())
    for name, parameter in mine.named_parameters():
        gradients = [
            torch.autograd.grad(s.sum(), p, retain_graph=True)[0]
            for s, p in ((spikes, parameter), (expected, wanted[names[name]]))
        ]
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_integer_neurons_scale_their_input():
    """An input of x / s at the threshold 1 is x at the threshold s."""
    x = torch.randn(4, 3, 50) * 4
    for name in ("ilif", "nilif"):
        regulated = create_neuron("ahsar", "spikingjelly", base=name)
        regulated.threshold_scale.fill_(0.7)
        expected = create_neuron(name, "spikingjelly", threshold=0.7)
        assert (regulated(x) != expected(x)).float().mean() < 1e-3


def test_surrogates_are_not_shared():
    first, second = (create_neuron("lif", "spikingjelly") for _ in range(2))
    assert isinstance(first.fire, surrogate.Sigmoid)
    assert first.fire is not second.fire
    assert first.fire is not neuron.LIFNode().surrogate_function


def test_plain_neurons_run_fused_and_regulated_ones_read_no_tensor(monkeypatch):
    """A fused kernel takes a float threshold; asking a tensor for it would make the host wait for the device."""
    calls = []
    lif = torch.ops.sj_lif.forward
    monkeypatch.setattr("spikingjelly._ops.lif._forward", lambda *args: calls.append(args) or lif.default(*args))
    x = torch.randn(4, 2, 3)
    create_neuron("lif", "spikingjelly", threshold=0.5)(x)
    assert len(calls) == 1
    regulated = create_neuron("ahsar", "spikingjelly", base="lif", threshold=0.5)
    monkeypatch.setattr(torch.Tensor, "item", lambda *_: pytest.fail("item()"))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda *_: pytest.fail("float()"))
    regulated(x)
    assert len(calls) == 1
