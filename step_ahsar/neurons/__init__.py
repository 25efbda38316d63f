"""What a spiking neuron is, and the registry of neurons by name and backend."""

from step_ahsar.neurons.base import GROUPS, SpikingNeuron, own_parameters
from step_ahsar.neurons.norms import NORMS, create_norm, normalised
from step_ahsar.neurons.registry import (
    NeuronKind,
    create_neuron,
    list_backends,
    list_neurons,
    neuron_kind,
    register_neuron,
)
from step_ahsar.neurons.surrogate import list_surrogates

__all__ = [
    "GROUPS",
    "NORMS",
    "NeuronKind",
    "SpikingNeuron",
    "create_neuron",
    "create_norm",
    "list_backends",
    "list_neurons",
    "list_surrogates",
    "neuron_kind",
    "normalised",
    "own_parameters",
    "register_neuron",
]
