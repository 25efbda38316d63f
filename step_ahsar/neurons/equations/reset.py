"""The reset of the membrane after a spike."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

Fire = Callable[[Tensor], Tensor]


class Reset(Protocol):
    """Gives the membrane after the spikes ``s``. A hard reset sets it to ``v_reset``, or to 0 if that is None.

    ``fired`` is 1 where there is a spike of either sign; None = ``s``.
    """

    def __call__(
        self,
        v: Tensor,
        s: Tensor,
        threshold: Tensor,
        v_reset: Tensor | float | None = None,
        fired: Tensor | None = None,
    ) -> Tensor:
        """``v`` of any shape, ``s`` and ``fired`` of the same."""


def hard_reset(
    v: Tensor, s: Tensor, threshold: Tensor, v_reset: Tensor | float | None = None, fired: Tensor | None = None
) -> Tensor:
    r""":math:`v \leftarrow v (1 - s) + v_{reset} s`: the membrane returns to a fixed value, by default 0."""
    fired = s if fired is None else fired
    v = v * (1 - fired)
    return v if v_reset is None else v + v_reset * fired


def soft_reset(
    v: Tensor, s: Tensor, threshold: Tensor, v_reset: Tensor | float | None = None, fired: Tensor | None = None
) -> Tensor:
    r""":math:`v \leftarrow v - \theta s`: the part of the membrane above the threshold stays."""
    return v - s * threshold


RESETS: dict[str, Reset] = {"hard": hard_reset, "soft": soft_reset}
