"""The spikes of every layer of a model in one pass."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.neurons.base import SpikingNeuron


@dataclass(frozen=True)
class Trace:
    """What a model did with some inputs.

    Args:
        outputs: what it returned.
        spikes: the output of each spiking layer, [T, B, ...], by its name in the model, in the order in which they ran.
        groups: the group of each layer; None if it has none.
    """

    outputs: Any
    spikes: dict[str, Tensor]
    groups: dict[str, str | None]


@torch.no_grad()
def trace(model: nn.Module, x: Tensor) -> Trace:
    """Runs ``model(x)`` in the mode that it is in, and keeps the spikes of every layer.

    A layer that runs several times in one pass has them joined along the batch.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(create_neuron("lif", group="mlp"), create_neuron("if"))
    >>> found = trace(model, torch.full((2, 1, 3), 2.0))
    >>> {name: spikes.mean((1, 2)).tolist() for name, spikes in found.spikes.items()}, found.groups
    ({'0': [1.0, 1.0], '1': [1.0, 1.0]}, {'0': 'mlp', '1': None})
    """
    neurons = {name: module for name, module in model.named_modules() if isinstance(module, SpikingNeuron)}
    kept: dict[str, list[Tensor]] = {}
    hooks = []
    for name, neuron in neurons.items():

        def keep(_: nn.Module, __: object, spikes: Tensor, name: str = name) -> None:
            kept.setdefault(name, []).append(spikes.detach().clone())

        hooks.append(neuron.register_forward_hook(keep))
    try:
        outputs = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    spikes = {name: torch.cat(found, 1) if len(found) > 1 else found[0] for name, found in kept.items()}
    return Trace(outputs, spikes, {name: neurons[name].group for name in spikes})
