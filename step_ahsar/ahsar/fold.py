"""Folding: the scales move from the thresholds into the weights in front of them."""

from copy import deepcopy
from typing import Protocol, TypeVar, runtime_checkable

from torch import nn

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
    """A copy of ``model`` for inference with plain neurons at their published thresholds, and the same spikes.

    A LIF-like neuron with input x / s and threshold theta fires exactly when one with input x and threshold s * theta
    does, so s goes into the normalisation (or the attention's scale) in front of the neuron.

    Raises:
        UserError: a regulated neuron for which this is not exact, or one whose layer does not say how to fold.
    """
    folded = deepcopy(model)
    owners = {id(m.neuron): m for m in folded.modules() if isinstance(m, Foldable)}
    for name, neuron in folded.named_modules():
        if not isinstance(neuron, SpikingNeuron) or neuron.threshold_scale is None:
            continue
        if not neuron.scales_with_input:
            raise UserError(
                f"layer {name!r}: {neuron.name!r} cannot be folded, scaling its input is not scaling its threshold"
            )
        owner = owners.get(id(neuron))
        if owner is None:
            raise UserError(f"layer {name!r} cannot be folded: the module around it has no fold_scale(scale)")
        owner.fold_scale(neuron.threshold_scale.item())
        neuron.stop_regulation()
    return folded
