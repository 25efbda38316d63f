"""The Heaviside step, and surrogate derivatives, which replace its derivative in the backward pass.

Each function maps ``u`` (membrane minus threshold, any shape) and ``alpha`` (0-d tensor) to the derivative at ``u``.
The forward pass fires where ``u >= 0``, whatever the surrogate.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from step_ahsar.errors import UserError, unknown

Surrogate = Callable[[Tensor, Tensor], Tensor]


def sigmoid(u: Tensor, alpha: Tensor) -> Tensor:
    r"""Derivative of :math:`\sigma(\alpha u)`; peak alpha / 4. Default alpha 4."""
    y = torch.sigmoid(alpha * u)
    return alpha * (1 - y) * y


def atan(u: Tensor, alpha: Tensor) -> Tensor:
    r"""Derivative of :math:`\arctan(\pi \alpha u / 2) / \pi`; peak alpha / 2. Fang et al. 2021, eq. 11. Default 2."""
    return alpha / 2 / (1 + (math.pi / 2 * alpha * u) ** 2)


def piecewise_quadratic(u: Tensor, alpha: Tensor) -> Tensor:
    r""":math:`\alpha \max(0, 1 - \alpha |u|)`: area 1, width 2 / alpha. Bohte 2011. Default 1."""
    return alpha * torch.relu(1 - alpha * u.abs())


def rectangle(u: Tensor, alpha: Tensor) -> Tensor:
    r"""A box, alpha where :math:`|u| < 1 / (2 \alpha)`: area 1, width 1 / alpha. Wu et al. 2018, eq. 24. Default 1."""
    return alpha * (2 * alpha * u.abs() < 1).to(u.dtype)


def triangle(u: Tensor, alpha: Tensor) -> Tensor:
    r""":math:`\alpha \max(0, 1 - |u|)`: alpha dampens, the width is fixed. Bellec et al. 2018. Default 0.3."""
    return alpha * torch.relu(1 - u.abs())


_SURROGATES: dict[str, tuple[Surrogate, float]] = {
    "sigmoid": (sigmoid, 4.0),
    "atan": (atan, 2.0),
    "piecewise_quadratic": (piecewise_quadratic, 1.0),
    "rectangle": (rectangle, 1.0),
    "triangle": (triangle, 0.3),
}
FIXED_WIDTH = ("triangle",)  # those of which alpha is only the height


def heaviside(u: Tensor) -> Tensor:
    """1 where ``u >= 0``, else 0, in ``u``'s dtype."""
    return (u >= 0).to(u.dtype)


def spike(u: Tensor, alpha: Tensor, surrogate: str) -> Tensor:
    """:func:`heaviside` with the surrogate called ``surrogate`` as its derivative, which is differentiable itself."""
    return _Spike.apply(u, alpha, get_surrogate(surrogate))


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, alpha: Tensor, derivative: Surrogate) -> Tensor:
        return heaviside(u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, alpha, ctx.derivative = inputs
        ctx.save_for_backward(u, alpha)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.derivative(*ctx.saved_tensors), None, None


def list_surrogates() -> list[str]:
    """Names that ``surrogate=`` takes."""
    return sorted(_SURROGATES)


def get_surrogate(name: str) -> Surrogate:
    """The derivative called ``name``. Raises UserError for an unknown name."""
    if name not in _SURROGATES:
        raise unknown("surrogate", name, _SURROGATES)
    return _SURROGATES[name][0]


def resolve_alpha(name: str, alpha: float | None) -> float:
    """``alpha``, or the surrogate's default for None. Raises UserError unless alpha > 0."""
    get_surrogate(name)
    if alpha is None:
        return _SURROGATES[name][1]
    if not alpha > 0:
        raise UserError(f"alpha must be > 0, got {alpha} (surrogate {name!r})")
    return float(alpha)
