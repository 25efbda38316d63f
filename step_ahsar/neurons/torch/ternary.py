"""Neurons that emit spikes of two signs."""

from typing import Any, ClassVar

from step_ahsar.neurons import equations
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import Step, TorchNeuron, check_tau


@register_neuron("ternary_if", backend="torch")
class TernaryIF(TorchNeuron):
    """Ternary integrate-and-fire, :func:`equations.ternary_if_step`. Spikes of both signs count as spikes."""

    step: ClassVar[Step] = staticmethod(equations.ternary_if_step)
    signed = True


@register_neuron("ternary_lif", backend="torch")
class TernaryLIF(TernaryIF):
    """Ternary leaky integrate-and-fire, :func:`equations.ternary_lif_step`.

    Args:
        tau: membrane time constant in time steps, > 1.
        options: of :class:`TorchNeuron`.
    """

    step: ClassVar[Step] = staticmethod(equations.ternary_lif_step)

    def __init__(self, *, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.tau = check_tau(tau, self.name)
