"""The neuron ``ahsar``, on every backend: a neuron such as lif whose model regulates itself by AHSAR."""

from torch import nn

from step_ahsar import internals
from step_ahsar.ahsar.controller import controller_at, controllers_of
from step_ahsar.ahsar.regulation import control
from step_ahsar.ahsar.running import running_model
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.neurons.registry import register_regulated


def regulate_own_model(neuron: SpikingNeuron) -> bool:
    """Puts the neurons of the running model that ask for it under a controller. Returns whether there is a model.

    It is the ``before_training`` of neurons whose model regulates itself. Nothing happens while a controller exists. A
    neuron has none any more if it was released, if the module that kept it is gone, or in a copy without that module.
    """
    if controller_at(neuron) is not None:
        return True
    model = running_model(neuron)
    if model is None:
        return False
    model = internals.uncompiled(model)
    asking = _asking(model)
    for other in controllers_of(asking.values()):
        if other.self_made:  # of a part of the model that had run alone
            other.end()
    asking = {name: each for name, each in asking.items() if controller_at(each) is None}
    control(model, asking, auto=True).self_made = True
    return True


def _asking(model: nn.Module) -> dict[str, SpikingNeuron]:
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, SpikingNeuron) and module.before_training is not None
    }


@register_regulated("ahsar", base="lif")
def regulated(neuron: SpikingNeuron) -> None:
    """Gives a new neuron a scale of 1. It behaves as the plain neuron until a controller changes the scale.

    :func:`step_ahsar.ahsar.regulate` puts the model under a controller. If nobody calls it, the model does so itself at
    its first forward pass in training mode, as ``regulate(model, auto=True)`` would, for the neurons of this kind.
    """
    neuron.add_scale()
    neuron.before_training = regulate_own_model
