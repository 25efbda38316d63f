"""Preparing a neuron while a graph is compiled. Imported then, because torch's compiler takes a second to import."""

from typing import Any

import torch


@torch.compiler.assume_constant_result
def prepared(neuron: Any) -> bool:
    """``neuron.prepared()``: it runs once, while the call is traced, and leaves nothing in the graph."""
    return neuron.prepared()


@torch.compiler.disable
def prepared_outside_graphs(neuron: Any) -> bool:
    """The same, each time that the call runs. The graph is split here."""
    return neuron.prepared()
