"""Attaching AHSAR to a model: finding its spiking neurons, grouping them, driving the controller."""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from step_ahsar.ahsar.controller import Controller
from step_ahsar.ahsar.law import AHSARConfig
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron

Patterns = Mapping[str, str | Sequence[str]]
Grouping = Patterns | Callable[[str, nn.Module], str | None]


def regulate(
    model: nn.Module, groups: Grouping | None = None, config: AHSARConfig | None = None, auto: bool = False
) -> Controller:
    """Puts the spiking neurons of ``model`` under AHSAR. Model, loss and gradients stay as they are.

    Args:
        model: any module that holds neurons of the registry.
        groups: which layers are regulated together. None takes each neuron's own group (neurons without one form the
            group "all"). A mapping gives name patterns (``*`` matches anything) per group, against the neurons' names
            in the model; a callable ``(name, neuron) -> group or None`` decides one by one. Neurons in no group are
            left as they are.
        config: the law's constants.
        auto: drive the controller from hooks, for training loops that cannot be edited: the fast loop after each step
            of an optimiser that holds parameters of the model, the slow loop (without a metric) when training goes
            on after an evaluation.

    Returns:
        The controller. Without ``auto``, call ``step()`` after the optimiser's step and ``epoch_end(metric)`` after
        validation.

    Raises:
        UserError: no spiking neuron, a pattern that matches none, a neuron in two groups, a neuron that cannot be
            regulated.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(nn.Linear(8, 8), create_neuron("lif"), nn.Linear(8, 2), create_neuron("lif"))
    >>> controller = regulate(model, groups={"mlp": ["1", "3"]})
    >>> controller.groups
    ('mlp',)
    """
    neurons = {name: module for name, module in model.named_modules() if isinstance(module, SpikingNeuron)}
    if not neurons:
        raise UserError(f"{type(model).__name__} holds no spiking neuron of the registry; nothing to regulate")
    controller = Controller(_group(neurons, groups), config or AHSARConfig())
    if auto:
        _drive(model, controller)
    return controller


def is_regulated(model: nn.Module) -> bool:
    """Whether the model holds `ahsar` neurons, or neurons that :func:`regulate` was called on."""
    return any(isinstance(m, SpikingNeuron) and m.threshold_scale is not None for m in model.modules())


def _group(neurons: Mapping[str, SpikingNeuron], groups: Grouping | None) -> dict[str, dict[str, SpikingNeuron]]:
    """The neurons of each group in the order of the model."""
    if groups is None:
        groups_of = {name: [neuron.group or "all"] for name, neuron in neurons.items()}
    elif callable(groups):
        groups_of = {name: [group] if (group := groups(name, n)) else [] for name, n in neurons.items()}
    else:
        groups_of = {name: _matching(name, groups) for name in neurons}
        for group in groups:
            if not any(group in of for of in groups_of.values()):
                raise UserError(
                    f"group {group!r}: {groups[group]!r} matches no spiking neuron; the model has {_some(neurons)}"
                )
    members: dict[str, dict[str, SpikingNeuron]] = {}
    for name, of in groups_of.items():
        if len(of) > 1:
            raise UserError(f"neuron {name!r} is in more than one group: {', '.join(of)}; narrow their patterns")
        if of:
            members.setdefault(of[0], {})[name] = neurons[name]
    if not members:
        raise UserError(f"no spiking neuron was put in a group; the model has {_some(neurons)}")
    return members


def _matching(name: str, groups: Patterns) -> list[str]:
    return [
        group
        for group, patterns in groups.items()
        if any(fnmatchcase(name, p) for p in ([patterns] if isinstance(patterns, str) else patterns))
    ]


def _some(names: Mapping[str, Any], limit: int = 6) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")


def _drive(model: nn.Module, controller: Controller) -> None:
    """Hooks that call the controller where a training loop would."""
    was_training = model.training

    def after_optimizer_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if any(id(p) in held for p in model.parameters()):
            controller.step()

    def before_forward(module: nn.Module, _: Any) -> None:
        nonlocal was_training
        if module.training and not was_training:
            controller.epoch_end()
        was_training = module.training

    controller.hooks.append(register_optimizer_step_post_hook(after_optimizer_step))
    controller.hooks.append(model.register_forward_pre_hook(before_forward))
