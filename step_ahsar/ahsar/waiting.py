"""Finding the model that new neurons are in, at its first forward pass in training.

A neuron does not know the model that it is in. So new neurons are put on a list, and a hook runs before every call of a
module. The first module to be called is the outermost one, the model: if neurons on the list are in it, they are taken
off the list and their action is called with the model. The hook is removed as soon as the list is empty.
"""

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from step_ahsar.neurons import SpikingNeuron


@runtime_checkable
class NeedsModel(Protocol):
    """A neuron that must be told its model before its first forward pass, in training or in evaluation."""

    def set_model(self, model: nn.Module) -> None:
        """Called once, with the model."""


Action = Callable[[nn.Module], None]

_waiting: weakref.WeakKeyDictionary[nn.Module, Action] = weakref.WeakKeyDictionary()  # each neuron with its action
_need_model: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # neurons that were not told their model yet
_without: weakref.WeakSet[nn.Module] = weakref.WeakSet()  # modules known to hold none of these neurons
_hook: Any = None


def wait_for_model(neuron: SpikingNeuron, action: Action) -> None:
    """Puts ``neuron`` on the list. ``action`` is called with its model before the model's first training forward."""
    global _hook
    _waiting[neuron] = action
    if isinstance(neuron, NeedsModel):
        _need_model.add(neuron)
    _without.clear()
    if _hook is None:
        _hook = register_module_forward_pre_hook(_before_any_module)


def forget(modules: Iterable[nn.Module]) -> None:
    """Takes these modules off the list."""
    global _hook
    for module in modules:
        _waiting.pop(module, None)
        if isinstance(module, SpikingNeuron):
            module.wait = None
    if not (_waiting or _need_model) and _hook is not None:
        _hook.remove()
        _hook = None


def _before_any_module(module: nn.Module, _: Any) -> None:
    trains = module.training and torch.is_grad_enabled()
    if not (trains or _need_model) or module in _without:
        return
    held = [each for each in module.modules() if each in _waiting or each in _need_model]
    if not held:
        _without.add(module)
        forget(())
        return
    if held == [module]:  # a neuron that is called without a model around it
        return
    for neuron in [each for each in held if each in _need_model]:
        _need_model.discard(neuron)
        assert isinstance(neuron, NeedsModel)
        neuron.set_model(module)
    if trains:
        actions = dict.fromkeys(_waiting[each] for each in held if each in _waiting)
        forget(held)
        for action in actions:
            action(module)
