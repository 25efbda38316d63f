"""The base class of the project's own neurons."""

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons import equations
from step_ahsar.neurons.base import SpikingNeuron, scalar
from step_ahsar.neurons.kernels import UNROLL, Dynamics, State, multi_step
from step_ahsar.neurons.kernels.normed import can_fuse, normed_multi_step
from step_ahsar.neurons.surrogate import FIXED_WIDTH, resolve_alpha

RESETS = tuple(equations.RESETS)
Step = Callable[..., tuple[Tensor, ...]]


class TorchNeuron(SpikingNeuron):
    """A neuron defined by one step equation. A subclass names the equation and adds its parameters.

    For each parameter of the equation the neuron has an attribute of that name: a number, or a learnt ``nn.Parameter``.

    Args:
        threshold: firing threshold, > 0.
        surrogate: see :func:`step_ahsar.neurons.list_surrogates`.
        alpha: the surrogate's parameter, > 0; None takes the surrogate's default.
        reset: after a spike the membrane goes to 0 ("hard") or loses the threshold ("soft").
        detach_reset: no gradient through the reset.
        surrogate_scale: what the surrogate acts on: None for the membrane minus the threshold, "theta" for that divided
            by the threshold, so that the surrogate's width follows the threshold (alpha is divided by it).
        group: the layers that it is regulated and reported with.

    Attributes:
        rest: initial values of the state variables.
        unroll_steps: most time steps in one compiled graph.
        compiled: whether the equation is compiled.
        fuses_norm: whether a norm in front of the neuron can be part of its pass.
        time_steps: T that the neuron was made for; None = any.
        channels: C of [T, B, C, ...] that it was made for; None = any.
    """

    step: ClassVar[Step]
    step_names: ClassVar[tuple[str, ...]] = ()  # the equation's parameters except the threshold
    unroll_steps: ClassVar[int] = UNROLL
    compiled: ClassVar[bool] = True
    fuses_norm: ClassVar[bool] = True
    scales_with_input = True

    rest: tuple[float, ...] = (0.0,)
    time_steps: int | None = None
    channels: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls):
            parameters = inspect.signature(cls.step).parameters.values()
            named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
            cls.step_names = tuple(name for name in named if name not in ("threshold", "fire", "reset"))

    def __init__(
        self,
        threshold: float = 1.0,
        surrogate: str = "sigmoid",
        alpha: float | None = None,
        reset: str = "hard",
        detach_reset: bool = True,
        surrogate_scale: str | None = None,
        group: str | None = None,
    ) -> None:
        super().__init__(threshold, group)
        if reset not in RESETS:
            raise unknown("reset", reset, RESETS)
        self.surrogate, self.alpha = surrogate, resolve_alpha(surrogate, alpha)
        self.reset, self.detach_reset = reset, detach_reset
        self.surrogate_scale = self._checked_scale(surrogate_scale)

    def _checked_scale(self, value: str | None) -> str | None:
        if value not in (None, "theta"):
            raise UserError(f"surrogate_scale must be null or theta, got {value!r} (neuron {self.name!r})")
        if value and "surrogate_scale" in self.without:
            raise UserError(f"neuron {self.name!r} has no surrogate_scale: its threshold or surrogate is of its own")
        if value and self.surrogate in FIXED_WIDTH:
            raise UserError(f"surrogate_scale={value}: the width of surrogate {self.surrogate!r} does not follow alpha")
        return value

    def slope(self, x: Tensor) -> Tensor:
        """The surrogate's parameter alpha, 0-d, on x's device; divided by the threshold with ``surrogate_scale``."""
        alpha = scalar(self.alpha, x)
        return alpha if self.surrogate_scale is None else alpha / self.scaled_threshold(x)

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """The step equation's parameters, on x's device; see :func:`step_ahsar.neurons.kernels.multi_step`."""
        values = {name: getattr(self, name) for name in self.step_names}
        return {
            "threshold": self.scaled_threshold(x),
            **{name: v if isinstance(v, Tensor) else scalar(v, x) for name, v in values.items()},
        }

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """See :meth:`SpikingNeuron.forward`. Raises UserError for an input of another T or C than it was made for."""
        if x.ndim > 1:
            if self.time_steps is not None and self.time_steps != len(x):
                raise UserError(
                    f"neuron {self.name!r} was made for {self.time_steps} time steps, got {len(x)} in {list(x.shape)}"
                )
            if self.channels is not None and x.shape[2:3] != (self.channels,):
                raise UserError(f"neuron {self.name!r} takes [T, B, {self.channels}, ...], got shape {list(x.shape)}")
        return super().forward(x, norm)

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]`` and their number, from one fused pass."""
        spikes, count, _ = self._run(x, None, keep_state=False)
        return spikes, count

    def simulate_normed(self, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Norm and neuron in one pass if the norm is a plain batch norm, else one after the other."""
        if self.fuses_norm and len(x) <= self.unroll_steps and can_fuse(norm, x):
            return normed_multi_step(self._dynamics(), x, norm, self.step_parameters(x), self.slope(x))
        return super().simulate_normed(x, norm)

    def stream(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Continues from ``state`` (None = from rest) over ``x: [T, B, ...]``; returns the spikes and the last state.

        >>> from step_ahsar.neurons import create_neuron
        >>> neuron, x = create_neuron("lif"), torch.randn(8, 2, 3)
        >>> first, state = neuron.stream(x[:4])
        >>> torch.equal(torch.cat([first, neuron.stream(x[4:], state)[0]]), neuron(x))
        True
        """
        if self.time_steps is not None:
            raise UserError(f"neuron {self.name!r} cannot stream: it takes all of its time steps at once")
        spikes, _, state = self._run(x, state, keep_state=True)
        return spikes, state

    def _dynamics(self) -> Dynamics:
        reset = self.reset, self.detach_reset
        return Dynamics(
            type(self).step, self.rest, self.surrogate, *reset, self.unroll_steps, self.compiled, self.signed
        )

    def _run(self, x: Tensor, state: State | None, keep_state: bool) -> tuple[Tensor, Tensor, State]:
        return multi_step(self._dynamics(), x, self.step_parameters(x), self.slope(x), state, keep_state)


# -- checks of options: each returns the value, or raises UserError ----------------------------------------------------


def check_tau(tau: float, name: str, option: str = "tau") -> float:
    """A time constant > 1. With 1 the membrane would remember nothing, with less it would overshoot its input."""
    if not tau > 1:
        raise UserError(f"{option} must be > 1, got {tau} (neuron {name!r})")
    return float(tau)


def check_range(value: float, low: float, high: float, name: str, option: str) -> float:
    """``low <= value < high``."""
    if not low <= value < high:
        raise UserError(f"{option} must be in [{low:g}, {high:g}), got {value} (neuron {name!r})")
    return float(value)


def check_positive(value: float, name: str, option: str) -> float:
    """A value > 0."""
    if not value > 0:
        raise UserError(f"{option} must be > 0, got {value} (neuron {name!r})")
    return float(value)


def check_size(value: int | None, name: str, option: str) -> int:
    """An integer >= 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"neuron {name!r} needs {option}, an integer >= 1, got {value!r}")
    return value


def logit(p: float, *shape: int) -> nn.Parameter:
    """A parameter of the given shape whose sigmoid is ``p``."""
    return nn.Parameter(torch.full(shape, p, dtype=torch.float64).logit().float())
