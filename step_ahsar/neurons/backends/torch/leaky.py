"""Integrate-and-fire neurons whose membrane is linear below the threshold."""

import math
from typing import Any, ClassVar

import torch
from torch import nn

from step_ahsar.neurons import functional
from step_ahsar.neurons.backends.torch.base import Step, TorchNeuron, check_range, check_tau
from step_ahsar.neurons.registry import register_neuron


@register_neuron("if", backend="torch")
class IF(TorchNeuron):
    """Integrate-and-fire, :func:`functional.if_step`."""

    step = staticmethod(functional.if_step)


@register_neuron("lif", backend="torch")
class LIF(TorchNeuron):
    """Leaky integrate-and-fire, :func:`functional.lif_step`.

    Args:
        tau: membrane time constant in time steps, > 1.
        options: of :class:`TorchNeuron`.
    """

    step: ClassVar[Step] = staticmethod(functional.lif_step)

    def __init__(self, *, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.tau = check_tau(tau, self.name)


@register_neuron("plif", backend="torch")
class PLIF(TorchNeuron):
    """Parametric LIF, :func:`functional.plif_step`: one learnt time constant for the layer.

    Args:
        tau: time constant to start from, in time steps, > 1.
        options: of :class:`TorchNeuron`.
    """

    step = staticmethod(functional.plif_step)

    def __init__(self, *, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.w = nn.Parameter(torch.tensor(-math.log(check_tau(tau, self.name) - 1)))

    @property
    def tau(self) -> float:
        """The time constant in force, in time steps."""
        return 1 / self.w.detach().sigmoid().item()


@register_neuron("klif", backend="torch")
class KLIF(LIF):
    """KLIF, :func:`functional.klif_step`: a learnt factor k on the membrane, one for the layer, from 1.

    Args:
        options: of :class:`LIF`.
    """

    step = staticmethod(functional.klif_step)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.k = nn.Parameter(torch.tensor(1.0))


@register_neuron("clif", backend="torch")
class CLIF(LIF):
    """Complementary LIF, :func:`functional.clif_step`.

    It subtracts at a spike, and the gradient through that is what it is for, so reset and detach_reset are no options.

    Args:
        surrogate: the paper's is the rectangle.
        options: of :class:`LIF`.
    """

    step = staticmethod(functional.clif_step)
    rest: tuple[float, ...] = (0.0, 0.0)
    without = ("reset", "detach_reset")
    scales_with_input = False

    def __init__(self, *, surrogate: str = "rectangle", **options: Any) -> None:
        super().__init__(surrogate=surrogate, reset="soft", detach_reset=False, **options)


@register_neuron("cubalif", backend="torch")
class CUBALIF(TorchNeuron):
    """Current-based LIF, :func:`functional.cubalif_step`. Defaults are SpikingJelly's.

    Args:
        current_decay: what a time step leaves of the synaptic current, in [0, 1).
        voltage_decay: what a time step leaves of the membrane, in [0, 1).
        threshold: firing threshold, > 0.
        surrogate: name of the surrogate.
        options: of :class:`TorchNeuron`.
    """

    step = staticmethod(functional.cubalif_step)
    rest: tuple[float, ...] = (0.0, 0.0)

    def __init__(
        self,
        *,
        current_decay: float = 0.5,
        voltage_decay: float = 0.75,
        threshold: float = 0.5,
        surrogate: str = "rectangle",
        **options: Any,
    ) -> None:
        super().__init__(threshold=threshold, surrogate=surrogate, **options)
        self.current_decay = check_range(current_decay, 0, 1, self.name, "current_decay")
        self.voltage_decay = check_range(voltage_decay, 0, 1, self.name, "voltage_decay")
