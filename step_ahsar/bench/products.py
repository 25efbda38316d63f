"""A network's convolutions and matrix products alone: what no form of its other parts can go below."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from step_ahsar import internals
from step_ahsar.bench.timing import Step

_aten = torch.ops.aten
_PRODUCTS = {
    "aten::convolution": _aten.convolution.default,
    "aten::convolution_backward": _aten.convolution_backward.default,
    "aten::mm": _aten.mm.default,
    "aten::addmm": _aten.addmm.default,
    "aten::bmm": _aten.bmm.default,
    "aten::baddbmm": _aten.baddbmm.default,
}


def products_of(step: Step) -> Step:
    """Runs ``step`` once. Returns a step that computes its convolutions and matrix products again, and nothing else.

    They have the operands that they had, in the same layouts, and those of a backward pass are among them.
    """
    calls: list[tuple[Any, Sequence[Any]]] = []

    def note(name: str, args: Sequence[Any], out: Any) -> None:
        if name in _PRODUCTS:
            calls.append((_PRODUCTS[name], [a.detach() if isinstance(a, Tensor) else a for a in args]))

    watch = internals.OperatorWatch(note)
    watch.start()
    try:
        step()
    finally:
        watch.stop()

    @torch.no_grad()
    def again() -> None:
        for product, args in calls:
            product(*args)

    return again
