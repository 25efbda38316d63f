"""Folding: the scales of the thresholds move into the weights in front of them, which leaves a plain model."""

from copy import deepcopy
from typing import ClassVar, Protocol, TypeGuard, TypeVar, runtime_checkable

from torch import nn

from step_ahsar.ahsar.controller import controllers_of
from step_ahsar.ahsar.finding import find_layers
from step_ahsar.errors import UserError
from step_ahsar.libraries.regulation import find_layer
from step_ahsar.neurons import SpikingNeuron

M = TypeVar("M", bound=nn.Module)


class Foldable(Protocol):
    """A layer that can divide the input of its child ``neuron`` by a factor, as every layer of step_ahsar.layers can.

    Attributes:
        folds_into_weights: whether the factor goes into weights; if not, into a number that no state dict holds.
    """

    neuron: SpikingNeuron
    folds_into_weights: ClassVar[bool]

    def fold_scale(self, scale: float) -> None:
        """Divides the neuron's input by ``scale``."""


@runtime_checkable
class NormFoldable(Protocol):
    """A layer that can make its norm part of its weights."""

    def fold_norm(self) -> None:
        """Makes the norm, as it is in eval mode, part of the weights in front of it."""


def _is_foldable(module: object) -> TypeGuard[Foldable]:
    # From Python 3.12 on, isinstance with a protocol does not see a module's children, which are no plain attributes.
    return all(hasattr(module, name) for name in ("neuron", "folds_into_weights", "fold_scale"))


def fold(model: M, weights_only: bool = False, norms: bool = False) -> M:
    """Returns a copy of ``model`` for inference: with plain neurons, and the same spikes.

    Models of this package keep their published thresholds. A LIF-like neuron with input x / s and threshold theta fires
    exactly when one with input x and threshold s * theta does. So the scale s goes into the normalisation in front of
    the neuron, or into the scale or the gain of a layer without one.

    Neurons of other libraries, and neurons in layers that cannot fold, get the threshold s * theta instead.

    Args:
        model: any model that :func:`step_ahsar.ahsar.regulate` takes. One that is not regulated is copied.
        weights_only: for files of weights. The scale of a neuron without a norm in front, as behind the attention
            product, then multiplies that neuron's threshold. Otherwise it divides the attention's own ``scale``, or the
            layer's gain, which are not in a state dict.
        norms: also make the norms, with their running averages, part of the convolutions in front of them. Such a model
            has no norms to adapt; its numbers are the same up to rounding. The norms that stay are
            TEBN's and those behind quantised or re-parametrised convolutions and wavelet transforms.

    Raises:
        UserError: a regulated neuron in a layer of this package for which folding is not exact.
    """
    folded = deepcopy(model)
    for controller in controllers_of(find_layers(folded).values()):
        controller.leave()
    owners = {id(m.neuron): m for m in folded.modules() if _is_foldable(m)}
    for name, module in folded.named_modules():
        try:
            if isinstance(module, SpikingNeuron):
                _fold(module, owners.get(id(module)), weights_only)
            elif (layer := find_layer(module)) is not None:
                layer.absorb_scale()
        except UserError as error:
            raise UserError(f"layer {name!r} cannot be folded: {error}") from None
    if norms:
        for module in folded.modules():
            if isinstance(module, NormFoldable):
                module.fold_norm()
    return folded


def _fold(neuron: SpikingNeuron, owner: Foldable | None, weights_only: bool) -> None:
    if neuron.threshold_scale is None:
        return
    if owner is None:
        neuron.absorb_scale()
        return
    if not neuron.scales_with_input:
        raise UserError(
            f"for {neuron.name!r}, scaling the input is not the same as scaling the threshold; keep the regulated "
            "model, whose scales are in its state dict"
        )
    if weights_only and not owner.folds_into_weights:
        neuron.absorb_scale()
        return
    owner.fold_scale(neuron.threshold_scale.item())
    neuron.stop_regulation()
