"""What is peculiar to single families: what they refuse, and what they are besides their layers."""

from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrize

import step_ahsar.models  # noqa: F401
from step_ahsar.ahsar import AHSARConfig, fold, regulate
from step_ahsar.errors import UserError
from step_ahsar.layers import SpikingConv
from step_ahsar.neurons import SpikingNeuron


def create(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **{"threshold": 0.3, **options}).eval()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# -- bound to a size or to T -------------------------------------------------------------------------------------------


def test_swformer_takes_powers_of_2() -> None:
    model = create("swformer_2_64")
    assert model(images(2, 3, 32, 16)).shape == (2, 10)
    with pytest.raises(
        UserError, match="cannot take size 24x32: height and width must be 4 times a power of 2, such as 16"
    ):
        model(images(2, 3, 24, 32))
    with pytest.raises(
        UserError, match=r"cannot take size 224x224: height and width must be 16 times .* such as 128 or 256"
    ):
        create("swformer_imagenet_2_64", img_size=224)
    with pytest.raises(UserError, match="3 blocks of channels must divide 64 channels"):
        create("swformer_2_64", heads=3)


@pytest.mark.parametrize(("length", "padded"), [(64, 64), (65, 128), (100, 128), (3, 4)])
@torch.no_grad()
def test_swformer_pads_sequences_to_a_power_of_2(length: int, padded: int) -> None:
    model = create("swformer_seq_2_64", img_size=length)
    x = images(2, 1, length)
    assert model.forward_features(x).shape[-1] == padded // model.stride
    assert torch.equal(model(x), model(nn.functional.pad(x, (0, padded - length))))


def test_tim_takes_one_number_of_tokens() -> None:
    model = create("tim_dvs_2_64")
    assert model(images(2, 2, 32, 32)).shape == (2, 10)
    with pytest.raises(UserError, match="TIM was made for 16 tokens, got 64; img_size sets their number"):
        model(images(2, 2, 64, 64))
    assert create("tim_dvs_2_64", img_size=64)(images(2, 2, 64, 64)).shape == (2, 10)
    with pytest.raises(UserError, match=r"mixing of TIM must be in \(0, 1\), got 1"):
        create("tim_dvs_2_64", mixing=1.0)


def test_sglformers_learnt_pool_takes_one_size_and_one_t() -> None:
    model = create("sglformer_2_64")
    assert model(images(2, 3, 32, 32)).shape == (2, 10)
    message = "was made for 4 time steps and 64 tokens, got {} and {}; learnt_pool=False takes any"
    with pytest.raises(UserError, match=message.format(4, 16)):
        model(images(2, 3, 16, 16))
    with pytest.raises(UserError, match=message.format(3, 64)):
        model(images(3, 2, 3, 32, 32))
    with pytest.raises(UserError, match=r"has no logits for each time step \(per_step\)"):
        create("sglformer_2_64", per_step=True)
    assert create("sglformer_2_64", learnt_pool=False)(images(3, 2, 3, 16, 16)).shape == (2, 10)


def test_positions_need_a_size() -> None:
    from step_ahsar.models import SGLFormer, TIMSpikformer

    for make in (TIMSpikformer, SGLFormer):
        options = {"learnt_pool": True} if make is SGLFormer else {}
        with pytest.raises(UserError, match=f"{make.__name__} has weights for each position and needs img_size"):
            make(dim=48, heads=2, **options)


@pytest.mark.parametrize("name", ["spikformer_2_64", "sdt_2_64"])
@torch.no_grad()
def test_without_norms_every_layer_fires_and_folds(name: str) -> None:
    """At the initial weights, in a deep model; with the usual ones inputs shrink to a tenth from layer to layer."""
    torch.manual_seed(0)
    model = create(name, norm="none", neuron="ahsar", threshold=0.5, depth=6).double().train()
    controller = regulate(model, config=AHSARConfig(k=0))
    x = images(4, 3, 32, 32).double()
    assert controller.calibrate(lambda: model(x))["model"] == pytest.approx(0.2, rel=0.05)
    with torch.enable_grad():
        model(x)
    controller.step()  # thresholds rest, rates are read
    rates = [layer["rate"] for layer in controller.layers().values()]
    assert min(rates) > 0.01
    assert max(rates) < 0.7
    model.eval()
    torch.testing.assert_close(fold(model)(x), model(x))


@pytest.mark.parametrize("name", ["sdt_2_64", "tim_dvs_2_64"])
def test_a_norm_bound_to_t_refuses_another(name: str) -> None:
    model = create(name, norm="tebn", time_steps=4)
    size = (model.in_chans, 32, 32)
    assert model(images(2, *size)).shape == (2, 10)
    with pytest.raises(UserError, match=r"norm 'tebn' was made for 4 time steps, got 5 in \[5, 2, "):
        model(images(5, 2, *size))
    with pytest.raises(UserError, match="unknown norm 'tebm'; did you mean 'tebn'"):
        create(name, norm="tebm")


# -- quantised weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qsd_2_64", "spikformer_2_64", "swformer_2_64"])
@torch.no_grad()
def test_weight_bits_quantise_every_convolution_and_the_head(name: str) -> None:
    """Also before any training: the steps are known from the start and are saved with the weights."""
    model = create(name, weight_bits=3)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Linear)]
    assert layers
    for layer in layers:
        assert parametrize.is_parametrized(layer, "weight")
        for channel in layer.weight:
            assert len(channel.unique()) <= 8
    assert any(len(layer.weight[0].unique()) > 4 for layer in layers)
    full = create(name, weight_bits=32)
    assert not any(parametrize.is_parametrized(m) for m in full.modules())
    model.reset_classifier(3)
    assert parametrize.is_parametrized(model.head, "weight")
    twin = create(name, weight_bits=3, num_classes=3)
    for parameter in twin.parameters():
        parameter.zero_()
    twin.load_state_dict(model.state_dict())
    x = images(2, 3, 32, 32)
    assert torch.equal(twin(x), model(x))
    for bits in (1, 9, 16):
        with pytest.raises(UserError, match=f"weight_bits must be from 2 to 8, or 32 for full precision, got {bits}"):
            create(name, weight_bits=bits)


# -- membrane shortcuts ------------------------------------------------------------------------------------------------


def test_ms_qkformer_is_qkformer_with_membranes() -> None:
    spike, membrane = create("qkformer_3_64"), create("msqkformer_3_64")
    assert [p.shape for p in spike.parameters()] == [p.shape for p in membrane.parameters()]
    ends = [m for m in membrane.modules() if isinstance(m, SpikingConv) and m.neuron is None]
    assert len(ends) == 2 * 3 + 2 * 3  # main branch and shortcut of 3 embeddings; projection and fc2 of 3 blocks
    stream = membrane.forward_features(images(2, 3, 16, 16))
    assert not torch.equal(stream, stream.round())
    assert torch.equal(
        spike.forward_features(images(2, 3, 16, 16)), spike.forward_features(images(2, 3, 16, 16)).round()
    )
    with pytest.raises(UserError, match="unknown shortcut 'membrame'; did you mean 'membrane'"):
        create("qkformer_3_64", shortcut="membrame")


def test_published_neurons_are_used_unless_another_is_asked_for() -> None:
    """The DVS form of Spikingformer has tau 1.5, SpikingResformer another surrogate."""

    def option(name: str, which: str, **options: Any) -> set[Any]:
        neurons = (m for m in create(name, **options).modules() if isinstance(m, SpikingNeuron))
        return {getattr(neuron, which) for neuron in neurons if hasattr(neuron, which)}

    assert option("spikingformer_dvs_2_64", "tau") == {1.5}
    assert option("spikingformer_dvs_2_64", "tau", tau=3.0) == {3.0}
    assert option("spikingformer_2_64", "tau") == {2.0}
    assert option("spikingformer_dvs_2_64", "tau", neuron="if") == set()
    assert option("spikingresformer_3_64", "surrogate") == {"atan"}
    assert option("spikingresformer_3_64", "surrogate", surrogate="rectangle", alpha=1.0) == {"rectangle"}
    assert option("espikeformer_2_64", "name") == {"nilif"}
    assert option("espikeformer_2_64", "name", neuron="lif") == {"lif"}


@pytest.mark.parametrize("neuron", ["lif", "ahsar", "nilif"])
@pytest.mark.parametrize("backend", ["torch", "spikingjelly", "braincog"])
def test_swformers_coefficients_keep_their_sign(neuron: str, backend: str) -> None:
    """Ternary neurons stand between the transforms whatever the model's neuron is, and are regulated with it."""
    if neuron == "nilif" and backend == "braincog":
        pytest.skip("braincog has no integer neuron")
    pytest.importorskip(backend)
    model = create("swformer_2_64", neuron=neuron, backend=backend)
    ternary = [m for m in model.modules() if isinstance(m, SpikingNeuron) and m.signed]
    assert len(ternary) == 3 * 2
    assert {m.name for m in ternary} == {"ternary_if"}
    assert {m.backend for m in ternary} == {"torch" if backend == "braincog" else backend}
    assert all((m.threshold_scale is not None) == (neuron == "ahsar") for m in ternary)
