"""Measuring what the spiking layers of a model do while it is evaluated, on real inputs."""

from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from step_ahsar.neurons.base import SpikingNeuron


class LayerActivity(NamedTuple):
    """Activity of one spiking layer over everything that was measured."""

    group: str | None
    rate: float  # spikes per neuron and time step, over the most that a neuron can emit
    dead_fraction: float  # share of the layer's neurons that never fired


class FiringRateMeter:
    """Counts spikes of every spiking layer of ``model`` while the context is open, whatever the neuron or backend.

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
        self._fired: dict[str, Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "FiringRateMeter":
        for name, neuron in self._neurons.items():

            def count(_: nn.Module, __: object, spikes: Tensor, name: str = name) -> None:
                self._count(name, spikes.detach())

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
        total, fired = per_neuron.sum(), per_neuron > 0
        known = self._fired.get(name)
        if known is None or known.shape != fired.shape:  # the input's size changed: the layer has other neurons
            self._fired[name] = fired
        else:
            known |= fired
        self._spikes[name] = self._spikes[name] + total if name in self._spikes else total
        self._steps[name] += spikes.numel()

    def layers(self) -> dict[str, LayerActivity]:
        """Activity by the layer's name in the model; layers that saw no input are left out."""
        return {
            name: LayerActivity(
                neuron.group,
                self._spikes[name].item() / (self._steps[name] * neuron.max_spikes),
                1 - self._fired[name].float().mean().item(),
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
        fired = [f.float() for f in self._fired.values()]
        total = sum(f.numel() for f in fired)
        return 1 - sum(f.sum().item() for f in fired) / total if total else 0.0
