import pytest
import torch
from torch import nn

from step_ahsar.ahsar import controller_of, fold, is_regulated, regulate
from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, SpikingConv
from step_ahsar.neurons import SpikingNeuron, create_neuron, list_neurons, neuron_kind

timm = pytest.importorskip("timm")


def regulated_model(name, **kwargs):
    import step_ahsar.models  # noqa: F401  (registers the models)

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, in_chans=1, img_size=16, neuron="ahsar", **kwargs)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 1.0)
        if isinstance(module, SpikingNeuron):
            module.threshold_scale.uniform_(0.4, 1.6)
    x = torch.rand(16, 1, 16, 16)
    with torch.no_grad():
        model.train()(x)  # norms that have seen data
    return model.eval(), x


@pytest.mark.parametrize("name", ["spikformer_2_64", "qkformer_3_64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"base": "plif"},
        {"base": "if", "reset": "soft"},
        {"base": "nilif"},
        {"backend": "spikingjelly"},
        {"backend": "spikingjelly", "base": "klif"},
        {"backend": "braincog"},
        {"backend": "braincog", "base": "plif"},
    ],
    ids=lambda options: "-".join(options.values()) or "lif",
)
def test_folded_model_is_plain_and_spikes_the_same(name, options):
    """Invariant 9."""
    if "backend" in options:
        pytest.importorskip(options["backend"])
    model, x = regulated_model(name, **options)
    folded = fold(model)
    assert not is_regulated(folded)
    assert is_regulated(model)
    fired: dict[nn.Module, list] = {model: [], folded: []}
    with torch.no_grad():
        for m, spikes in fired.items():
            for neuron in (n for n in m.modules() if isinstance(n, SpikingNeuron)):
                neuron.register_forward_hook(lambda _, __, out, spikes=spikes: spikes.append(out))
        logits = model(x), folded(x)
    assert sum(s.sum() for s in fired[model]) > 0
    assert sum((a != b).sum() for a, b in zip(*fired.values(), strict=True)) == 0
    assert torch.equal(*logits)
    plain = timm.create_model(
        name, num_classes=5, in_chans=1, img_size=16, neuron=options.get("base", "lif"),
        **{k: v for k, v in options.items() if k != "base"},
    )  # fmt: skip
    plain.load_state_dict(folded.state_dict())  # a plain model's keys
    assert [n.threshold for n in plain.modules() if isinstance(n, SpikingNeuron)] == [
        n.threshold for n in folded.modules() if isinstance(n, SpikingNeuron)
    ]


def test_the_folded_model_has_no_controller_and_can_be_trained():
    model, x = regulated_model("spikformer_2_64")
    regulate(model, auto=True)
    folded = fold(model.train())
    with pytest.raises(UserError, match="no controller"):
        controller_of(folded)
    optimiser = torch.optim.SGD(folded.parameters(), lr=0.1)
    folded(x).sum().backward()
    optimiser.step()
    assert not is_regulated(folded)
    assert controller_of(model).model is model


@pytest.mark.parametrize("name", [name for name in list_neurons("torch") if name != "ahsar"])
def test_without_a_layer_that_can_fold_the_threshold_itself_is_replaced(name):
    """Fault: neurons that do not use ``.threshold`` (rouser, the parallel ones) lost their scale."""
    known = neuron_kind(name).options
    sizes = {size: n for size, n in {"time_steps": 4, "channels": 5}.items() if size in known}
    torch.manual_seed(0)
    model = nn.Sequential(create_neuron(name, **sizes)).eval()
    regulate(model)
    x = torch.randn(4, 3, 5) * 3
    plain = model(x)
    model[0].threshold_scale.fill_(0.5)  # a power of two, so that rounding is the same
    folded = fold(model)
    assert not is_regulated(folded)
    assert torch.equal(folded(x), model(x))
    assert not torch.equal(folded(x), plain)


def test_what_cannot_be_folded_is_named():
    class Odd(type(create_neuron("lif"))):
        scales_with_input = False

    model = nn.Sequential(SpikingConv(3, 3, Blueprint(), "mlp"))
    model[0].neuron = Odd()
    regulate(model)
    with pytest.raises(UserError, match=r"layer '0\.neuron' cannot be folded: for 'lif', scaling the input is not"):
        fold(model)


@pytest.mark.parametrize(
    ("options", "stays"),
    [
        ({}, 0),
        ({"norm": "tdbn"}, 0),
        ({"norm": "none", "threshold": 0.3}, 0),
        ({"norm": "tebn"}, 1),
        ({"weight_bits": 4}, 1),
    ],
    ids=["bn", "tdbn", "none", "tebn", "quantised"],
)
@torch.no_grad()
def test_norms_become_weights(options, stays):
    """And scales that come later do, too."""
    model, x = regulated_model("spikformer_2_64", **options)
    model, x = model.double(), x.double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eps = 0.1
    logits = model(x)
    folded = fold(model, norms=True)
    torch.testing.assert_close(folded(x), logits, rtol=0, atol=1e-9)
    convs = [module for module in folded.modules() if isinstance(module, SpikingConv)]
    assert {not isinstance(conv.norm, nn.Identity) for conv in convs} == {bool(stays)}
    assert not any(isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d) for module in folded.modules()) or stays
    regulate(folded)
    for module in folded.modules():
        if isinstance(module, SpikingNeuron):
            module.threshold_scale.fill_(0.7)
    moved = folded(x)
    assert not torch.allclose(moved, logits)
    torch.testing.assert_close(fold(folded, norms=True)(x), moved, rtol=0, atol=1e-9)
