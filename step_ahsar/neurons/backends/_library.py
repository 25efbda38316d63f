"""What the adapters have in common: neurons of other libraries behind the contract of :class:`SpikingNeuron`."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.neurons.backends.torch import TorchNeuron
from step_ahsar.neurons.base import SpikingNeuron, scalar
from step_ahsar.neurons.functional import Fire
from step_ahsar.neurons.kernels import heaviside
from step_ahsar.neurons.surrogate import get_surrogate


def require(library: str) -> None:
    """Raises UserError, naming the extra that brings it, unless ``library`` is installed."""
    if find_spec(library) is None:
        raise UserError(f'backend {library!r} is not installed; it comes with: pip install "step-ahsar[{library}]"')


class LibraryNeuron(TorchNeuron):
    """The torch neuron of the same name, its spikes computed by another library.

    An adapter extends the torch neuron's class too and takes from it options, defaults and parameters, so one state
    dict fits every backend. It implements :meth:`run` with the library, which is imported when a neuron is made.

    Attributes:
        module: what is imported of the library.
        node_class: the library's class that it is equal to.
        fixed: options that the library knows in one value only; another one raises UserError.
    """

    module: ClassVar[str]
    node_class: ClassVar[str]
    fixed: ClassVar[Mapping[str, object]] = {}

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
        """Spikes of ``x: [T, B, ...]``, fp32 or fp64, from rest, by the library."""
        raise NotImplementedError(f"{type(self).__name__} lacks run()")

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``. Membranes are kept in fp32 at least, as on every backend."""
        return self.run(x.to(torch.promote_types(x.dtype, torch.float32))).to(x.dtype), None

    simulate_normed = SpikingNeuron.simulate_normed  # the torch neuron's own would pass the library by

    def stream(self, *_: Any) -> Any:
        """Raises UserError: backend "torch" alone hands out states."""
        raise UserError(f"stream() does not exist on backend {self.backend!r}; it exists on: torch")

    @property
    def fire(self) -> Fire:
        """For libraries that take any spike function: fires at ``u >= 0``, differentiated as the surrogate says."""
        return partial(_fire, self.surrogate, self.alpha)


class NodeNeuron(LibraryNeuron):
    """A neuron that the library has as a stateful module only, ``node``.

    The node is no submodule: what it registers is not the model's. Parameters and thresholds are handed to it at each
    call, its state is dropped after each call, and a copy of the neuron makes a node of its own.
    """

    node: nn.Module

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._build()

    def make_node(self) -> nn.Module:
        """The library's module."""
        raise NotImplementedError(f"{type(self).__name__} lacks make_node()")

    def _build(self) -> None:
        with torch.random.fork_rng(devices=()):  # its random weights, which are never used, must not move the model's
            object.__setattr__(self, "node", self.make_node())

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "node"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._build()


def _fire(surrogate: str, alpha: float, u: Tensor) -> Tensor:
    return _Fire.apply(u, scalar(alpha, u), get_surrogate(surrogate))


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, alpha: Tensor, derivative: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return heaviside(u)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, alpha, ctx.derivative = inputs
        ctx.save_for_backward(u, alpha)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0] * ctx.derivative(*ctx.saved_tensors), None, None
