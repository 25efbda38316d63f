"""Measuring the activity of a model's spiking layers while it is evaluated."""

from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.neurons.base import SpikingNeuron


class LayerActivity(NamedTuple):
    """Activity of one spiking layer over all inputs."""

    group: str | None
    rate: float  # spikes per neuron and time step, divided by the most that a neuron can emit
    dead_fraction: float  # share of the layer's neurons that never fired


class FiringRateMeter:
    """Counts the spikes of every spiking layer of ``model`` inside the block, for any neuron and backend.

    For inputs of several sizes a layer has several sets of neurons, all of which count.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(create_neuron("lif", group="mlp"))
    >>> with FiringRateMeter(model) as meter:
    ...     _ = model(2 * torch.ones(4, 1, 3))
    >>> meter.groups(), meter.dead_fraction()
    ({'mlp': 1.0}, 0.0)
    """

    def __init__(self, model: nn.Module) -> None:
        self._neurons = {name: m for name, m in model.named_modules() if isinstance(m, SpikingNeuron)}
        self._spikes: dict[str, Tensor] = {}
        self._steps: dict[str, int] = dict.fromkeys(self._neurons, 0)
        # Whether each neuron has fired, by layer and by the shape of its neurons.
        self._fired: dict[str, dict[torch.Size, Tensor]] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "FiringRateMeter":
        for name, neuron in self._neurons.items():

            def count(_: nn.Module, __: object, spikes: Tensor, name: str = name) -> None:
                self._count(name, spikes.detach().abs() if self._neurons[name].signed else spikes.detach())

            self._hooks.append(neuron.register_forward_hook(count))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _count(self, name: str, spikes: Tensor) -> None:
        per_neuron = spikes.sum((0, 1), dtype=torch.float32)  # [T, B, ...] -> the layer's neurons, [...]
        self._add(name, per_neuron.sum(), spikes.numel(), [per_neuron > 0])

    def _add(self, name: str, spikes: Tensor, steps: int, fired: Iterable[Tensor]) -> None:
        of_layer = self._fired.setdefault(name, {})
        for each in fired:
            of_layer[each.shape] = of_layer[each.shape] | each if each.shape in of_layer else each
        self._spikes[name] = self._spikes[name] + spikes if name in self._spikes else spikes
        self._steps[name] += steps

    def join(self) -> None:
        """Adds up the counts of all ranks, each of which has measured other inputs."""
        mine = {
            name: (spikes.cpu(), self._steps[name], [fired.cpu() for fired in self._fired[name].values()])
            for name, spikes in self._spikes.items()
        }
        every = ranks.gathered(mine)
        self._spikes, self._fired, self._steps = {}, {}, dict.fromkeys(self._neurons, 0)
        for of_rank in every:
            for name, counted in of_rank.items():
                self._add(name, *counted)

    def layers(self) -> dict[str, LayerActivity]:
        """Activity of each layer, by its name in the model. Layers without input are left out."""
        return {
            name: LayerActivity(
                neuron.group,
                self._spikes[name].item() / (self._steps[name] * neuron.max_spikes),
                _silent(self._fired[name].values()),
            )
            for name, neuron in self._neurons.items()
            if name in self._spikes
        }

    def groups(self) -> dict[str, float]:
        """Firing rate by group: the mean over its layers."""
        rates: dict[str, list[float]] = {}
        for layer in self.layers().values():
            rates.setdefault(layer.group or "all", []).append(layer.rate)
        return {group: sum(values) / len(values) for group, values in rates.items()}

    def dead_fraction(self) -> float:
        """Share of all neurons that never fired."""
        return _silent(fired for of_layer in self._fired.values() for fired in of_layer.values())


def _silent(fired: Iterable[Tensor]) -> float:
    """Share of the neurons that have not fired; 0 of none."""
    counts = [(each.sum().item(), each.numel()) for each in fired]
    total = sum(size for _, size in counts)
    return 1 - sum(active for active, _ in counts) / total if total else 0.0
