"""Batch norm and neuron in one pass, without storing the norm's output.

The neuron's pass reads the norm's input and applies the norm's factor and offset to it. The backward pass does the same
again. So two tensors are kept for the backward pass instead of three (of convolution, norm and neuron). The statistics
come from PyTorch's own batch norm: running averages are the same to the bit. In eval mode nothing is kept for a
backward pass, so there the norm runs as a module of its own.
"""

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from step_ahsar import internals
from step_ahsar.neurons.kernels.compiling import run_pass
from step_ahsar.neurons.kernels.dynamics import UNROLL, Dynamics, heaviside, working_dtype
from step_ahsar.neurons.kernels.first_order import first_order
from step_ahsar.neurons.memory import by_samples, is_channels_last, ordered, restored, turned
from step_ahsar.neurons.norms import TemporalEffectiveNorm, TemporalEffectiveNorm1d, TemporalEffectiveNorm2d

Norm = nn.BatchNorm1d | nn.BatchNorm2d
_FUSED = (nn.BatchNorm1d, nn.BatchNorm2d, TemporalEffectiveNorm1d, TemporalEffectiveNorm2d)


def can_fuse(norm: nn.Module, x: Tensor) -> TypeGuard[Norm]:
    """Whether ``norm`` can be part of the pass over ``x: [T, B, C, ...]``; if not, it runs before it, as a module."""
    return (
        isinstance(norm, Norm)
        and type(norm) in _FUSED
        and norm.training
        and norm.affine
        and norm.running_mean is not None
        and norm.momentum is not None
        and x.device.type in ("cpu", "cuda")
        and len(x) <= UNROLL
        and not internals.has_forward_hooks(norm)
        and not internals.is_compiling()
    )


def normed_multi_step(
    dynamics: Dynamics, x: Tensor, norm: Norm, params: Mapping[str, Tensor], alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs a neuron over ``norm(x)``, with x: [T, B, C, ...].

    Returns:
        spikes (x's shape and dtype) and their number (0-d fp32, detached).
    """
    step_scale = None
    if isinstance(norm, TemporalEffectiveNorm):
        norm.check_steps(x)
        step_scale = norm.step_scale
    mean, var = _statistics(norm, x.detach())
    spikes, count = _NormedMultiStep.apply(
        dynamics, tuple(params), x, norm.weight, norm.bias, step_scale, mean, var, norm.eps, alpha, *params.values()
    )
    return spikes, count


@torch.no_grad()
def _statistics(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance by channel, [C], of x: [T, B, C, ...]. Updates the norm's running averages."""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return internals.batch_statistics(by_samples(x), norm)


class _NormedMultiStep(torch.autograd.Function):
    """x: [T, B, C, ...], seen as [T, B, C, L], or as [T, B, L, C] if the channels are last in memory."""

    @staticmethod
    def forward(
        ctx: Any,
        dynamics: Dynamics,
        names: tuple[str, ...],
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        step_scale: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        alpha: Tensor,
        *params: Tensor,
    ) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(var.to(working_dtype(x.dtype)) + eps)
        last = is_channels_last(x)
        by_name = {name: turned(p, last).data for name, p in zip(names, params, strict=True)}
        affine = _affine(weight, bias, mean, scale, step_scale)
        static = dynamics, last, step_scale is not None
        spikes, count = run_pass(
            _forward_pass, static, _by_channel(x, last), affine, by_name, compiled=dynamics.compiled
        )
        ctx.save_for_backward(x, weight, bias, step_scale, mean, scale, alpha, *params)
        ctx.dynamics, ctx.names = dynamics, names
        ctx.mark_non_differentiable(count)
        return restored(spikes, x, last), count

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, step_scale, mean, scale, alpha, *params = ctx.saved_tensors
        needed = ctx.needs_input_grad[10:]
        learnt = tuple(name for name, need in zip(ctx.names, needed, strict=True) if need)
        last = is_channels_last(x)
        grad_x, grad_weight, grad_bias, *grads = run_pass(
            _backward_pass,
            (ctx.dynamics, last, step_scale is not None, learnt),
            _by_channel(x, last),
            _affine(weight, bias, mean, scale, step_scale),
            (weight.detach(), bias.detach(), mean, scale),
            {name: turned(p, last).data for name, p in zip(ctx.names, params, strict=True)},
            alpha,
            _by_channel(grad, last),
            compiled=ctx.dynamics.compiled,
        )
        grad_steps = None if step_scale is None else grads.pop(0).to(step_scale.dtype)
        by_name = {name: turned(g, last) for name, g in zip(learnt, grads, strict=True)}
        norm_grads = grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), grad_steps
        param_grads = (by_name.get(name) for name in ctx.names)
        return None, None, restored(grad_x, x, last), *norm_grads, None, None, None, None, *param_grads


def _by_channel(x: Tensor, last: bool) -> Tensor:
    """[T, B, C, ...] as a contiguous [T, B, C, L] or [T, B, L, C] that is no view, see multi_step._flatten."""
    steps, batch, channels = x.shape[:3]
    shape = (steps, batch, -1, channels) if last else (steps, batch, channels, -1)
    return ordered(x, last).view(shape).data


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, step_scale: Tensor | None) -> tuple[Tensor, ...]:
    """Factor and offset, [C], with which the norm is ``x * factor + offset``, and its step_scale, [T, 1, 1, 1]."""
    factor = weight.detach() * scale
    steps = () if step_scale is None else (step_scale.detach().view(-1, 1, 1, 1),)
    return factor, bias.detach() - mean * factor, *steps


def _normed(x: Tensor, affine: tuple[Tensor, ...], last: bool) -> tuple[Tensor, ...]:
    factor, offset = (_beside(a, last) for a in affine[:2])
    normed = x.to(working_dtype(x.dtype)) * factor + offset
    for steps in affine[2:]:
        normed = normed * steps
    return normed.unbind(0)


def _beside(of_channel: Tensor, last: bool) -> Tensor:
    """[C] so that it broadcasts against [B, C, L], or [B, L, C] if the channels are last."""
    return of_channel if last else of_channel[:, None]


# In the following passes ``last`` says whether the channels are last in memory, and ``per_step`` whether the norm has a
# step_scale. Each case has compiled graphs of its own.


def _forward_pass(
    dynamics: Dynamics, last: bool, per_step: bool, x: Tensor, affine: tuple[Tensor, ...], params: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    spikes = dynamics.unroll(_normed(x, affine, last), None, heaviside, params)[: len(x)]
    return torch.stack(spikes).to(x.dtype), dynamics.number(spikes)


def _backward_pass(
    dynamics: Dynamics,
    last: bool,
    per_step: bool,
    learnt: tuple[str, ...],
    x: Tensor,
    affine: tuple[Tensor, ...],
    norm: tuple[Tensor, Tensor, Tensor, Tensor],
    params: dict[str, Tensor],
    alpha: Tensor,
    grad_spikes: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of x, of the norm's weight, bias and step_scale (if any), then of the learnt parameters."""
    work = working_dtype(x.dtype)
    grads = dynamics.pull_back(
        _normed(x, affine, last), None, params, learnt, alpha, grad_spikes.to(work).unbind(0), None
    )
    steps, grad_steps = x.to(work).unbind(0), grads[: len(x)]
    weight, bias, mean, scale = (_beside(v, last) for v in norm)
    centred = [(step - mean) * scale for step in steps]
    grad_step_scale: tuple[Tensor, ...] = ()
    if per_step:
        of_steps = [(g * (c * weight + bias)).sum() for g, c in zip(grad_steps, centred, strict=True)]
        grad_step_scale = (torch.stack(of_steps),)
        grad_steps = tuple(g * p for g, p in zip(grad_steps, affine[2].unbind(0), strict=True))
    # Sums over time and positions are part of the pass that makes the gradients; the sum over the batch follows.
    places = 1 if last else -1
    grad_bias = reduce(torch.add, grad_steps).sum(places).sum(0)
    grad_weight = reduce(torch.add, (g * c for g, c in zip(grad_steps, centred, strict=True))).sum(places).sum(0)
    n = x.numel() // len(grad_bias)
    # from the batch's mean and variance, which depend on x
    shift, slope = _beside(grad_bias, last) / n, _beside(grad_weight, last) / n
    grad = [(g - shift - c * slope) * (weight * scale) for g, c in zip(grad_steps, centred, strict=True)]
    return torch.stack(grad).to(x.dtype), grad_weight, grad_bias, *grad_step_scale, *grads[len(x) :]
