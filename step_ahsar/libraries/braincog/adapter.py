"""BrainCog's neurons (0.2.7.19): ``pip install "step-ahsar[braincog]"``.

Its nodes run unchanged, except for two things. The threshold, which is a trainable parameter there, is set in each
call. The act function is the project's own: a BrainCog node sets its alpha to 2, and BrainCog's atan, gate and
quadratic gate fire on ``>``, while its sigmoid, like all other libraries, fires on ``>=``.

BrainCog's other nodes are left out. Bias*, Burst*, Noise*, LIFSTDP and BackEI have no counterpart in the registry.
DGLIF, HTDGLIF and LIAF return membranes instead of spikes. HHNode, aEIF, adth and CTIzh need the weights or the layout
of a brain area. IzhNode starts at 0 mV, far above rest, with no option for it. Three constants of SimHHNode are not
Hodgkin and Huxley's. DoubleSidePLIFNode does not run: it subtracts from a method.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.libraries.adapter import NodeNeuron
from step_ahsar.neurons import torch as ours
from step_ahsar.neurons.registry import register_neuron


class BrainCogNeuron(NodeNeuron):
    """A node of BrainCog. Its reset is hard and detached."""

    module = "braincog.base.node.node"
    fixed: ClassVar = {**NodeNeuron.fixed, "reset": "hard", "detach_reset": True}

    @classmethod
    def library(cls) -> ModuleType:
        """BrainCog's module of nodes."""
        return load_nodes()

    def make_node(self, **options: Any) -> nn.Module:
        """The node, without a threshold."""
        node = getattr(self.library(), self.node_class)(act_fun=lambda **_: self.fire, **options)
        del node.threshold
        return node

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        node: Any = self.node
        node.threshold = self.scaled_threshold(x)
        try:
            return torch.stack([node(step) for step in x])
        finally:
            node.n_reset()


@register_neuron("if", backend="braincog")
class IF(BrainCogNeuron, ours.IF):
    """Integrate-and-fire."""

    node_class = "IFNode"


@register_neuron("lif", backend="braincog")
class LIF(BrainCogNeuron, ours.LIF):
    """Leaky integrate-and-fire."""

    node_class = "LIFNode"

    def make_node(self, **options: Any) -> nn.Module:
        """The node, without a threshold."""
        return super().make_node(tau=self.tau, **options)


@register_neuron("plif", backend="braincog")
class PLIF(BrainCogNeuron, ours.PLIF):
    """Parametric LIF."""

    node_class = "PLIFNode"

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        self.node.w = self.w
        return super().run(x)


@cache
def load_nodes() -> ModuleType:
    """BrainCog's module of nodes, imported without the packages around it.

    Importing those packages would overwrite nine models of timm, import tonic, dv, pandas and seaborn, and fail from
    Python 3.12 on, which has no ``imp``. So empty packages take their places during the import. Afterwards
    ``sys.modules`` holds the same modules of BrainCog as before.
    """
    nodes = BrainCogNeuron.module
    if nodes in sys.modules:
        return sys.modules[nodes]
    packages = ("braincog", "braincog.base", "braincog.base.node", "braincog.base.strategy")
    with _stood_in(packages), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the syntax of its source
        return importlib.import_module(nodes)


@contextmanager
def _stood_in(packages: Sequence[str]) -> Iterator[None]:
    """Replaces ``packages``, a top-level package and packages inside it, by empty packages inside the block."""
    top = packages[0]
    spec = find_spec(top)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    before = _loaded(top)
    for name in packages:
        package = ModuleType(name)
        package.__path__ = [str(Path(root, *name.split(".")[1:])) for root in spec.submodule_search_locations]
        sys.modules[name] = package
    try:
        yield
    finally:
        for name in _loaded(top):
            del sys.modules[name]
        sys.modules.update(before)


def _loaded(top: str) -> dict[str, ModuleType]:
    return {name: module for name, module in sys.modules.items() if name.partition(".")[0] == top}
