"""The multi-step form of any step equation, fused: one pass over the input forward, one pass backward.

A step equation (functional) is unrolled over the time steps of ``x: [T, ...]`` flattened to ``[T, N]``, or to
``[T, B, C, L]`` for parameters that differ by channel or the like. Forward returns the spikes and their number from the
same pass. Backward keeps nothing but ``x``: it runs the equation again and pulls the gradient back through it
(``torch.func.vjp``), so one generic kernel serves every neuron.

Both passes go through ``torch.compile`` with every size but T dynamic and every parameter a tensor, so that one graph
serves all layers, batch sizes and thresholds; where there is no compiler the same code runs eagerly and gives the same
spikes.
"""

import functools
import math
import os
import shutil
import warnings
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from step_ahsar.neurons import functional
from step_ahsar.neurons.functional import Fire, Reset
from step_ahsar.neurons.surrogate import get_surrogate

UNROLL = 16  # time steps in one graph; longer runs are chained, so compile time does not grow with T
GRID = 4  # axes of [T, B, C, L]

State = tuple[Tensor, ...]
Step = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Dynamics:
    """What a graph is compiled for. Thresholds, time constants and alpha are its inputs, not part of it.

    Args:
        step: step equation of functional.
        rest: resting value of every state variable.
        surrogate: name of the surrogate derivative.
        reset: "hard" or "soft".
        detach_reset: no gradient through the spike in the reset.
        unroll_steps: time steps in one graph.
        compiled: False for an equation so long that compiling it takes minutes.
    """

    step: Step
    rest: tuple[float, ...]
    surrogate: str
    reset: str
    detach_reset: bool
    unroll_steps: int = UNROLL
    compiled: bool = True

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
        """Runs again and pulls gradients back: of each step in ``xs``, of the learnt parameters, of a given state."""
        n, k = len(xs), len(xs) + len(learnt)

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            start = inputs[k:] if state is not None else None
            fire = self.differentiable_fire(alpha)
            out = self.unroll(inputs[:n], start, fire, params | dict(zip(learnt, inputs[n:k], strict=True)))
            return tuple(out) if grad_state is not None else tuple(out[:n])

        # steps enter one by one: a gradient of x[t] would otherwise be scattered into a full-size tensor of zeros
        pull_back = torch.func.vjp(run, *xs, *(params[name] for name in learnt), *(state or ()))[1]
        return pull_back((*grad_spikes, *(grad_state or ())))

    def _reset(self, v: Tensor, s: Tensor, threshold: Tensor, v_reset: Tensor | float | None = None) -> Tensor:
        return _RESETS[self.reset](v, s.detach() if self.detach_reset else s, threshold, v_reset)

    def differentiable_fire(self, alpha: Tensor) -> Fire:
        """The Heaviside step whose derivative is the surrogate."""
        derivative = get_surrogate(self.surrogate)

        def fire(u: Tensor) -> Tensor:
            slope = derivative(u.detach(), alpha)
            return heaviside(u.detach()) + slope * (u - u.detach())

        return fire


_RESETS: dict[str, Reset] = {"hard": functional.hard_reset, "soft": functional.soft_reset}


def number(spikes: Sequence[Tensor]) -> Tensor:
    """How many spikes there are in all time steps, 0-d fp32; summed over time first, in the pass that makes them."""
    return functools.reduce(torch.add, spikes).sum(dtype=torch.float32)


def heaviside(u: Tensor) -> Tensor:
    """1 where ``u >= 0``, else 0, in ``u``'s dtype."""
    return (u >= 0).to(u.dtype)


def multi_step(
    dynamics: Dynamics,
    x: Tensor,
    params: Mapping[str, Tensor],
    alpha: Tensor,
    state: State | None = None,
    keep_state: bool = False,
) -> tuple[Tensor, Tensor, State]:
    """Runs a neuron over ``x: [T, ...]``.

    Args:
        dynamics: what to run.
        x: input currents. Half precision is integrated in fp32; the spikes come back in x's dtype.
        params: the step's parameters: 0-d, or such that broadcast against x[t] seen as [B, C, L], with one more axis in
            front if there is one for each time step. Those that require a gradient get one.
        alpha: the surrogate's parameter, 0-d.
        state: where to start, tensors of ``x[0]``'s shape; None starts from rest.
        keep_state: hand out the last state.

    Returns:
        spikes (x's shape and dtype), their number (0-d fp32, detached), the last state (empty unless asked for).
    """
    if torch.compiler.is_compiling():  # inside a compiled model its own compiler fuses, with the neighbours too
        return _plain(dynamics, x, params, alpha, state, keep_state)
    names = tuple(params)
    spikes, counts = [], []
    size = dynamics.unroll_steps
    chunks = x.split(size)
    for i, chunk in enumerate(chunks):
        hand_out = keep_state or i + 1 < len(chunks)
        now = list(params.values())
        if len(chunks) > 1:
            now = [p[i * size : (i + 1) * size] if p.ndim == GRID else p for p in now]
        out, count, *new_state = _MultiStep.apply(dynamics, hand_out, names, chunk, alpha, *now, *(state or ()))
        state = tuple(new_state) if hand_out else ()
        spikes.append(out)
        counts.append(count)
    if len(chunks) == 1:
        return spikes[0], counts[0], state or ()
    return torch.cat(spikes), torch.stack(counts).sum(), state or ()


def _plain(
    dynamics: Dynamics, x: Tensor, params: Mapping[str, Tensor], alpha: Tensor, state: State | None, keep_state: bool
) -> tuple[Tensor, Tensor, State]:
    """The definition of :func:`multi_step`: an unrolled loop, differentiated by autograd."""
    work = working_dtype(x.dtype)
    fire = dynamics.differentiable_fire(alpha)
    shape = _layout(x, params.values()) if any(p.ndim for p in params.values()) else x.shape
    start = None if state is None else tuple(v.reshape(shape[1:]) for v in state)
    out = dynamics.unroll(x.to(work).reshape(shape).unbind(0), start, fire, params)
    spikes = torch.stack(out[: len(x)]).view(x.shape)
    count = spikes.detach().sum(dtype=torch.float32)
    return spikes.to(x.dtype), count, tuple(v.reshape(x.shape[1:]) for v in out[len(x) :]) if keep_state else ()


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """Membranes are kept in fp32 at least: a bf16 membrane loses the input that should make it fire."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _layout(x: Tensor, params: Iterable[Tensor]) -> tuple[int, ...]:
    """The shape that ``x: [T, ...]`` is run in: [T, N], or [T, B, C, L] where a parameter is not 0-d."""
    for p in params:
        if p.ndim:
            steps, batch, channels, *rest = *x.shape, 1
            return steps, batch, channels, math.prod(rest)
    return len(x), x.numel() // len(x)


class _MultiStep(torch.autograd.Function):
    """One chunk of time steps, flattened, through the fused passes."""

    @staticmethod
    def forward(
        ctx: Any,
        dynamics: Dynamics,
        hand_out: bool,
        names: tuple[str, ...],
        x: Tensor,
        alpha: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        params, state = tensors[: len(names)], tensors[len(names) :]
        shape = _layout(x, params)
        flat, flat_state = _flatten(x, shape), tuple(_flatten(v, shape[1:]) for v in state) or None
        by_name = dict(zip(names, (p.data for p in params), strict=True))
        spikes, count, *last = run_pass(_forward_pass, (dynamics, hand_out), flat, flat_state, by_name)
        ctx.save_for_backward(x, alpha, *tensors)
        ctx.dynamics, ctx.names = dynamics, names
        ctx.mark_non_differentiable(count)
        return spikes.view_as(x), count, *(v.view_as(x[0]) for v in last)

    @staticmethod
    def backward(ctx: Any, grad_spikes: Tensor, _: Any, *grad_state: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, *tensors = ctx.saved_tensors
        params, state = tensors[: len(ctx.names)], tensors[len(ctx.names) :]
        shape = _layout(x, params)
        need = ctx.needs_input_grad[5 : 5 + len(params)]
        learnt = tuple(name for name, needed in zip(ctx.names, need, strict=True) if needed)
        grad_x, *grads = run_pass(
            _backward_pass,
            (ctx.dynamics, learnt),
            _flatten(x, shape),
            tuple(_flatten(v, shape[1:]) for v in state) or None,
            dict(zip(ctx.names, (p.data for p in params), strict=True)),
            alpha,
            _flatten(grad_spikes, shape),
            tuple(_flatten(g, shape[1:]) for g in grad_state) or None,
        )
        by_name = dict(zip(learnt, grads, strict=False))
        grad_initial = [g.view_as(x[0]) for g in grads[len(learnt) :]]
        return None, None, None, grad_x.view_as(x), None, *(by_name.get(n) for n in ctx.names), *grad_initial


def _flatten(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A dense tensor of its own: a graph would be bound to the strides, or to the shape that a view was taken of."""
    return x.contiguous().view(shape).data


def _forward_pass(
    dynamics: Dynamics, hand_out: bool, x: Tensor, state: State | None, params: dict[str, Tensor]
) -> tuple[Tensor, ...]:
    work = working_dtype(x.dtype)
    out = dynamics.unroll(x.to(work).unbind(0), state, heaviside, params)
    spikes = torch.stack(out[: len(x)])
    return spikes.to(x.dtype), number(out[: len(x)]), *(out[len(x) :] if hand_out else ())


def _backward_pass(
    dynamics: Dynamics,
    learnt: tuple[str, ...],
    x: Tensor,
    state: State | None,
    params: dict[str, Tensor],
    alpha: Tensor,
    grad_spikes: Tensor,
    grad_state: State | None,
) -> tuple[Tensor, ...]:
    """Gradients of x, then of the learnt parameters, then of the initial state where one was given."""
    work = working_dtype(x.dtype)
    grads = dynamics.pull_back(
        x.to(work).unbind(0), state, params, learnt, alpha, grad_spikes.to(work).unbind(0), grad_state
    )
    return torch.stack(grads[: len(x)]).to(x.dtype), *grads[len(x) :]


# -- compiling ---------------------------------------------------------------------------------------------------------


def compiler_available(device: torch.device) -> bool:
    """Whether the fused passes can be compiled for ``device``. STEP_AHSAR_COMPILE=0 says no everywhere."""
    return _compiler_available(device.type) and os.environ.get("STEP_AHSAR_COMPILE", "1") != "0"


@functools.cache
def _compiler_available(device_type: str) -> bool:
    if device_type == "cpu":
        return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None
    if device_type == "cuda":
        from importlib.util import find_spec

        return find_spec("triton") is not None
    return False


_broken: set[str] = set()  # device types on which compiling failed once


def run_pass(
    function: Callable[..., Any], static: tuple[Dynamics, *tuple[Hashable, ...]], x: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    """``function(*static, x, *args)`` for ``x: [T, ...]``, compiled where that is possible."""
    device = x.device
    if not static[0].compiled or device.type in _broken or not compiler_available(device):
        return function(*static, x, *args)
    try:
        return _compiled(function, static, len(x), x.dtype, device.type)(x, *args)
    except Exception as error:
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        if not isinstance(error, (TorchDynamoException, InductorError)):
            raise
        if device.type == "cpu" and _test_instruction_sets():
            return run_pass(function, static, x, *args)
        _broken.add(device.type)
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"spiking neurons run uncompiled on {device.type}, which is slower: {reason}", stacklevel=2)
        return function(*static, x, *args)


@functools.cache
def _compiled(function: Callable[..., Any], static: tuple[Hashable, ...], *key: Hashable) -> Callable[..., Any]:
    """One compiled graph per key; ``key`` is what Dynamo would otherwise recompile for."""

    def graph(*args: Any) -> Any:
        return function(*static, *args)

    _take_instruction_sets_as_given()
    graph.__code__ = graph.__code__.replace()  # Dynamo limits recompilations by code object: each graph has its own
    compiled, general = torch.compile(graph, fullgraph=True), False

    def call(x: Tensor, *args: Any) -> Any:
        nonlocal general
        if not general:  # made from marked sizes above 1, the graph serves all others
            _mark_dynamic((x, args), x.ndim)
            general = 1 not in x.shape[1:]
        return compiled(x, *args)

    return call


def _take_instruction_sets_as_given() -> None:
    """Inductor tests each instruction set of the CPU by compiling and running a program, a third of a cold start."""
    from torch._inductor import config

    if config.cpp.vec_isa_ok is None and not _instruction_sets_failed:
        config.cpp.vec_isa_ok = True


_instruction_sets_failed: list[bool] = []  # the compiler may be older than the CPU


def _test_instruction_sets() -> bool:
    """After a failure: lets Inductor test them after all, if it did not; whether there is reason to try again."""
    from torch._inductor import config, cpu_vec_isa

    if _instruction_sets_failed or config.cpp.vec_isa_ok is not True:
        return False
    _instruction_sets_failed.append(True)
    config.cpp.vec_isa_ok = None
    cpu_vec_isa.valid_vec_isa_list.cache_clear()
    _compiled.cache_clear()
    return True


def _mark_dynamic(arg: Any, over_time: int) -> None:
    """Sizes vary from layer to layer, but not T, the first of ``over_time`` axes: it is unrolled, whatever was seen."""
    if isinstance(arg, Tensor):
        for dim, size in enumerate(arg.shape):
            if dim == 0 and arg.ndim == over_time:
                torch._dynamo.mark_static(arg, dim)
            elif size > 1:
                torch._dynamo.mark_dynamic(arg, dim)
    elif arg is not None:
        for item in arg.values() if isinstance(arg, dict) else arg:
            _mark_dynamic(item, over_time)
