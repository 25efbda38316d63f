"""The registry of neurons, by name and backend.

A backend is imported when it is first asked for. Other packages register neurons as plugins.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import torch

from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons.base import GROUPS, SpikingNeuron
from step_ahsar.neurons.randomness import own_stream
from step_ahsar.plugins import load_plugins

F = TypeVar("F", bound=Callable[..., SpikingNeuron])
Regulator = Callable[[SpikingNeuron], None]

_factories: dict[tuple[str, str], Callable[..., SpikingNeuron]] = {}
_regulated: dict[str, tuple[Regulator, str]] = {}  # by name: the function that prepares a base neuron, the default base


@dataclass(frozen=True)
class NeuronKind:
    """Facts about a neuron that are known without creating one.

    Args:
        name: the neuron's name.
        backend: the library that simulates it.
        base: the neuron whose equation runs: the neuron itself, or the one that a regulated neuron is built around.
        regulated: whether a controller scales its threshold.
        options: its options with their defaults; None if it was registered as a function, whose options are unknown.
        types: the types of its options.
    """

    name: str
    backend: str
    base: str
    regulated: bool
    options: Mapping[str, Any] | None
    types: Mapping[str, Any]

    @property
    def threshold(self) -> float | None:
        """The default threshold; None if the options are unknown."""
        return None if self.options is None else self.options.get("threshold")


def register_neuron(name: str, backend: str) -> Callable[[F], F]:
    """Registers a neuron class, or a function that returns a neuron. Raises UserError if name and backend are taken."""

    def register(factory: F) -> F:
        key = (name, backend)
        if key in _factories or name in _regulated:
            raise UserError(f"neuron {name!r} is already registered on backend {backend!r}")
        _factories[key] = factory
        if isinstance(factory, type) and issubclass(factory, SpikingNeuron):
            factory.name, factory.backend = name, backend
        return factory

    return register


def register_regulated(name: str, base: str = "lif") -> Callable[[Regulator], Regulator]:
    """Registers a neuron that is another neuron whose threshold is regulated. It exists on every backend.

    Args:
        name: its name.
        base: the neuron that is regulated unless the option ``base`` names another.

    Returns:
        A decorator for the function that prepares each new base neuron for regulation.
    """

    def register(regulator: Regulator) -> Regulator:
        if name in _regulated or any(name == taken for taken, _ in _factories):
            raise UserError(f"neuron {name!r} is already registered")
        _regulated[name] = (regulator, base)
        return regulator

    return register


def create_neuron(name: str, backend: str = "torch", *, group: str | None = None, **options: Any) -> SpikingNeuron:
    """Creates a spiking neuron. Random numbers that its constructor draws do not advance torch's generator.

    Args:
        name: see :func:`list_neurons`.
        backend: see :func:`list_backends`.
        group: "stem", "attention", "mlp" or "head": the layers that it is regulated and reported with.
        options: options of this neuron; see :attr:`NeuronKind.options`.

    Raises:
        UserError: a name, backend or option that is not known, or a value out of range.

    >>> create_neuron("lif", threshold=0.5, tau=2.0)
    LIF(threshold=0.5, tau=2.0, surrogate='sigmoid', alpha=4.0, reset='hard', detach_reset=True, surrogate_scale=None)
    """
    if group is not None and group not in GROUPS:
        raise unknown("group", group, GROUPS)
    kind = neuron_kind(name, backend, options.get("base"))
    for option in options:
        if kind.options is not None and option not in kind.options:
            raise unknown(f"option of neuron {name!r} on backend {backend!r}:", option, kind.options)
    if kind.regulated:
        options.pop("base", None)
    with own_stream():
        neuron = _factories[kind.base, backend](group=group, **options)
    if kind.regulated:
        _regulated[name][0](neuron)
    return neuron


def neuron_kind(name: str, backend: str = "torch", base: str | None = None) -> NeuronKind:
    """Facts about a neuron. This is the one place that decides whether a neuron is regulated, and around which base.

    Args:
        name: see :func:`list_neurons`.
        backend: see :func:`list_backends`.
        base: of a regulated neuron, the neuron that is regulated; None for its default.

    Raises:
        UserError: an unknown name or backend, or a base that cannot be regulated.

    >>> kind = neuron_kind("ahsar", base="plif")
    >>> kind.base, kind.regulated, kind.threshold
    ('plif', True, 1.0)
    """
    _load(backend)
    regulated, own = name in _regulated, name
    if regulated:
        own = base or _regulated[name][1]
        if own in _regulated:
            raise UserError(f"base of {name!r} must be a neuron that is not regulated itself, got {own!r}")
    factory = _find(own, backend)
    if not (isinstance(factory, type) and issubclass(factory, SpikingNeuron)):
        return NeuronKind(name, backend, own, regulated, None, {})
    options = {**({"base": own} if regulated else {}), **factory.option_defaults()}
    return NeuronKind(name, backend, own, regulated, options, factory.option_types())


def list_backends() -> list[str]:
    """Names that ``backend=`` takes, whether or not the library is installed."""
    _load_others()
    return sorted({*_modules(), *(backend for _, backend in _factories)})


def list_neurons(backend: str | None = None) -> list[str]:
    """Names of the neurons of one backend, or of any."""
    for each in list_backends() if backend is None else [backend]:
        _load(each)
    return sorted({*_regulated, *(name for name, on in _factories if backend in (None, on))})


def _find(name: str, backend: str) -> Callable[..., SpikingNeuron]:
    if (name, backend) in _factories:
        return _factories[name, backend]
    elsewhere = [b for b in list_backends() if name in list_neurons(b)]
    if elsewhere:
        raise UserError(f"neuron {name!r} does not exist on backend {backend!r}; it exists on: {', '.join(elsewhere)}")
    raise unknown("neuron", name, list_neurons(backend))


@cache
def _modules() -> dict[str, str]:
    """The module that registers each backend's neurons: every folder in step_ahsar/libraries with an adapter."""
    libraries = import_module("step_ahsar.libraries")
    return {"torch": "step_ahsar.neurons.torch"} | libraries.modules_of("adapter")


@cache
def _load(backend: str) -> None:
    if backend not in list_backends():
        raise unknown("backend", backend, list_backends())
    if backend in _modules():
        # On the device "meta", on which a model may be created, a module could not compute its constants.
        with torch.device("cpu"):
            import_module(_modules()[backend])


@cache
def _load_others() -> None:
    import_module("step_ahsar.ahsar.neuron")  # registers the regulated neuron
    load_plugins()
