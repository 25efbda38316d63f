"""The neurons of a model: chosen once for the whole model, created layer by layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from step_ahsar.errors import UserError
from step_ahsar.neurons import NeuronKind, SpikingNeuron, create_neuron, neuron_kind
from step_ahsar.neurons.randomness import own_stream


@dataclass(frozen=True)
class NeuronFactory:
    """Makes the spiking neurons of one model.

    Args:
        name: neuron of the registry.
        backend: the library that simulates it.
        threshold: firing threshold of every neuron except those behind an attention product; None = the neuron's
            default.
        attn_threshold: threshold of the neuron behind the attention product; None = half of ``threshold``, the
            published ratio (1 and 0.5).
        options: further options of the neuron (tau, surrogate, alpha, ...), which the registry validates.
        time_steps: T, for neurons with parameters for each time step.
    """

    name: str = "lif"
    backend: str = "torch"
    threshold: float | None = None
    attn_threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    time_steps: int | None = None
    _numbers: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    @property
    def kind(self) -> NeuronKind:
        """The registry's facts about the neuron."""
        return neuron_kind(self.name, self.backend, self.options.get("base"))

    def __call__(self, group: str, channels: int) -> SpikingNeuron:
        """A neuron of ``group`` ("stem", "attention", "mlp" or "head") for inputs [T, B, channels, ...]."""
        return self._make(group, channels, self.threshold)

    def behind_attention(self, channels: int) -> SpikingNeuron:
        """The neuron behind an attention product, with the threshold ``attn_threshold``."""
        threshold = self.attn_threshold
        if threshold is None:
            whole = self.kind.threshold if self.threshold is None else self.threshold
            if whole is None:
                raise UserError(f"the default threshold of neuron {self.name!r} is not known; set one")
            threshold = whole / 2
        return self._make("attention", channels, threshold)

    def _make(self, group: str, channels: int, threshold: float | None) -> SpikingNeuron:
        known = self.kind.options or {}
        sizes = {"time_steps": self.time_steps, "channels": channels}
        options = {name: size for name, size in sizes.items() if name in known} | dict(self.options)
        if threshold is not None:
            options["threshold"] = threshold
        with own_stream(next(self._numbers)):
            return create_neuron(self.name, self.backend, group=group, **options)
