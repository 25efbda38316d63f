"""Integrate-and-fire neurons whose membrane is linear below the threshold."""

import math
from typing import Any, ClassVar

import torch
from torch import nn

from step_ahsar.neurons import equations
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import Step, TorchNeuron, check_range, check_tau


@register_neuron("if", backend="torch")
class IF(TorchNeuron):
    """Integrate-and-fire, :func:`equations.if_step`."""

    step = staticmethod(equations.if_step)


@register_neuron("lif", backend="torch")
class LIF(TorchNeuron):
    """Leaky integrate-and-fire, :func:`equations.lif_step`.

    Args:
        tau: membrane time constant in time steps, > 1.
        options: of :class:`TorchNeuron`.
    """

    step: ClassVar[Step] = staticmethod(equations.lif_step)

    def __init__(self, *, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.tau = check_tau(tau, self.name)


@register_neuron("plif", backend="torch")
class PLIF(TorchNeuron):
    """Parametric LIF, :func:`equations.plif_step`: one learnt time constant for the layer.

    Args:
        tau: initial time constant, in time steps, > 1.
        options: of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.plif_step)

    def __init__(self, *, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.w = nn.Parameter(torch.tensor(-math.log(check_tau(tau, self.name) - 1)))

    @property
    def tau(self) -> float:
        """The time constant in force, in time steps."""
        return 1 / self.w.detach().sigmoid().item()


@register_neuron("klif", backend="torch")
class KLIF(LIF):
    """KLIF, :func:`equations.klif_step`: a learnt factor k on the membrane, one for the layer, initially 1.

    Args:
        options: of :class:`LIF`.
    """

    step = staticmethod(equations.klif_step)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.k = nn.Parameter(torch.tensor(1.0))


@register_neuron("clif", backend="torch")
class CLIF(LIF):
    """Complementary LIF, :func:`equations.clif_step`.

    Its reset is soft, and the gradient through the reset is part of its idea, so ``reset`` and ``detach_reset`` are not
    options.

    Args:
        surrogate: name of the surrogate; the paper's is the rectangle.
        options: of :class:`LIF`.
    """

    step = staticmethod(equations.clif_step)
    rest: tuple[float, ...] = (0.0, 0.0)
    without = ("reset", "detach_reset")
    scales_with_input = False

    def __init__(self, *, surrogate: str = "rectangle", **options: Any) -> None:
        super().__init__(surrogate=surrogate, reset="soft", detach_reset=False, **options)


@register_neuron("cubalif", backend="torch")
class CUBALIF(TorchNeuron):
    """Current-based LIF, :func:`equations.cubalif_step`. Defaults are SpikingJelly's.

    Args:
        current_decay: share of the synaptic current that remains after a time step, in [0, 1).
        voltage_decay: share of the membrane that remains after a time step, in [0, 1).
        threshold: firing threshold, > 0.
        surrogate: name of the surrogate.
        options: of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.cubalif_step)
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
