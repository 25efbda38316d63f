"""Estimates of the energy of one inference, from counted operations and published constants.

Each preset is a convention of its own. Their figures are shown side by side, and never compared with each other: the
same models may be in another order under another convention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from math import ceil, log2
from typing import Any

from step_ahsar.errors import UserError, unknown
from step_ahsar.measure.counting import LayerOperations, Operations

# Energy of one access to a word of 32 bits in a memory of so many bytes (Horowitz, ISSCC 2014); linear in between, and
# constant beyond.
_SRAM = ((0, 0.0), (8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))
_QUEUE = 1000  # events that wait between two layers (Lemaire et al. 2022)
_WORD = 4  # bytes


@dataclass(frozen=True)
class Preset:
    """The constants of a convention, in pJ.

    Args:
        add: an addition.
        multiply: a multiplication.
        access: whether reading and writing memories is counted, at the cost of a memory of the layer's size.
        per_bit: moving one bit between memory and computation.
        bits: of a weight, a membrane and a real number.
        neurons: whether the updates of membranes are counted: a multiplication and an addition each.
        source: where the constants are from.
    """

    add: float
    multiply: float
    access: bool = False
    per_bit: float = 0.0
    bits: int = 32
    neurons: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("add", "multiply", "per_bit"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} of an energy preset is in pJ and must be >= 0, got {getattr(self, name)!r}")
        if not self.bits >= 1:
            raise UserError(f"bits of an energy preset must be >= 1, got {self.bits!r}")

    def word(self, size: float) -> float:
        """Energy of one access to a memory of ``size`` bytes."""
        if not self.access:
            return 0.0
        for (low, cheap), (high, dear) in pairwise(_SRAM):
            if size <= high:
                return cheap + (dear - cheap) * (size - low) / (high - low)
        return _SRAM[-1][1]


PRESETS: Mapping[str, Preset] = {
    "compute-fp32": Preset(0.9, 3.7, source="45 nm, Horowitz 2014; the convention of the field: 4.6 a MAC, 0.9 an AC"),
    "compute-int8": Preset(0.03, 0.2, bits=8, source="45 nm, Horowitz 2014"),
    "memory": Preset(0.1, 3.1, access=True, neurons=True, source="45 nm int32 and SRAM, after Lemaire et al. 2022"),
    "traffic": Preset(
        0.9, 3.7, per_bit=3.12, neurons=True, source="compute-fp32, and 3.12 pJ a bit as in STEP's paper"
    ),
}


@dataclass(frozen=True)
class Energy:
    """Energy of one inference under one preset, in pJ.

    Args:
        layers: of each layer of the spiking network, in the order of the operations.
        relu: of a network of the same shape with ReLU instead of neurons, in one pass.
        quantised: of the same with activations of as many bits as T time steps carry.
        quantised_bits: their number, ceil(log2(T + 1)) (Yan et al. 2024).
    """

    layers: tuple[float, ...]
    relu: float
    quantised: float
    quantised_bits: int

    @property
    def spiking(self) -> float:
        """Of the whole spiking network."""
        return sum(self.layers)


def like(preset: str, **constants: Any) -> Preset:
    """A preset with other constants.

    >>> like("compute-int8", add=0.05).multiply
    0.2

    Args:
        preset: a key of :data:`PRESETS`.
        constants: fields of :class:`Preset` to replace.

    Raises:
        UserError: an unknown preset, or an unknown constant or one out of range.
    """
    if preset not in PRESETS:
        raise unknown("energy preset", preset, PRESETS)
    known = [each.name for each in fields(Preset)]
    for name in constants:
        if name not in known:
            raise unknown("constant of an energy preset", name, known)
    return replace(PRESETS[preset], **constants)


def presets(own: Mapping[str, Mapping[str, Any]]) -> dict[str, Preset]:
    """:data:`PRESETS`, and those of the config's section `energy`: by name, ``like`` and the constants that differ.

    Raises:
        UserError: a name that is taken, an unknown preset.
    """
    found = dict(PRESETS)
    for name, constants in own.items():
        if name in PRESETS:
            raise UserError(f"energy.{name} has the name of a preset that is there already; give it another name")
        try:
            found[name] = like(constants["like"], **{key: constants[key] for key in constants if key != "like"})
        except UserError as error:
            raise UserError(f"energy.{name}: {error}") from None
    return found


def energy(found: Operations, preset: str | Preset) -> Energy:
    """Estimates the energy of one inference.

    Args:
        found: what the model computes.
        preset: a key of :data:`PRESETS`, or constants of your own, such as ``like("memory", add=0.05)``.

    Raises:
        UserError: an unknown preset.
    """
    costs = like(preset) if isinstance(preset, str) else preset
    bits = ceil(log2(found.time_steps + 1))
    quantised = replace(costs, multiply=costs.multiply * min(1.0, bits / costs.bits))
    return Energy(
        tuple(_spiking(layer, costs) for layer in found.layers),
        sum(_dense(layer, layer.steps, costs, costs.bits) for layer in found.layers),
        sum(_dense(layer, layer.steps, quantised, bits) for layer in found.layers),
        bits,
    )


def break_even(found: Operations, preset: str) -> float:
    """The rate of inputs below which a spiking layer needs less than the same layer with ReLU, by computation alone.

    A rate above 1 is impossible, so if this is above 1 the convention lets every spiking network win.

    >>> round(break_even(Operations((), 4, 1), "compute-fp32"), 2)
    1.28
    """
    costs = PRESETS[preset]
    return (costs.add + costs.multiply) / (costs.add * found.time_steps)


def _spiking(layer: LayerOperations, costs: Preset) -> float:
    """Energy of a layer of the spiking network."""
    if layer.kind == "neuron":
        return _neuron(layer, costs)
    if layer.analog:
        return _dense(layer, 1, costs, costs.bits)
    adds = layer.synaptic_operations
    events = layer.rates[0] * layer.inputs[0]
    read = layer.weights if layer.weights else layer.inputs[-1] / layer.steps if len(layer.inputs) > 1 else 0.0
    computation = adds * costs.add
    # Each event is written to a queue and read from it; each addition reads a weight, and reads and writes a membrane.
    access = 2 * events * costs.word(_QUEUE * _WORD)
    access += adds * (costs.word(read * _WORD) + 2 * costs.word(layer.outputs / layer.steps * _WORD))
    addressing = events * 2 * (costs.multiply + costs.add) + adds * costs.add if costs.access else 0.0
    moved = adds * costs.bits * bool(read) + sum(layer.inputs)  # a spike is a bit, and so is its absence
    return computation + access + addressing + moved * costs.per_bit


def _neuron(layer: LayerOperations, costs: Preset) -> float:
    """Energy of membranes that leak, take up their input, and are reset, and of matrix products inside of a neuron."""
    products = layer.macs * (costs.multiply + costs.add)
    if not costs.neurons:
        return products
    computation = products + layer.updates * (costs.multiply + costs.add) + layer.spikes * costs.add
    access = 2 * layer.updates * costs.word(layer.updates / layer.steps * _WORD)
    moved = 2 * layer.updates * costs.bits + layer.outputs
    return computation + access + moved * costs.per_bit


def _dense(layer: LayerOperations, times: float, costs: Preset, bits: int) -> float:
    """Energy of a layer whose inputs are numbers of so many bits, one in so many times that it is computed."""
    if layer.kind == "neuron":
        return 0.0
    macs, inputs, outputs = layer.macs / times, sum(layer.inputs) / times, layer.outputs / times
    if layer.kind == "sum":
        return inputs * costs.add + (inputs + outputs) * bits * costs.per_bit
    computation = macs * (costs.add + costs.multiply)
    sizes = [layer.weights or layer.inputs[-1] / layer.steps, layer.inputs[0] / layer.steps]
    access = macs * sum(costs.word(size * _WORD) for size in sizes)
    access += outputs * costs.word(layer.outputs / layer.steps * _WORD)
    addressing = (inputs + outputs) * costs.add if costs.access else 0.0
    moved = macs * costs.bits + (inputs + outputs) * bits
    return computation + access + addressing + moved * costs.per_bit
