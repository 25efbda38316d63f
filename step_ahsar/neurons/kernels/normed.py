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
    mean, var = _statistics(norm, x.detach().flatten(0, 1))
    spikes, count = _NormedMultiStep.apply(
        dynamics, tuple(params), x, norm.weight, norm.bias, step_scale, mean, var, norm.eps, alpha, *params.values()
    )
    return spikes, count


@torch.no_grad()
def _statistics(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the batch by channel, [C]. Updates the norm's running averages."""
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    return internals.batch_statistics(x, norm)


class _NormedMultiStep(torch.autograd.Function):
    """x: [T, B, C, ...], seen as [T, B, C, L]."""

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
        by_name = dict(zip(names, (p.data for p in params), strict=True))
        affine = _affine(weight, bias, mean, scale, step_scale)
        spikes, count = run_pass(_forward_pass, (dynamics, step_scale is not None), _by_channel(x), affine, by_name)
        ctx.save_for_backward(x, weight, bias, step_scale, mean, scale, alpha, *params)
        ctx.dynamics, ctx.names = dynamics, names
        ctx.mark_non_differentiable(count)
        return spikes.view(x.shape), count

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, step_scale, mean, scale, alpha, *params = ctx.saved_tensors
        needed = ctx.needs_input_grad[10:]
        learnt = tuple(name for name, need in zip(ctx.names, needed, strict=True) if need)
        grad_x, grad_weight, grad_bias, *grads = run_pass(
            _backward_pass,
            (ctx.dynamics, step_scale is not None, learnt),
            _by_channel(x),
            _affine(weight, bias, mean, scale, step_scale),
            (weight.detach(), bias.detach(), mean, scale),
            dict(zip(ctx.names, (p.data for p in params), strict=True)),
            alpha,
            _by_channel(grad),
        )
        grad_steps = None if step_scale is None else grads.pop(0).to(step_scale.dtype)
        by_name = dict(zip(learnt, grads, strict=True))
        norm_grads = grad_weight.to(weight.dtype), grad_bias.to(bias.dtype), grad_steps
        param_grads = (by_name.get(name) for name in ctx.names)
        return None, None, grad_x.view(x.shape), *norm_grads, None, None, None, None, *param_grads


def _by_channel(x: Tensor) -> Tensor:
    """[T, B, C, ...] as a contiguous [T, B, C, L] that is no view, see multi_step._flatten."""
    return x.contiguous().view(*x.shape[:3], -1).data


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, step_scale: Tensor | None) -> tuple[Tensor, ...]:
    """Factor and offset, [C], with which the norm is ``x * factor + offset``, and its step_scale, [T, 1, 1, 1]."""
    factor = weight.detach() * scale
    steps = () if step_scale is None else (step_scale.detach().view(-1, 1, 1, 1),)
    return factor, bias.detach() - mean * factor, *steps


def _normed(x: Tensor, affine: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    factor, offset = (a[:, None] for a in affine[:2])
    normed = x.to(working_dtype(x.dtype)) * factor + offset
    for steps in affine[2:]:
        normed = normed * steps
    return normed.unbind(0)


# In the following passes ``per_step`` says whether the norm has a step_scale. Each case has compiled graphs of its own.


def _forward_pass(
    dynamics: Dynamics, per_step: bool, x: Tensor, affine: tuple[Tensor, ...], params: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    spikes = dynamics.unroll(_normed(x, affine), None, heaviside, params)[: len(x)]
    return torch.stack(spikes).to(x.dtype), dynamics.number(spikes)


def _backward_pass(
    dynamics: Dynamics,
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
    grads = dynamics.pull_back(_normed(x, affine), None, params, learnt, alpha, grad_spikes.to(work).unbind(0), None)
    steps, grad_steps = x.to(work).unbind(0), grads[: len(x)]
    weight, bias, mean, scale = (v[:, None] for v in norm)
    centred = [(step - mean) * scale for step in steps]
    grad_step_scale: tuple[Tensor, ...] = ()
    if per_step:
        of_steps = [(g * (c * weight + bias)).sum() for g, c in zip(grad_steps, centred, strict=True)]
        grad_step_scale = (torch.stack(of_steps),)
        grad_steps = tuple(g * p for g, p in zip(grad_steps, affine[2].unbind(0), strict=True))
    # Sums over time and positions are part of the pass that makes the gradients; the sum over the batch follows.
    grad_bias = reduce(torch.add, grad_steps).sum(-1).sum(0)
    grad_weight = reduce(torch.add, (g * c for g, c in zip(grad_steps, centred, strict=True))).sum(-1).sum(0)
    n = x.numel() // len(grad_bias)
    shift, slope = (
        grad_bias[:, None] / n,
        grad_weight[:, None] / n,
    )  # from the batch's mean and variance, which depend on x
    grad = [(g - shift - c * slope) * (weight * scale) for g, c in zip(grad_steps, centred, strict=True)]
    return torch.stack(grad).to(x.dtype), grad_weight, grad_bias, *grad_step_scale, *grads[len(x) :]
