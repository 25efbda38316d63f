"""Attaching AHSAR to a model: finding its spiking neurons, grouping them, driving the controller."""

import itertools
import weakref
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from step_ahsar.ahsar.controller import Controller
from step_ahsar.ahsar.foreign import LIBRARIES, ForeignLayer, find_layer
from step_ahsar.ahsar.grouping import Grouping, group_neurons
from step_ahsar.ahsar.law import AHSARConfig
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron


def regulate(
    model: nn.Module, groups: Grouping | None = None, config: AHSARConfig | None = None, auto: bool = False
) -> Controller:
    """Puts the spiking neurons of ``model`` under AHSAR. Model, loss and gradients stay as they are.

    Args:
        model: any module that holds neurons of the registry, or of SpikingJelly, BrainCog or snnTorch.
        groups: which layers are regulated together. None takes each neuron's own group, else the one that its place in
            the model tells (:func:`step_ahsar.ahsar.grouping.default_group`; "other" if none), or "all" in models
            without attention. A mapping gives name patterns (``*`` matches anything) per group, against the neurons'
            names in the model; a callable ``(name, neuron) -> group or None`` decides one by one. Neurons in no group
            are left as they are.
        config: the law's constants.
        auto: drive the controller from hooks, for training loops that cannot be edited: the fast loop after each step
            of an optimiser that holds parameters of the model, the slow loop (without a metric) when training goes
            on after an evaluation.

    Returns:
        The controller. Without ``auto``, call ``step()`` after the optimiser's step and ``epoch_end(metric)`` after
        validation. ``release()`` gives the model back as it was.

    Raises:
        UserError: no spiking neuron, a pattern that matches none, a neuron in two groups, a neuron that cannot be
            regulated.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(nn.Linear(8, 8), create_neuron("lif"), nn.Linear(8, 2), create_neuron("lif"))
    >>> controller = regulate(model, groups={"mlp": ["1", "3"]})
    >>> controller.groups
    ('mlp',)
    """
    layers = _layers(model)
    if not layers:
        raise UserError(
            f"{type(model).__name__} holds no spiking neuron that is known; known are those of step_ahsar.neurons and "
            f"of {', '.join(LIBRARIES)}"
        )
    neurons = {name: layer.node if isinstance(layer, ForeignLayer) else layer for name, layer in layers.items()}
    grouped = group_neurons(model, neurons, groups)
    device = next((t.device for t in itertools.chain(model.parameters(), model.buffers())), torch.device("cpu"))
    with device:
        controller = Controller(
            {group: {name: layers[name] for name in names} for group, names in grouped.items()},
            config or AHSARConfig(),
        )
    if auto:
        _drive(model, controller)
    return controller


def is_regulated(model: nn.Module) -> bool:
    """Whether the model holds `ahsar` neurons, or neurons that :func:`regulate` was called on."""
    return any(layer.threshold_scale is not None for layer in _layers(model).values())


def _layers(model: nn.Module) -> dict[str, SpikingNeuron | ForeignLayer]:
    """Every spiking neuron by its name in the model."""
    found = {}
    for name, module in model.named_modules():
        layer = module if isinstance(module, SpikingNeuron) else find_layer(module)
        if layer is not None:
            found[name] = layer
    return found


def _drive(model: nn.Module, controller: Controller) -> None:
    """Hooks that call the controller where a training loop would."""
    # The first hook outlives the model, which holds the controller by the second one.
    the_model, the_controller = weakref.ref(model), weakref.ref(controller)
    was_training = model.training

    def after_optimizer_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        model, controller = the_model(), the_controller()
        if model is None or controller is None:
            return
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if any(id(p) in held for p in model.parameters()):
            controller.step()

    def before_forward(module: nn.Module, _: Any) -> None:
        nonlocal was_training
        if module is not the_model():  # a copy
            return
        if module.training and not was_training:
            controller.epoch_end()
        was_training = module.training

    controller.hooks.append(register_optimizer_step_post_hook(after_optimizer_step))
    controller.hooks.append(model.register_forward_pre_hook(before_forward))
