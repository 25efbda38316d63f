"""Energy: published figures from their published operations, hand arithmetic of each preset, and what must hold."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from step_ahsar.engine import energies
from step_ahsar.errors import UserError
from step_ahsar.measure import PRESETS, LayerOperations, Operations, Preset, energy, like, operations, presets
from step_ahsar.measure.estimating import break_even
from step_ahsar.neurons import create_neuron


def layer(kind="conv", macs=0.0, synaptic=0.0, analog=False, **more):
    given = {"rates": (0.5,), "inputs": (8.0,), "outputs": 4.0, "weights": 32, "steps": 4} | more
    return LayerOperations("layer", kind, None, macs, synaptic, analog=analog, **given)


@pytest.mark.parametrize(
    ("macs", "synaptic", "published", "tolerance"),
    [
        # Spikformer 4-384 on CIFAR-10: ZK-Zhou/spikformer, issue 23, which gives operations, but not their rates.
        (0.0053e9, 0.2459e9, 0.2457, 5e-5),
        (0.3473e9, 6.518e9, 7.46, 5e-3),  # Spikingformer 8-512: arXiv 2304.11954
    ],
)
def test_published_figures(macs, synaptic, published, tolerance):
    found = Operations((layer(macs=macs, analog=True, steps=1), layer(synaptic=synaptic)), 4, 1)
    assert energy(found, "compute-fp32").spiking * 1e-9 == pytest.approx(published, abs=tolerance)


def test_summaries_have_what_networks_without_spikes_would_need():
    found = Operations((layer(macs=100.0, analog=True, steps=1), layer(macs=400.0, synaptic=30.0)), 4, 1)
    spiking, kept = energies(found, PRESETS)
    assert spiking == {preset: pytest.approx(1e-6 * energy(found, preset).spiking) for preset in PRESETS}
    assert list(kept) == [f"{preset}.{kind}" for kind in ("relu", "quantised") for preset in PRESETS]
    for preset in PRESETS:
        expected = energy(found, preset)
        assert kept[f"{preset}.relu"] == pytest.approx(1e-6 * expected.relu)
        assert kept[f"{preset}.quantised"] == pytest.approx(1e-6 * expected.quantised) != kept[f"{preset}.relu"]


def test_compute_by_hand():
    first = layer(macs=100.0, synaptic=100.0, analog=True, steps=1)
    second = layer(macs=400.0, synaptic=30.0)
    neuron = layer("neuron", updates=64.0, spikes=8.0, weights=0)
    found = energy(Operations((first, neuron, second), 4, 1), "compute-fp32")
    assert found.layers == pytest.approx((460.0, 0.0, 27.0))
    assert found.spiking == pytest.approx(487.0)
    assert found.relu == pytest.approx(4.6 * (100 + 100))
    assert found.quantised_bits == 3
    assert found.quantised == pytest.approx((0.9 + 3.7 * 3 / 32) * 200)
    int8 = energy(Operations((first, neuron, second), 4, 1), "compute-int8")
    assert int8.spiking == pytest.approx(23.0 + 0.9)
    assert int8.quantised == pytest.approx((0.03 + 0.2 * 3 / 8) * 200)


def test_products_inside_of_a_neuron_multiply():
    neuron = layer("neuron", 100.0, 100.0, analog=True, updates=40.0, spikes=10.0, rates=(0.25,), inputs=(40.0,))
    found = Operations((neuron,), 4, 1)
    assert energy(found, "compute-fp32").spiking == pytest.approx(100 * 4.6)
    assert energy(found, "compute-fp32").relu == 0
    plain = replace(neuron, macs=0.0, analog=False)
    for preset, mac in (("traffic", 4.6), ("memory", 3.2)):
        without = energy(Operations((plain,), 4, 1), preset).spiking
        assert energy(found, preset).spiking == pytest.approx(without + 100 * mac)


def test_traffic_by_hand():
    """30 additions read 30 weights of 32 bits; 8 inputs are 8 bits. A membrane is read and written."""
    second, neuron = layer(synaptic=30.0), layer("neuron", updates=64.0, spikes=8.0, outputs=64.0, weights=0)
    found = energy(Operations((second, neuron), 4, 1), "traffic")
    assert found.layers[0] == pytest.approx(30 * 0.9 + 3.12 * (30 * 32 + 8))
    assert found.layers[1] == pytest.approx(64 * 4.6 + 8 * 0.9 + 3.12 * (2 * 64 * 32 + 64))


def test_memory_by_hand():
    """Weights of 8 KiB cost 10 a word, membranes of 32 KiB 20, a queue of 1000 words 10 * 4000 / 8192."""
    queue = 10 * 4000 / 8192
    second = layer(synaptic=30.0, weights=2048, outputs=4 * 8192.0)
    found = energy(Operations((second,), 4, 1), "memory")
    assert found.spiking == pytest.approx(30 * 0.1 + 2 * 4 * queue + 30 * (10 + 2 * 20) + 4 * 2 * 3.2 + 30 * 0.1)
    neuron = layer("neuron", updates=4 * 2048.0, spikes=8.0, outputs=8192.0, weights=0)
    found = energy(Operations((neuron,), 4, 1), "memory")
    assert found.spiking == pytest.approx(8192 * 3.2 + 8 * 0.1 + 2 * 8192 * 10)
    first = layer(macs=100.0, analog=True, steps=1, inputs=(2048.0,), weights=8192, outputs=4096.0)
    found = energy(Operations((first,), 4, 1), "memory")
    assert found.spiking == pytest.approx(
        100 * 3.2 + 100 * (20 + 10) + 4096 * (10 + 10 * (16 - 8) / (32 - 8)) + (2048 + 4096) * 0.1
    )


def test_sums_and_products_by_hand():
    total = layer("sum", synaptic=6.0, weights=0)
    found = energy(Operations((total,), 4, 1), "traffic")
    assert found.spiking == pytest.approx(6 * 0.9 + 3.12 * 8)  # spikes are added as they come: nothing else is read
    assert found.relu == pytest.approx(2 * 0.9 + 3.12 * 3 * 32)
    product = layer("product", synaptic=10.0, inputs=(16.0, 4 * 2048.0), outputs=4 * 8192.0, weights=0)
    queue = 10 * 4000 / 8192
    found = energy(Operations((product,), 4, 1), "memory")
    assert found.spiking == pytest.approx(10 * 0.1 + 2 * 8 * queue + 10 * (10 + 2 * 20) + 8 * 2 * 3.2 + 10 * 0.1)


def test_networks_without_spikes_by_hand():
    """100 MACs in a pass, of 2 inputs to 1 output."""
    found = energy(Operations((layer(macs=400.0),), 4, 1), "traffic")
    assert found.relu == pytest.approx(100 * 4.6 + 3.12 * (100 * 32 + 3 * 32))
    assert found.quantised == pytest.approx(100 * (0.9 + 3.7 * 3 / 32) + 3.12 * (100 * 32 + 3 * 3))
    analog = energy(Operations((layer(macs=400.0, analog=True),), 4, 1), "compute-fp32")
    assert (analog.spiking, analog.relu) == pytest.approx((400 * 4.6, 100 * 4.6))


@pytest.mark.parametrize(
    ("size", "cost"), [(0, 0), (4096, 5), (8192, 10), (32768, 20), (2**19 + 2**14, 60), (2**30, 100)]
)
def test_a_word_of_a_memory(size, cost):
    assert PRESETS["memory"].word(size) == pytest.approx(cost)
    assert PRESETS["compute-fp32"].word(size) == 0


def spiking_net(weight):
    net = nn.Sequential(nn.Linear(4, 6), create_neuron("lif"), nn.Linear(6, 3))
    nn.init.constant_(net[0].weight, weight)
    nn.init.zeros_(net[0].bias)
    return net


@pytest.mark.parametrize("preset", PRESETS)
def test_silence_and_more_spikes(preset):
    x = torch.rand(4, 2, 4)  # [T, B, 4]
    silent, lively = (operations(spiking_net(weight), [x], batch_axis=1) for weight in (0.0, 3.0))
    quiet, loud = energy(silent, preset), energy(lively, preset)
    assert loud.layers[2] > quiet.layers[2]
    if preset.startswith("compute"):
        assert quiet.layers[1:] == (0, 0)
    assert loud.relu == pytest.approx(quiet.relu)
    assert loud.quantised < loud.relu
    assert loud.spiking == pytest.approx(sum(loud.layers))


def test_where_a_spiking_layer_breaks_even():
    assert break_even(Operations((), 1, 1), "compute-fp32") == pytest.approx(5.11, abs=0.01)
    assert break_even(Operations((), 4, 1), "compute-int8") == pytest.approx(1.92, abs=0.01)


def test_constants_of_ones_own():
    found = Operations((layer(synaptic=30.0),), 4, 1)
    assert energy(found, like("compute-fp32", add=2.0)).spiking == 60
    own = presets({"mine": {"like": "compute-int8", "add": 0.1}})
    assert list(own) == [*PRESETS, "mine"]
    assert own["mine"] == Preset(0.1, 0.2, bits=8, source=PRESETS["compute-int8"].source)
    assert energy(found, own["mine"]).spiking == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: energy(Operations((), 4, 1), "compute"), "unknown energy preset 'compute'"),
        (lambda: like("memory", sub=1.0), "unknown constant of an energy preset 'sub'"),
        (lambda: like("memory", add=-1), "add of an energy preset is in pJ and must be >= 0, got -1"),
        (lambda: like("memory", bits=0), "bits of an energy preset must be >= 1, got 0"),
        (lambda: presets({"mine": {"like": "memroy"}}), "energy.mine: unknown energy preset 'memroy'"),
        (lambda: presets({"memory": {"like": "traffic"}}), "energy.memory has the name of a preset that is there"),
    ],
)
def test_presets_that_make_no_sense(call, message):
    with pytest.raises(UserError, match=message):
        call()
