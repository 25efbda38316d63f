"""Measuring the activity of a model's spiking layers while it is evaluated."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.neurons.base import SpikingNeuron

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the neurons, for :attr:`Distribution.quantiles`


class LayerActivity(NamedTuple):
    """Activity of one spiking layer over all inputs."""

    group: str | None
    rate: float  # spikes per neuron and time step, divided by the most that a neuron can emit
    dead_fraction: float  # share of the layer's neurons that never fired


@dataclass(frozen=True)
class Distribution:
    """How the firing rates of a layer's neurons differ, each rate over all inputs and time steps."""

    group: str | None
    quantiles: list[float]  # rates that 5, 25, 50, 75 and 95 % of the neurons do not exceed
    dead: float  # share of neurons that never fired
    saturated: float  # share of neurons that fired at every time step of every input, as often as they can


@dataclass
class _Count:
    """What the neurons of one layer, for inputs of one size, have done.

    Args:
        spikes: of each neuron.
        steps: the number of time steps at which each neuron could fire, over all samples.
    """

    spikes: Tensor
    steps: int

    def add(self, other: "_Count") -> None:
        self.spikes = self.spikes + other.spikes
        self.steps += other.steps


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
        self._counts: dict[str, dict[torch.Size, _Count]] = {}  # by layer and by the shape of its neurons
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
        # [T, B, ...] -> the layer's neurons, [...]. Sums of spikes are exact up to 2^24 for each neuron.
        self._add(name, _Count(spikes.sum((0, 1), dtype=torch.float32), spikes.shape[0] * spikes.shape[1]))

    def _add(self, name: str, count: _Count) -> None:
        of_layer = self._counts.setdefault(name, {})
        if count.spikes.shape in of_layer:
            of_layer[count.spikes.shape].add(count)
        else:
            of_layer[count.spikes.shape] = count

    def join(self) -> None:
        """Adds up the counts of all ranks, each of which has measured other inputs."""
        mine = {
            name: [_Count(count.spikes.cpu(), count.steps) for count in of_layer.values()]
            for name, of_layer in self._counts.items()
        }
        every = ranks.gathered(mine)
        self._counts = {}
        for of_rank in every:
            for name, counts in of_rank.items():
                for count in counts:
                    self._add(name, count)

    def layers(self) -> dict[str, LayerActivity]:
        """Activity of each layer, by its name in the model. Layers without input are left out."""
        found = {}
        for name, (neuron, counts) in self._measured().items():
            spikes = sum(count.spikes.sum(dtype=_exact(count.spikes)).item() for count in counts)
            possible = sum(count.spikes.numel() * count.steps for count in counts) * neuron.max_spikes
            found[name] = LayerActivity(neuron.group, spikes / possible, _share(counts, _is_dead))
        return found

    def distributions(self) -> dict[str, Distribution]:
        """How the rates of each layer's neurons are distributed, by the layer's name."""
        found = {}
        for name, (neuron, counts) in self._measured().items():
            rates = [count.spikes.flatten().cpu().numpy() / (count.steps * neuron.max_spikes) for count in counts]
            quantiles = np.quantile(np.concatenate(rates), SHARES)
            found[name] = Distribution(
                neuron.group,
                quantiles.tolist(),
                _share(counts, _is_dead),
                _share(counts, partial(_is_saturated, most=neuron.max_spikes)),
            )
        return found

    def groups(self) -> dict[str, float]:
        """Firing rate by group: the mean over its layers."""
        rates: dict[str, list[float]] = {}
        for layer in self.layers().values():
            rates.setdefault(layer.group or "all", []).append(layer.rate)
        return {group: sum(values) / len(values) for group, values in rates.items()}

    def dead_fraction(self) -> float:
        """Share of all neurons that never fired."""
        every = [count for of_layer in self._counts.values() for count in of_layer.values()]
        return _share(every, _is_dead)

    def _measured(self) -> dict[str, tuple[SpikingNeuron, list[_Count]]]:
        """Each layer that had input, with its counts, in the order of the model."""
        return {
            name: (neuron, list(self._counts[name].values()))
            for name, neuron in self._neurons.items()
            if name in self._counts
        }


def _is_dead(count: _Count) -> Tensor:
    return count.spikes == 0


def _is_saturated(count: _Count, most: float) -> Tensor:
    return count.spikes >= count.steps * most


def _share(counts: Iterable[_Count], chosen: Callable[[_Count], Tensor]) -> float:
    """Share of the neurons that are chosen; 0 of none."""
    found = [(chosen(count).sum().item(), count.spikes.numel()) for count in counts]
    total = sum(size for _, size in found)
    return sum(number for number, _ in found) / total if total else 0.0


def _exact(spikes: Tensor) -> torch.dtype:
    """The type in which counts are added up: fp64 where there is one."""
    return torch.float32 if spikes.device.type == "mps" else torch.float64
