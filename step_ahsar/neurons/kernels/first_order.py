"""Refusing second derivatives, which the fused backward passes do not have."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def first_order(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., tuple[Tensor | None, ...]]:
    """Decorates the ``backward`` of an autograd function so that differentiating its result raises RuntimeError.

    :func:`torch.autograd.function.once_differentiable` does the same only if an incoming gradient requires a gradient.
    Of ``neuron(x).sum()``, whose incoming gradient is constant, a second derivative would silently be 0.
    """

    @functools.wraps(backward)
    def wrapper(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            found = backward(ctx, *grads)
        if not torch.is_grad_enabled():  # it is enabled by create_graph=True
            return found
        depends_on = next((t for t in (*grads, *ctx.saved_tensors) if t is not None and t.requires_grad), None)
        if depends_on is None:
            return found
        tensors = iter(_Refuse.apply(depends_on, *(each for each in found if each is not None)))
        return tuple(None if each is None else next(tensors) for each in found)

    return wrapper


class _Refuse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, depends_on: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(each.view_as(each) for each in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "spiking neurons have no second derivatives: a surrogate replaces the first derivative only; take the "
            "gradient without create_graph=True"
        )
