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
from step_ahsar.neurons.kernels.dynamics import UNROLL, Dynamics, heaviside, number, working_dtype
from step_ahsar.neurons.kernels.first_order import first_order

Norm = nn.BatchNorm1d | nn.BatchNorm2d


def can_fuse(norm: nn.Module, x: Tensor) -> TypeGuard[Norm]:
    """Whether ``norm`` can be part of the pass over ``x: [T, B, C, ...]``; if not, it runs before it, as a module."""
    return (
        isinstance(norm, Norm)
        and type(norm) in (nn.BatchNorm1d, nn.BatchNorm2d)
        and norm.training
        and norm.affine
        and norm.running_mean is not None
        and norm.momentum is not None
        and x.device.type in ("cpu", "cuda")
        and len(x) <= UNROLL
        and not internals.has_forward_hooks(norm)
        and not torch.compiler.is_compiling()
    )


def normed_multi_step(
    dynamics: Dynamics, x: Tensor, norm: Norm, params: Mapping[str, Tensor], alpha: Tensor
) -> tuple[Tensor, Tensor]:
    """Runs a neuron over ``norm(x)``, with x: [T, B, C, ...] and a norm that takes [T*B, C, ...].

    Returns:
        spikes (x's shape and dtype) and their number (0-d fp32, detached).
    """
    mean, var = _statistics(norm, x.detach().flatten(0, 1))
    spikes, count = _NormedMultiStep.apply(
        dynamics, tuple(params), x, norm.weight, norm.bias, mean, var, norm.eps, alpha, *params.values()
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
        mean: Tensor,
        var: Tensor,
        eps: float,
        alpha: Tensor,
        *params: Tensor,
    ) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(var.to(working_dtype(x.dtype)) + eps)
        by_name = dict(zip(names, (p.data for p in params), strict=True))
        affine = _affine(weight, bias, mean, scale)
        spikes, count = run_pass(_forward_pass, (dynamics,), _by_channel(x), affine, by_name)
        ctx.save_for_backward(x, weight, bias, mean, scale, alpha, *params)
        ctx.dynamics, ctx.names = dynamics, names
        ctx.mark_non_differentiable(count)
        return spikes.view(x.shape), count

    @staticmethod
    @first_order
    def backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, scale, alpha, *params = ctx.saved_tensors
        needed = ctx.needs_input_grad[9:]
        learnt = tuple(name for name, need in zip(ctx.names, needed, strict=True) if need)
        grad_x, grad_weight, grad_bias, *grads = run_pass(
            _backward_pass,
            (ctx.dynamics, learnt),
            _by_channel(x),
            _affine(weight, bias, mean, scale),
            (weight.detach(), mean, scale),
            dict(zip(ctx.names, (p.data for p in params), strict=True)),
            alpha,
            _by_channel(grad),
        )
        by_name = dict(zip(learnt, grads, strict=True))
        norm_grads = grad_weight.to(weight.dtype), grad_bias.to(bias.dtype)
        param_grads = (by_name.get(name) for name in ctx.names)
        return None, None, grad_x.view(x.shape), *norm_grads, None, None, None, None, *param_grads


def _by_channel(x: Tensor) -> Tensor:
    """[T, B, C, ...] as a contiguous [T, B, C, L] that is no view, see multi_step._flatten."""
    return x.contiguous().view(*x.shape[:3], -1).data


def _affine(weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Factor and offset, [C], with which the norm is ``x * factor + offset``."""
    factor = weight.detach() * scale
    return factor, bias.detach() - mean * factor


def _normed(x: Tensor, affine: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    factor, offset = (a[:, None] for a in affine)
    return (x.to(working_dtype(x.dtype)) * factor + offset).unbind(0)


def _forward_pass(
    dynamics: Dynamics, x: Tensor, affine: tuple[Tensor, Tensor], params: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    spikes = dynamics.unroll(_normed(x, affine), None, heaviside, params)[: len(x)]
    return torch.stack(spikes).to(x.dtype), number(spikes)


def _backward_pass(
    dynamics: Dynamics,
    learnt: tuple[str, ...],
    x: Tensor,
    affine: tuple[Tensor, Tensor],
    norm: tuple[Tensor, Tensor, Tensor],
    params: dict[str, Tensor],
    alpha: Tensor,
    grad_spikes: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients of x, of the norm's weight and bias, then of the learnt parameters."""
    work = working_dtype(x.dtype)
    grads = dynamics.pull_back(_normed(x, affine), None, params, learnt, alpha, grad_spikes.to(work).unbind(0), None)
    steps, grad_steps = x.to(work).unbind(0), grads[: len(x)]
    weight, mean, scale = (v[:, None] for v in norm)
    centred = [(step - mean) * scale for step in steps]
    # Sums over time and positions are part of the pass that makes the gradients; the sum over the batch follows.
    grad_bias = reduce(torch.add, grad_steps).sum(-1).sum(0)
    grad_weight = reduce(torch.add, (g * c for g, c in zip(grad_steps, centred, strict=True))).sum(-1).sum(0)
    n = x.numel() // len(grad_bias)
    shift, slope = (
        grad_bias[:, None] / n,
        grad_weight[:, None] / n,
    )  # from the batch's mean and variance, which depend on x
    grad = [(g - shift - c * slope) * (weight * scale) for g, c in zip(grad_steps, centred, strict=True)]
    return torch.stack(grad).to(x.dtype), grad_weight, grad_bias, *grads[len(x) :]
