"""What a spiking neuron is, and the registry of neurons by name and backend."""

from step_ahsar.neurons.base import GROUPS, SpikingNeuron
from step_ahsar.neurons.registry import (
    create_neuron,
    list_backends,
    list_neurons,
    neuron_options,
    register_neuron,
)
from step_ahsar.neurons.surrogate import list_surrogates

__all__ = [
    "GROUPS",
    "SpikingNeuron",
    "create_neuron",
    "list_backends",
    "list_neurons",
    "list_surrogates",
    "neuron_options",
    "register_neuron",
]
