"""What happens to the membrane after a spike."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

Fire = Callable[[Tensor], Tensor]


class Reset(Protocol):
    """The membrane after the spikes ``s``; ``v_reset`` is where a hard reset leads to, 0 if not given."""

    def __call__(self, v: Tensor, s: Tensor, threshold: Tensor, v_reset: Tensor | float | None = None) -> Tensor:
        """``v`` of any shape, ``s`` of the same."""


def hard_reset(v: Tensor, s: Tensor, threshold: Tensor, v_reset: Tensor | float | None = None) -> Tensor:
    r""":math:`v \leftarrow v (1 - s) + v_{reset} s`: back to a fixed value, 0 if none is given."""
    v = v * (1 - s)
    return v if v_reset is None else v + v_reset * s


def soft_reset(v: Tensor, s: Tensor, threshold: Tensor, v_reset: Tensor | float | None = None) -> Tensor:
    r""":math:`v \leftarrow v - \theta s`: what lies above the threshold stays."""
    return v - s * threshold
