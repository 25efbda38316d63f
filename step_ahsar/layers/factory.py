"""The neuron of a whole model, chosen once and made layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from step_ahsar.neurons import SpikingNeuron, create_neuron, neuron_options


@dataclass(frozen=True)
class NeuronFactory:
    """Makes the spiking neurons of one model.

    Args:
        name: neuron of the registry.
        backend: who simulates it.
        threshold: firing threshold of every layer but the attention's own.
        attn_threshold: threshold of the neuron behind the attention product; None = half of ``threshold``, the
            published ratio (1 and 0.5).
        options: further options of the neuron (tau, surrogate, alpha, ...); the registry validates them.
        time_steps: T, for neurons with parameters for each time step.
    """

    name: str = "lif"
    backend: str = "torch"
    threshold: float = 1.0
    attn_threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    time_steps: int | None = None

    def __call__(self, group: str, channels: int) -> SpikingNeuron:
        """A neuron of ``group`` ("stem", "attention", "mlp" or "head") for inputs [T, B, channels, ...]."""
        return self._make(group, channels, self.threshold)

    def behind_attention(self, channels: int) -> SpikingNeuron:
        """The neuron that turns the attention product into spikes, at ``attn_threshold``."""
        halved = self.threshold / 2 if self.attn_threshold is None else self.attn_threshold
        return self._make("attention", channels, halved)

    def _make(self, group: str, channels: int, threshold: float) -> SpikingNeuron:
        base = self.options.get("base", "lif") if self.name == "ahsar" else self.name
        known = neuron_options(base, self.backend) or ()
        sizes = {"time_steps": self.time_steps, "channels": channels}
        options = {name: size for name, size in sizes.items() if name in known} | dict(self.options)
        return create_neuron(self.name, self.backend, group=group, threshold=threshold, **options)
