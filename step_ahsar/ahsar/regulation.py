"""Putting a model under AHSAR: finding its spiking neurons, sorting them into groups, creating the controller."""

import itertools
import warnings
from collections.abc import Mapping

import torch
from torch import nn

from step_ahsar import internals
from step_ahsar.ahsar.config import AHSARConfig
from step_ahsar.ahsar.controller import Controller, controller_at, controllers_of
from step_ahsar.ahsar.finding import Layer, find_layers, find_strangers
from step_ahsar.ahsar.grouping import Grouping, group_neurons
from step_ahsar.errors import UserError, shortened
from step_ahsar.libraries.regulation import NodeLayer, Rules, ScaleRule, regulated_libraries
from step_ahsar.neurons import SpikingNeuron


def regulate(
    model: nn.Module,
    groups: Grouping | None = None,
    config: AHSARConfig | None = None,
    auto: bool = False,
    nodes: Rules | None = None,
) -> Controller:
    """Puts the spiking neurons of ``model`` under AHSAR. The loss and the gradients are not changed.

    Args:
        model: any module that holds neurons of the registry, of SpikingJelly, BrainCog or snnTorch, or of ``nodes``.
        groups: which layers are regulated together. By default each neuron's own group, else the group of its place in
            the model (:func:`step_ahsar.ahsar.grouping.default_group`; "other" if there is none); in a model without
            attention all neurons are in one group, "all". A mapping gives for each group one or more patterns of
            neuron names (``*`` matches anything). A callable ``(name, neuron) -> group or None`` decides for each
            neuron. Neurons in no group are not regulated.
        config: constants of the law.
        auto: for training loops that cannot be edited: run the fast loop after each step of an optimiser that holds
            parameters of the model, and the slow loop (without a metric) when training continues after an evaluation.
        nodes: your own classes of spiking modules, each with a :class:`ScaleRule` that says how a threshold scale
            enters it, such as ``{MyNode: ScaleRule(threshold="v_th")}``.

    Returns:
        The controller; :func:`controller_of` returns it again. Without ``auto``, call its ``step()`` after the
        optimiser's step and ``epoch_end(metric)`` after validation. ``release()`` restores the model as it was.

    Raises:
        UserError: no spiking neuron, a pattern that matches none, a neuron in two groups, a neuron that cannot be
            regulated, a rule that does not fit its class, a model that is under a controller already.

    Warns:
        UserWarning: modules of unknown classes look like spiking neurons and are not regulated.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(nn.Linear(8, 8), create_neuron("lif"), nn.Linear(8, 2), create_neuron("lif"))
    >>> controller = regulate(model, groups={"mlp": ["1", "3"]})
    >>> controller.groups
    ('mlp',)
    """
    for cls, rule in (nodes or {}).items():
        if not (isinstance(cls, type) and issubclass(cls, nn.Module) and isinstance(rule, ScaleRule)):
            raise UserError(f"nodes must map classes of modules to ScaleRules, got {cls!r}: {rule!r}")
    model = internals.uncompiled(model)
    layers = find_layers(model, nodes)
    strangers = find_strangers(model, layers)
    if not layers:
        known = f"known are those of step_ahsar.neurons and of {', '.join(regulated_libraries())}"
        hint = f"; to regulate {_described(strangers)}, pass nodes={{TheirClass: ScaleRule(...)}}" if strangers else ""
        raise UserError(f"{type(model).__name__} holds no spiking neuron of a known class; {known}{hint}")
    for other in controllers_of(layers.values()):
        if not other.self_made:
            raise UserError(
                f"{type(model).__name__} is under a controller already, or a part of it is, or a model around it; "
                "release that one first: controller_of(model).release()"
            )
        other.release()
    controller = control(model, layers, groups, config, auto)
    controller.silence(
        neuron
        for neuron in layers.values()
        if isinstance(neuron, SpikingNeuron) and neuron.before_training is not None and controller_at(neuron) is None
    )
    if strangers:
        warnings.warn(
            f"not regulated, because their classes are not known: {_described(strangers)}. They look like spiking "
            "neurons; to regulate them, call regulate(..., nodes={TheirClass: ScaleRule(...)})",
            stacklevel=2,
        )
    return controller


def control(
    model: nn.Module,
    layers: Mapping[str, Layer],
    groups: Grouping | None = None,
    config: AHSARConfig | None = None,
    auto: bool = False,
) -> Controller:
    """A controller for ``layers`` of ``model``, by their names in it. Other arguments: :func:`regulate`."""
    modules = {name: layer.node if isinstance(layer, NodeLayer) else layer for name, layer in layers.items()}
    grouped = group_neurons(model, modules, groups)
    chosen = {group: {name: layers[name] for name in names} for group, names in grouped.items()}
    device = next((t.device for t in itertools.chain(model.parameters(), model.buffers())), torch.device("cpu"))
    # What it creates is changed in place later, which is not allowed for tensors that were made in inference mode.
    with torch.inference_mode(False), device:
        return Controller(chosen, config or AHSARConfig(), model, auto)


def controller_of(model: nn.Module) -> Controller:
    """The controller that regulates layers of ``model``. Raises UserError if there is none, or more than one.

    The model may be compiled, or in a wrapper, or a part of the model that was regulated.
    """
    found = controllers_of(find_layers(model).values())
    if len(found) != 1:
        what = (
            "several parts with a controller each; ask for the controller of one part"
            if found
            else (
                "no controller; regulate(model) creates one, and a model of ahsar neurons creates its own at its first "
                "forward pass in training"
            )
        )
        raise UserError(f"{type(model).__name__} has {what}")
    return found[0]


def is_regulated(model: nn.Module) -> bool:
    """Whether the model holds ``ahsar`` neurons, or neurons that :func:`regulate` has put under a controller."""
    return any(layer.threshold_scale is not None for layer in find_layers(model).values())


def _described(modules: dict[str, nn.Module]) -> str:
    return shortened((f"{name} ({type(module).__name__})" for name, module in modules.items()), limit=3)
