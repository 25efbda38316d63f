"""The multi-step form of any step equation, fused into one forward and one backward pass over the input.

A step equation (:mod:`step_ahsar.neurons.equations`) is unrolled over the time steps of ``x: [T, ...]``. For this ``x``
is flattened to ``[T, N]``, or to ``[T, B, C, L]`` if a parameter differs by channel or position; that is
``[T, B, L, C]`` if the channels are last in memory. The forward pass returns the spikes and their number. For the
backward pass only ``x`` is kept: it runs the equation again and differentiates it (``torch.func.vjp``), so one generic
kernel serves every neuron.

Both passes are compiled by ``torch.compile`` with every size except T dynamic and every parameter a tensor, so that one
graph serves all layers, batch sizes and thresholds. Without a compiler the same code runs eagerly, with the same
spikes.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from step_ahsar import internals
from step_ahsar.neurons.kernels.compiling import run_pass
from step_ahsar.neurons.kernels.dynamics import GRID, Dynamics, State, working_dtype
from step_ahsar.neurons.kernels.first_order import first_order
from step_ahsar.neurons.memory import is_channels_last, ordered, restored, turned
from step_ahsar.neurons.surrogate import heaviside


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
        params: the step's parameters, by name. Each is 0-d, or broadcasts against x[t] reshaped to [B, C, L]; one that
            differs between time steps has T as a first axis. Gradients flow to those that require them.
        alpha: the surrogate's parameter, 0-d.
        state: the initial state, tensors of ``x[0]``'s shape; None starts from rest.
        keep_state: also return the last state.

    Returns:
        spikes (x's shape and dtype), their number (0-d fp32, detached), the last state (empty without ``keep_state``).
    """
    if internals.is_compiling():  # a model that is compiled as a whole: its compiler does the fusing
        return _plain(dynamics, x, params, alpha, state, keep_state)
    names = tuple(params)
    spikes, counts = [], []
    size = dynamics.unroll_steps
    chunks = x.split(size) if len(x) > size else (x,)  # a split copies the gradient
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
    last = is_channels_last(x)
    joined = torch.cat([ordered(each, last) for each in spikes])
    return restored(joined, x, last), torch.stack(counts).sum(), state or ()


def _plain(
    dynamics: Dynamics, x: Tensor, params: Mapping[str, Tensor], alpha: Tensor, state: State | None, keep_state: bool
) -> tuple[Tensor, Tensor, State]:
    """The definition of :func:`multi_step`: an unrolled loop, differentiated by autograd."""
    work = working_dtype(x.dtype)
    fire = dynamics.fire(alpha)
    shape = _shape(x, params.values()) if any(p.ndim for p in params.values()) else x.shape
    start = None if state is None else tuple(v.reshape(shape[1:]) for v in state)
    out = dynamics.unroll(x.to(work).reshape(shape).unbind(0), start, fire, params)
    spikes = torch.stack(out[: len(x)]).view(x.shape)
    count = dynamics.number(tuple(s.detach() for s in out[: len(x)]))
    return spikes.to(x.dtype), count, tuple(v.reshape(x.shape[1:]) for v in out[len(x) :]) if keep_state else ()


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
        last = is_channels_last(x)
        shape = _shape(x, params, last)
        by_name = {name: turned(p, last).data for name, p in zip(names, params, strict=True)}
        flat, flat_state = _flatten(x, shape, last), _flatten_state(state, shape, last)
        spikes, count, *ends = run_pass(
            _forward_pass, (dynamics, hand_out), flat, flat_state, by_name, compiled=dynamics.compiled
        )
        ctx.save_for_backward(x, alpha, *tensors)
        ctx.dynamics, ctx.names = dynamics, names
        ctx.mark_non_differentiable(count)
        return restored(spikes, x, last), count, *(restored(v, x[0], last, channel=1) for v in ends)

    @staticmethod
    @first_order
    def backward(ctx: Any, grad_spikes: Tensor, _: Any, *grad_state: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, *tensors = ctx.saved_tensors
        params, state = tensors[: len(ctx.names)], tensors[len(ctx.names) :]
        last = is_channels_last(x)
        shape = _shape(x, params, last)
        need = ctx.needs_input_grad[5 : 5 + len(params)]
        learnt = tuple(name for name, needed in zip(ctx.names, need, strict=True) if needed)
        grad_x, *grads = run_pass(
            _backward_pass,
            (ctx.dynamics, learnt),
            _flatten(x, shape, last),
            _flatten_state(state, shape, last),
            {name: turned(p, last).data for name, p in zip(ctx.names, params, strict=True)},
            alpha,
            _flatten(grad_spikes, shape, last),
            _flatten_state(grad_state, shape, last),
            compiled=ctx.dynamics.compiled,
        )
        by_name = {name: turned(grad, last) for name, grad in zip(learnt, grads, strict=False)}
        grad_initial = [restored(g, x[0], last, channel=1) for g in grads[len(learnt) :]]
        return None, None, None, restored(grad_x, x, last), None, *(by_name.get(n) for n in ctx.names), *grad_initial


def _shape(x: Tensor, params: Iterable[Tensor], last: bool = False) -> tuple[int, ...]:
    """The shape that ``x: [T, ...]`` is run in: [T, N], or by channel where a parameter is not 0-d.

    By channel it is [T, B, C, L], or [T, B, L, C] if the channels are last in memory.
    """
    for p in params:
        if p.ndim:
            steps, batch, channels, *rest = *x.shape, 1
            return (steps, batch, math.prod(rest), channels) if last else (steps, batch, channels, math.prod(rest))
    return len(x), x.numel() // len(x)


def _flatten(x: Tensor, shape: tuple[int, ...], last: bool) -> Tensor:
    """A contiguous tensor that is no view. A compiled graph would depend on the strides or on the base of a view."""
    return ordered(x, last).view(shape).data


def _flatten_state(state: Iterable[Tensor], shape: tuple[int, ...], last: bool) -> State | None:
    return tuple(ordered(v, last, channel=1).view(shape[1:]).data for v in state) or None


def _forward_pass(
    dynamics: Dynamics, hand_out: bool, x: Tensor, state: State | None, params: dict[str, Tensor]
) -> tuple[Tensor, ...]:
    work = working_dtype(x.dtype)
    out = dynamics.unroll(x.to(work).unbind(0), state, heaviside, params)
    spikes = torch.stack(out[: len(x)])
    return spikes.to(x.dtype), dynamics.number(out[: len(x)]), *(out[len(x) :] if hand_out else ())


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
