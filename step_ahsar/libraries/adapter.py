"""Base classes of the adapters, which give the neurons of other libraries the interface of :class:`SpikingNeuron`."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.neurons.base import SpikingNeuron, scalar
from step_ahsar.neurons.equations import Fire
from step_ahsar.neurons.surrogate import spike
from step_ahsar.neurons.torch import TorchNeuron


def require(library: str) -> None:
    """Raises UserError, which names the extra to install, unless ``library`` is installed."""
    if find_spec(library) is None:
        raise UserError(f'backend {library!r} is not installed; it comes with: pip install "step-ahsar[{library}]"')


class LibraryNeuron(TorchNeuron):
    """A neuron whose spikes are computed by another library.

    An adapter also extends the torch neuron of the same name, from which it has options, defaults and parameters. So
    one state dict fits every backend. It implements :meth:`run` by the library, which is imported when a neuron is
    created.

    Attributes:
        module: the library's module that is imported.
        node_class: the library's class with the same dynamics.
        fixed: options for which the library supports one value only; any other value raises UserError.
    """

    module: ClassVar[str]
    node_class: ClassVar[str]
    fixed: ClassVar[Mapping[str, object]] = {"surrogate_scale": None}

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        require(self.backend)
        self.library()
        for option, value in self.fixed.items():
            if getattr(self, option) != value:
                raise UserError(
                    f"neuron {self.name!r} on backend {self.backend!r} has {option}={value!r} only, "
                    f"got {getattr(self, option)!r}; backend 'torch' takes any"
                )

    @classmethod
    def library(cls) -> ModuleType:
        """The library's module."""
        return import_module(cls.module)

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``, fp32 or fp64, from rest, computed by the library."""
        raise NotImplementedError(f"{type(self).__name__} lacks run()")

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``. Membranes are at least fp32, as on every backend."""
        return self.run(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype), None

    simulate_normed = SpikingNeuron.simulate_normed  # that of the torch neuron would not use the library

    def stream(self, *_: Any) -> Any:
        """Raises UserError: only backend "torch" returns states."""
        raise UserError(f"stream() does not exist on backend {self.backend!r}; it exists on: torch")

    @property
    def fire(self) -> Fire:
        """A spike function for libraries that take any: fires at ``u >= 0``, with the surrogate's derivative."""
        return partial(_fire, self.surrogate, self.alpha)


class NodeNeuron(LibraryNeuron):
    """A neuron that the library offers only as a module with a state, ``node``.

    The node is not registered as a submodule, so its parameters are not the model's. It is given parameters and
    threshold in each call, and its state is dropped after each call. A copy of the neuron has a node of its own.
    """

    node: nn.Module

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._build()

    def make_node(self) -> nn.Module:
        """The library's module."""
        raise NotImplementedError(f"{type(self).__name__} lacks make_node()")

    def _build(self) -> None:
        # The node's own random weights are never used and must not change those of the model, so torch's generator is
        # restored. The node is made on the CPU because a library may read values, which a meta tensor does not have.
        with torch.random.fork_rng(devices=()), torch.device("cpu"):
            object.__setattr__(self, "node", self.make_node())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "node"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._build()


def _fire(surrogate: str, alpha: float, u: Tensor) -> Tensor:
    return spike(u, scalar(alpha, u), surrogate)
