"""Folding: the scales move from the thresholds into the weights in front of them, and a plain model is left."""

from copy import deepcopy
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

from step_ahsar.ahsar.foreign import find_layer
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron

M = TypeVar("M", bound=nn.Module)


@runtime_checkable
class Foldable(Protocol):
    """A layer that can divide what its child ``neuron`` receives by a factor. Every layer of step_ahsar.layers can."""

    neuron: SpikingNeuron

    def fold_scale(self, scale: float) -> None:
        """Divides the neuron's input by ``scale``."""


def fold(model: M) -> M:
    """A copy of ``model`` for inference with plain neurons, and the same spikes.

    Models of this package come out with their published thresholds. A LIF-like neuron with input x / s and threshold
    theta fires exactly when one with input x and threshold s * theta does, so s goes into the normalisation (or the
    attention's scale) in front of the neuron.

    Nothing is known of the layers around neurons of other libraries: their own thresholds are replaced by s * theta.

    Raises:
        UserError: a regulated neuron for which this is not exact, or one whose layer does not say how to fold.
    """
    folded = deepcopy(model)
    owners = {id(m.neuron): m for m in folded.modules() if isinstance(m, Foldable)}
    for name, module in folded.named_modules():
        try:
            if isinstance(module, SpikingNeuron):
                _fold(module, owners.get(id(module)))
            elif (layer := find_layer(module)) is not None and layer.threshold_scale is not None:
                layer.settle()
        except UserError as error:
            raise UserError(f"layer {name!r} cannot be folded: {error}") from None
    return folded


def _fold(neuron: SpikingNeuron, owner: Foldable | None) -> None:
    if neuron.threshold_scale is None:
        return
    if not neuron.scales_with_input:
        raise UserError(
            f"scaling the input of {neuron.name!r} is not scaling its threshold; keep the regulated model, whose "
            "scales are in its state dict"
        )
    if owner is None:
        raise UserError("the module around it has no fold_scale(scale), which divides what the neuron receives")
    owner.fold_scale(neuron.threshold_scale.item())
    neuron.stop_regulation()
