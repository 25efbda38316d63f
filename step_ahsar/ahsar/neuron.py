"""The neuron ``ahsar``, on every backend: a neuron such as lif whose model regulates itself by AHSAR."""

from torch import nn

from step_ahsar.ahsar.regulation import regulate
from step_ahsar.ahsar.waiting import wait_for_model
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.neurons.registry import register_regulated


def regulate_own_model(neuron: SpikingNeuron) -> None:
    """Lets the model of ``neuron`` regulate itself at its first training forward, unless ``regulate`` is called."""
    neuron.wait = regulate_own_model  # for copies of the neuron, which are in another model
    wait_for_model(neuron, _regulate)


def _regulate(model: nn.Module) -> None:
    regulate(model, auto=True).self_made = True


@register_regulated("ahsar", base="lif")
def regulated(neuron: SpikingNeuron) -> None:
    """Gives a new neuron a scale of 1. It behaves as the plain neuron until a controller changes the scale.

    :func:`step_ahsar.ahsar.regulate` puts the model under a controller. If nobody calls it, the model does so itself at
    its first forward pass in training, as ``regulate(model, auto=True)`` would.
    """
    neuron.add_scale()
    regulate_own_model(neuron)
