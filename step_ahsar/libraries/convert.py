"""Converting state dicts to the layout of other libraries' models, and back."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from step_ahsar.errors import UserError, unknown
from step_ahsar.layers import SpikingConv
from step_ahsar.libraries.layout import Layout, Link, layout_of, layouts_of, list_layouts
from step_ahsar.neurons import SpikingNeuron

StateDict = dict[str, Tensor]

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
_OURS = "step_ahsar"


def convert_state_dict(state_dict: Mapping[str, Tensor], model: nn.Module, to: str = "spikingjelly") -> StateDict:
    """Converts weights of this package's models to another library's layout, or back.

    In eval mode both models then give the same logits. If the other model's convolution has no bias, the bias here
    becomes part of the running mean of the norm behind it, which in eval mode is exact up to rounding. If it has a bias
    that is missing here, it is set to 0. Thresholds and alphas, where the other layout has keys for them, are those of
    ``model``.

    Args:
        state_dict: the weights to convert: of ``model``, or with ``to="step_ahsar"`` of the other library's model.
        model: a model of this package that is built for these weights, and has a counterpart there.
        to: "spikingjelly" or "braincog" (see :mod:`step_ahsar.libraries.layout`), or "step_ahsar".

    Raises:
        UserError: the other library has no such model, or a key is missing or has no counterpart.
    """
    if to not in (*list_layouts(), _OURS):
        raise unknown("layout", to, [*list_layouts(), _OURS])
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise UserError(
            "models of other libraries cannot hold quantised weights; export to 'torch', or train with weight_bits 32"
        )
    left = dict(state_dict)
    library = _library_of(left, model) if to == _OURS else to
    layout = layout_of(model, library)
    converted: StateDict = {}
    for link in layout.links:
        if to == _OURS:
            _take_theirs(left, converted, link, model)
        else:
            _put_theirs(left, converted, link)
    node_state = _node_state(model, library, layout)
    if to == _OURS:
        _check_nodes(left, node_state)
    else:
        converted.update(node_state)
    for key in ("head.weight", "head.bias"):
        if key in left:
            converted[key] = left.pop(key)
    if left:
        raise UserError(
            f"{next(iter(left))!r} has no counterpart in the layout {to!r}; it belongs to another model, "
            "or to a neuron whose state must be folded into the weights first"
        )
    return converted


def read_weights(state_dict: Mapping[str, Tensor], model: nn.Module) -> StateDict:
    """Weights of another library's model, for ``model``. A warning says what was converted.

    Raises:
        UserError: weights of no model that is known, or of another model than this one.
    """
    library = _library_of(state_dict, model)
    converted = convert_state_dict(state_dict, model, _OURS)
    warnings.warn(
        f"converted {len(state_dict)} tensors from the layout of {library!r} to {len(converted)} of "
        f"{type(model).__name__}; the thresholds are those of the model here",
        stacklevel=2,
    )
    return converted


def node_attributes(model: nn.Module, library: str) -> dict[str, Any]:
    """The attributes of neurons in the model of ``library`` that no state dict holds, by their paths there.

    Raises:
        UserError: a neuron that the library's models do not have.
    """
    attributes: dict[str, Any] = {}
    layouts = layouts_of(library)
    for here, there in layout_of(model, library).neurons():
        neuron = model.get_submodule(here)
        assert isinstance(neuron, SpikingNeuron)
        if neuron.name not in layouts.neurons:
            known = " or ".join(layouts.neurons)
            raise UserError(
                f"layer {here!r}: the models of {library!r} have no neuron {neuron.name!r}; they have {known}"
            )
        try:
            attributes.update(layouts.attributes(neuron, there))
        except UserError as error:
            raise UserError(f"layer {here!r}: {error}") from None
    return attributes


def _library_of(state_dict: Mapping[str, Tensor], model: nn.Module) -> str:
    """The library to whose model these weights belong."""
    missing: list[str] = []
    for library in list_layouts():
        try:
            first = layout_of(model, library).links[0]
        except UserError as error:
            missing.append(str(error))
            continue
        if f"{first.conv}.weight" in state_dict:
            return library
        missing.append(f"{library}: the state dict has no '{first.conv}.weight'")
    first_key = next(iter(state_dict), "nothing")
    raise UserError(
        f"the weights, with {first_key!r} first, belong neither to {type(model).__name__} nor to such a model of "
        f"another library ({'; '.join(missing)})"
    )


def _node_state(model: nn.Module, library: str, layout: Layout) -> StateDict:
    """The entries of all neurons in the library's state dict."""
    state: StateDict = {}
    for here, there in layout.neurons():
        neuron = model.get_submodule(here)
        assert isinstance(neuron, SpikingNeuron)
        state.update(layouts_of(library).state(neuron, there))
    return state


def _check_nodes(left: StateDict, expected: StateDict) -> None:
    """Removes the neurons' entries. Raises UserError if a threshold is not that of the model."""
    for key, value in expected.items():
        found = left.pop(key, value)
        if key.endswith(".threshold") and not torch.equal(found.float(), value):
            raise UserError(f"{key!r} is {found.item():g}, the model was built with {value.item():g}")


# -- one convolution with its norm -------------------------------------------------------------------------------------


def _put_theirs(left: StateDict, converted: StateDict, link: Link) -> None:
    layer = _join([_take(left, f"{path}.conv", f"{path}.norm") for path in link.ours])
    if link.axes is not None:
        layer["conv"] = layer["conv"].reshape(*layer["conv"].shape[:2], *[1] * link.axes)
    _put(converted, link.conv, link.norm, layer, link.bias)


def _take_theirs(left: StateDict, converted: StateDict, link: Link, model: nn.Module) -> None:
    parts = _split(_take(left, link.conv, link.norm), len(link.ours))
    for path, part in zip(link.ours, parts, strict=True):
        ours = model.get_submodule(path)
        assert isinstance(ours, SpikingConv)
        conv = ours.conv
        assert isinstance(conv, nn.Conv1d | nn.Conv2d)
        if link.axes is not None:
            part["conv"] = part["conv"].reshape(*part["conv"].shape[:2], *conv.weight.shape[2:])
        _put(converted, f"{path}.conv", f"{path}.norm", part, bias=conv.bias is not None)


def _take(state_dict: StateDict, conv: str, norm: str) -> StateDict:
    """Removes a convolution and its norm from ``state_dict``: "conv" (and "conv_bias"), and the norm's tensors."""
    try:
        layer = {"conv": state_dict.pop(f"{conv}.weight"), **{key: state_dict.pop(f"{norm}.{key}") for key in _NORM}}
    except KeyError as missing:
        raise UserError(f"the state dict has no {missing.args[0]!r}; it does not belong to this model") from None
    if f"{conv}.bias" in state_dict:
        layer["conv_bias"] = state_dict.pop(f"{conv}.bias")
    return layer


def _put(state_dict: StateDict, conv: str, norm: str, layer: StateDict, bias: bool) -> None:
    """The reverse of :func:`_take`, for a convolution with or without a bias."""
    state_dict[f"{conv}.weight"] = layer["conv"]
    if bias:
        state_dict[f"{conv}.bias"] = layer.get("conv_bias", torch.zeros_like(layer["bias"]))
    for key in _NORM:
        state_dict[f"{norm}.{key}"] = layer[key]
    if not bias and "conv_bias" in layer:  # (x + b) - mean = x - (mean - b)
        state_dict[f"{norm}.running_mean"] = layer["running_mean"] - layer["conv_bias"]


def _join(layers: list[StateDict]) -> StateDict:
    """One layer with the output channels of all."""
    first = layers[0]
    return {key: torch.cat([layer[key] for layer in layers]) if first[key].ndim else first[key] for key in first}


def _split(layer: StateDict, parts: int) -> list[StateDict]:
    """``parts`` layers with an equal share of the output channels each."""
    shares = {key: value.chunk(parts) if value.ndim else [value] * parts for key, value in layer.items()}
    return [{key: share[i].clone() for key, share in shares.items()} for i in range(parts)]
