"""Blocks and their mixers without attention, against their equations written a second time."""

import copy

import pytest
import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import (
    MLP,
    Block,
    Blueprint,
    ConvMLP,
    DepthwiseMixer,
    GainNeuron,
    PlainConv,
    Residual,
    SeparableConv,
)

from .references import convolved, depthwise, lif, linear, lively, membranes, normed, same, spikes

MEMBRANE = Blueprint(shortcut="membrane", threshold=0.2)
SPIKE = Blueprint(threshold=0.2)


def size(ndim: int) -> tuple[int, ...]:
    return (6, 5)[:ndim]


# -- channel mixers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [1, 2])
def test_mlp_with_membrane_shortcuts(ndim: int) -> None:
    """N-C1-B to 4C, N-C1-B to C, both with bias: what comes out is a membrane."""
    mlp, x = lively(MLP(6, MEMBRANE)), membranes(3, 2, 6, *size(ndim))
    assert mlp.fc1.conv.weight.shape == (24, 6, 1)
    hidden = lif(normed(linear(lif(x, 0.2), mlp.fc1.conv, bias=True), mlp.fc1.norm), 0.2)
    same(mlp(x), normed(linear(hidden, mlp.fc2.conv, bias=True), mlp.fc2.norm))


def test_mlp_with_spike_shortcuts() -> None:
    mlp, x = lively(MLP(6, SPIKE, ratio=2.0, bias=False)), spikes(3, 2, 6, 4, 5)
    hidden = lif(normed(linear(x, mlp.fc1.conv, bias=False), mlp.fc1.norm), 0.2)
    assert torch.equal(mlp(x), lif(normed(linear(hidden, mlp.fc2.conv, bias=False), mlp.fc2.norm), 0.2))


def test_each_layer_of_an_mlp_of_ratio_1_may_have_a_shortcut() -> None:
    """In a block: h = x + fc1(N(x)), then h + fc2(N(h))."""
    mlp, x = lively(MLP(6, MEMBRANE, ratio=1.0, inner_shortcut=True)), membranes(3, 2, 6, 4, 5)
    hidden = x + normed(linear(lif(x, 0.2), mlp.fc1.conv, bias=True), mlp.fc1.norm)
    out = hidden + normed(linear(lif(hidden, 0.2), mlp.fc2.conv, bias=True), mlp.fc2.norm)
    same(Block(None, mlp)(x), out)


@pytest.mark.parametrize(("blueprint", "ratio"), [(MEMBRANE, 2.0), (SPIKE, 1.0)])
def test_no_shortcut_between_unequal_widths_or_around_spikes(blueprint: Blueprint, ratio: float) -> None:
    plain, asked = (MLP(6, blueprint, ratio=ratio, inner_shortcut=inner) for inner in (False, True))
    x = membranes(3, 2, 6, 7)
    out = lively(plain)(x)
    assert torch.equal(lively(asked)(x), out)
    assert out.any()


def test_an_mlp_has_hidden_channels() -> None:
    with pytest.raises(UserError, match=r"an MLP of 3 channels cannot have 0\.2 times as many hidden ones"):
        MLP(3, SPIKE, ratio=0.2)


@pytest.mark.parametrize("ndim", [1, 2])
def test_convolutional_mlp(ndim: int) -> None:
    """N-C3-B to 4C, N-C3-B to C, without bias."""
    mlp, x = lively(ConvMLP(4, MEMBRANE, ndim=ndim)), membranes(3, 2, 4, *size(ndim))
    assert mlp.conv1.conv.weight.shape == (16, 4, *[3] * ndim)
    hidden = lif(normed(convolved(lif(x, 0.2), mlp.conv1.conv, bias=False, padding=1), mlp.conv1.norm), 0.2)
    same(mlp(x), normed(convolved(hidden, mlp.conv2.conv, bias=False, padding=1), mlp.conv2.norm))


# -- token mixers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("ndim", [1, 2])
def test_depthwise_mixer(ndim: int, kernel_size: int) -> None:
    """N-DWk-B with bias; with spike shortcuts DWk-B-N."""
    mixer, x = lively(DepthwiseMixer(5, kernel_size, MEMBRANE, ndim=ndim)), membranes(3, 2, 5, *size(ndim))
    assert mixer.mix.conv.weight.shape == (5, 1, *[kernel_size] * ndim)
    same(mixer(x), normed(depthwise(lif(x, 0.2), mixer.mix.conv, bias=True), mixer.mix.norm))
    mixer, x = lively(DepthwiseMixer(5, kernel_size, SPIKE, ndim=ndim)), spikes(3, 2, 5, *size(ndim))
    assert torch.equal(mixer(x), lif(normed(depthwise(x, mixer.mix.conv, bias=True), mixer.mix.norm), 0.2))


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("ndim", [1, 2])
def test_separable_convolution(ndim: int, spiking: bool) -> None:
    """N-C1-B to 2C, then N-DW7 and C1-B, or N-DW7-B and N-C1-B. No bias."""
    mixer = lively(SeparableConv(4, 7, MEMBRANE, ndim=ndim, spiking_depthwise=spiking))
    x = membranes(3, 2, 4, *size(ndim))
    assert mixer.expand.conv.weight.shape == (8, 4, *[1] * ndim)
    wide = lif(normed(linear(lif(x, 0.2), mixer.expand.conv, bias=False), mixer.expand.norm), 0.2)
    mixed = depthwise(wide, mixer.mix.conv, bias=False)
    if spiking:
        mixed = lif(normed(mixed, mixer.mix.norm), 0.2)
    same(mixer(x), normed(linear(mixed, mixer.project.conv, bias=False), mixer.project.norm))


# -- residual streams --------------------------------------------------------------------------------------------------


def test_residual_adds_its_input() -> None:
    conv, x = lively(nn.Conv2d(4, 4, 3, padding=1)), membranes(3, 2, 4, 5, 5)
    same(Residual(PlainConv(conv))(x), x + convolved(x, conv, bias=True, padding=1))


def test_block_of_membranes() -> None:
    """Each branch reads the sum of all before it through a neuron of its own; there may be one branch only."""
    mixer, mlp = lively(DepthwiseMixer(4, 3, MEMBRANE), seed=1), lively(MLP(4, MEMBRANE), seed=2)
    x = membranes(3, 2, 4, 5, 5)

    def mixed(x: Tensor) -> Tensor:
        return x + normed(depthwise(lif(x, 0.2), mixer.mix.conv, bias=True), mixer.mix.norm)

    def channels_mixed(x: Tensor) -> Tensor:
        hidden = lif(normed(linear(lif(x, 0.2), mlp.fc1.conv, bias=True), mlp.fc1.norm), 0.2)
        return x + normed(linear(hidden, mlp.fc2.conv, bias=True), mlp.fc2.norm)

    same(Block(mixer, mlp)(x), channels_mixed(mixed(x)))
    same(Block(None, mlp)(x), channels_mixed(x))


def test_groups_of_neurons() -> None:
    mixer = SeparableConv(4, 3, MEMBRANE, spiking_depthwise=True)
    layers = nn.ModuleList([mixer, ConvMLP(4, MEMBRANE), MLP(4, MEMBRANE)])
    groups = {name: m.group for name, m in layers.named_modules() if hasattr(m, "group")}
    assert groups == {
        "0.stream.neuron": "attention",
        "0.expand.neuron": "attention",
        "0.mix.neuron": "attention",
        "1.stream.neuron": "mlp",
        "1.conv1.neuron": "mlp",
        "2.stream.neuron": "mlp",
        "2.fc1.neuron": "mlp",
    }


def test_a_gain_stands_for_a_scaled_threshold() -> None:
    plain, x = GainNeuron(MEMBRANE.new_neuron("mlp", 4)), membranes(3, 2, 4, 9)
    folded = copy.deepcopy(plain)
    folded.fold_scale(4.0)
    folded.fold_scale(0.5)
    for scale, layer in ((1, plain), (2, folded)):
        assert torch.equal(layer(x), lif(x, 0.2 * scale))
        assert torch.equal(layer.foresee(x), layer(x))
    assert not torch.equal(folded(x), plain(x))
