"""The neuron ``ahsar``, on every backend: a neuron such as lif whose model regulates itself by AHSAR."""

from step_ahsar.ahsar.regulation import regulate
from step_ahsar.ahsar.running import running_model
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.neurons.registry import register_regulated


def regulate_own_model(neuron: SpikingNeuron) -> bool:
    """Puts the model that is running, with ``neuron`` in it, under a controller. Returns whether there is a model.

    It is the ``before_training`` of neurons whose model regulates itself.
    """
    model = running_model(neuron)
    if model is None:
        return False
    regulate(model, auto=True).self_made = True
    return True


@register_regulated("ahsar", base="lif")
def regulated(neuron: SpikingNeuron) -> None:
    """Gives a new neuron a scale of 1. It behaves as the plain neuron until a controller changes the scale.

    :func:`step_ahsar.ahsar.regulate` puts the model under a controller. If nobody calls it, the model does so itself at
    its first forward pass in training mode, as ``regulate(model, auto=True)`` would.
    """
    neuron.add_scale()
    neuron.before_training = regulate_own_model
