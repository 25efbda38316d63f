"""The project's own neurons: step equations of functional.py through the fused kernels."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons import functional
from step_ahsar.neurons.base import SpikingNeuron, scalar
from step_ahsar.neurons.kernels import Dynamics, State, multi_step
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.surrogate import resolve_alpha

RESETS = ("hard", "soft")


class TorchNeuron(SpikingNeuron):
    """A neuron given by one step equation; a subclass names the equation and adds its parameters.

    Args:
        threshold: firing threshold, > 0.
        surrogate: see :func:`step_ahsar.neurons.list_surrogates`.
        alpha: the surrogate's parameter, > 0; None takes the surrogate's default.
        reset: after a spike the membrane goes to 0 ("hard") or loses the threshold ("soft").
        detach_reset: no gradient through the reset.
        group: what it is regulated and reported with.
    """

    step: ClassVar[Callable[..., tuple[Tensor, ...]]]
    rest: ClassVar[tuple[float, ...]] = (0.0,)
    scales_with_input = True

    def __init__(
        self,
        threshold: float = 1.0,
        surrogate: str = "sigmoid",
        alpha: float | None = None,
        reset: str = "hard",
        detach_reset: bool = True,
        group: str | None = None,
    ) -> None:
        super().__init__(threshold, group)
        if reset not in RESETS:
            raise unknown("reset", reset, RESETS)
        self.surrogate, self.alpha = surrogate, resolve_alpha(surrogate, alpha)
        self.reset, self.detach_reset = reset, detach_reset

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """The step equation's parameters, 0-d on x's device."""
        return {"threshold": self.scaled_threshold(x)}

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]`` and their number, from one fused pass."""
        spikes, count, _ = self._run(x, None, keep_state=False)
        return spikes, count

    def stream(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Runs on from ``state`` (None: from rest) over ``x: [T, B, ...]``; returns the spikes and the last state.

        >>> neuron, x = LIF(), torch.randn(8, 2, 3)
        >>> first, state = neuron.stream(x[:4])
        >>> torch.equal(torch.cat([first, neuron.stream(x[4:], state)[0]]), neuron(x))
        True
        """
        spikes, _, state = self._run(x, state, keep_state=True)
        return spikes, state

    def _run(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, Tensor, State]:
        dynamics = Dynamics(type(self).step, self.rest, self.surrogate, self.reset, self.detach_reset)
        return multi_step(dynamics, x, self.step_parameters(x), scalar(self.alpha, x), state, keep_state)


def check_tau(tau: float, name: str) -> float:
    """Raises UserError unless tau > 1: at 1 nothing is remembered, below it the membrane overshoots."""
    if not tau > 1:
        raise UserError(f"tau must be > 1, got {tau} (neuron {name!r})")
    return float(tau)


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

    step = staticmethod(functional.lif_step)

    def __init__(self, *, tau: float = 2.0, **options: Any) -> None:
        super().__init__(**options)
        self.tau = check_tau(tau, self.name)

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """The step equation's parameters, 0-d on x's device."""
        return super().step_parameters(x) | {"tau": scalar(self.tau, x)}


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

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """The step equation's parameters, 0-d on x's device."""
        return super().step_parameters(x) | {"w": self.w}
