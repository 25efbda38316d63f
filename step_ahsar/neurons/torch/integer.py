"""Neurons that emit whole numbers of spikes in one time step."""

from typing import Any

from step_ahsar.neurons import equations
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import TorchNeuron, check_size, check_tau


@register_neuron("ilif", backend="torch")
class ILIF(TorchNeuron):
    """Integer LIF, :func:`equations.ilif_step`: 0 to D spikes in a time step.

    The gradient is the paper's, straight through inside the clip, so there is no surrogate to choose. The reset is
    soft. Firing rates are divided by D.

    Args:
        max_count: D, >= 1.
        tau: membrane time constant in time steps, > 1; 4/3 is the authors' decay of 0.25.
        options: threshold and detach_reset of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.ilif_step)
    without = ("surrogate", "alpha", "reset", "surrogate_scale")

    def __init__(self, *, max_count: int = 4, tau: float = 4 / 3, **options: Any) -> None:
        super().__init__(surrogate="rectangle", alpha=None, reset="soft", **options)
        self.max_count = check_size(max_count, self.name, "max_count")
        self.max_spikes = float(max_count)
        self.tau = check_tau(tau, self.name)

    @property
    def decay(self) -> float:
        """The share of the membrane that remains after a time step."""
        return 1 - 1 / self.tau


@register_neuron("nilif", backend="torch")
class NILIF(ILIF):
    """Normalised integer LIF, :func:`equations.nilif_step`: emits k / D, k from 0 to D.

    Args:
        options: of :class:`ILIF`.
    """

    step = staticmethod(equations.nilif_step)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.max_spikes = 1.0
        self.spike_value = 1 / self.max_count
