"""A neuron's equation unrolled over several time steps, and its gradient."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from step_ahsar.neurons import equations
from step_ahsar.neurons.equations import Fire
from step_ahsar.neurons.surrogate import get_surrogate, heaviside, spike

UNROLL = 16  # most time steps in one graph; longer runs are split, so that compile time does not grow with T
GRID = 4  # axes of [T, B, C, L]

State = tuple[Tensor, ...]
Step = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Dynamics:
    """What a compiled graph depends on. Thresholds, time constants and alpha are inputs of the graph instead.

    Args:
        step: a step equation of :mod:`step_ahsar.neurons.equations`.
        rest: resting value of every state variable.
        surrogate: name of the surrogate derivative.
        reset: "hard" or "soft".
        detach_reset: no gradient through the spike in the reset.
        unroll_steps: most time steps in one graph.
        compiled: whether to compile; False for an equation so long that compiling it takes minutes.
        signed: whether spikes may be negative.
    """

    step: Step
    rest: tuple[float, ...]
    surrogate: str
    reset: str
    detach_reset: bool
    unroll_steps: int = UNROLL
    compiled: bool = True
    signed: bool = False

    def unroll(self, xs: tuple[Tensor, ...], state: State | None, fire: Fire, params: Mapping[str, Tensor]) -> list:
        """Spikes of each step in ``xs`` and then the last state, as one flat list."""
        if state is None:
            state = tuple(torch.full_like(xs[0], value) for value in self.rest)
        spikes = []
        for t, x in enumerate(xs):
            at_t = {name: p[t] if p.ndim == GRID else p for name, p in params.items()}
            s, *rest = self.step(x, *state, fire=fire, reset=self._reset, **at_t)
            spikes.append(s)
            state = tuple(rest)
        return [*spikes, *state]

    def pull_back(
        self,
        xs: tuple[Tensor, ...],
        state: State | None,
        params: dict[str, Tensor],
        learnt: tuple[str, ...],
        alpha: Tensor,
        grad_spikes: tuple[Tensor, ...],
        grad_state: State | None,
    ) -> tuple[Tensor, ...]:
        """Runs the steps again and differentiates them.

        Returns:
            Gradients of each step in ``xs``, then of the learnt parameters, then of ``state`` if it is given.
        """
        n, k = len(xs), len(xs) + len(learnt)

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            start = inputs[k:] if state is not None else None
            fire = self._linear_fire(alpha)
            out = self.unroll(inputs[:n], start, fire, params | dict(zip(learnt, inputs[n:k], strict=True)))
            return tuple(out) if grad_state is not None else tuple(out[:n])

        # The steps are separate inputs: the gradient of a slice x[t] would be padded with zeros to the size of x.
        pull_back = torch.func.vjp(run, *xs, *(params[name] for name in learnt), *(state or ()))[1]
        return pull_back((*grad_spikes, *(grad_state or ())))

    def number(self, spikes: Sequence[Tensor]) -> Tensor:
        """Number of spikes in all time steps, 0-d fp32. The sum over time is part of the pass that makes the spikes."""
        counted = [each.abs() for each in spikes] if self.signed else spikes
        return functools.reduce(torch.add, counted).sum(dtype=torch.float32)

    def _reset(
        self,
        v: Tensor,
        s: Tensor,
        threshold: Tensor,
        v_reset: Tensor | float | None = None,
        fired: Tensor | None = None,
    ) -> Tensor:
        if self.detach_reset:
            s, fired = s.detach(), None if fired is None else fired.detach()
        return equations.RESETS[self.reset](v, s, threshold, v_reset, fired)

    def fire(self, alpha: Tensor) -> Fire:
        """The Heaviside step whose derivative is the surrogate."""
        return functools.partial(spike, alpha=alpha, surrogate=self.surrogate)

    def _linear_fire(self, alpha: Tensor) -> Fire:
        """:meth:`fire` as plain operations, which the compiler fuses. Its first derivative alone is right."""
        derivative = get_surrogate(self.surrogate)

        def fire(u: Tensor) -> Tensor:
            slope = derivative(u.detach(), alpha)
            return heaviside(u.detach()) + slope * (u - u.detach())

        return fire


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of membranes, at least fp32: in bf16 small inputs would be rounded away."""
    return torch.float64 if dtype == torch.float64 else torch.float32
