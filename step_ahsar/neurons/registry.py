"""The registry of neurons: name x backend. Backends are imported on first use, third parties come by entry points."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons.base import GROUPS, SpikingNeuron

F = TypeVar("F", bound=Callable[..., SpikingNeuron])

_MODULES = {
    name: f"step_ahsar.neurons.backends.{name}" for name in ("torch", "spikingjelly", "braincog", "snntorch", "sinabs")
}
ENTRY_POINTS = "step_ahsar.neurons"

_factories: dict[tuple[str, str], Callable[..., SpikingNeuron]] = {}


def register_neuron(name: str, backend: str) -> Callable[[F], F]:
    """Registers a neuron class (or factory) under name x backend. Raises UserError if the pair is taken.

    Other packages add neurons by an entry point in the group ``step_ahsar.neurons``, which names a module that
    registers them.
    """

    def register(factory: F) -> F:
        key = (name, backend)
        if key in _factories:
            raise UserError(f"neuron {name!r} is already registered on backend {backend!r}: {_factories[key]!r}")
        _factories[key] = factory
        if isinstance(factory, type) and issubclass(factory, SpikingNeuron):
            factory.name, factory.backend = name, backend
        return factory

    return register


def create_neuron(name: str, backend: str = "torch", *, group: str | None = None, **options: Any) -> SpikingNeuron:
    """Creates a spiking neuron.

    Args:
        name: see :func:`list_neurons`.
        backend: see :func:`list_backends`.
        group: "stem", "attention", "mlp" or "head"; what it is regulated and reported with.
        options: the neuron's own; see :func:`neuron_options`.

    Raises:
        UserError: a name, backend or option that is not known, or a value out of range.

    >>> create_neuron("lif", threshold=0.5, tau=2.0)
    LIF(threshold=0.5, tau=2.0, surrogate='sigmoid', alpha=4.0, reset='hard', detach_reset=True)
    """
    if group is not None and group not in GROUPS:
        raise unknown("group", group, GROUPS)
    factory = _find(name, backend)
    known = neuron_options(name, backend)
    for option in options:
        if known is not None and option not in known:
            raise unknown(f"option of neuron {name!r} on backend {backend!r}:", option, known)
    return factory(group=group, **options)


def ahsar(backend: str, base: str = "lif", group: str | None = None, **options: Any) -> SpikingNeuron:
    """The ``base`` neuron under AHSAR: on every backend the neuron called "ahsar".

    Until a controller steps (:func:`step_ahsar.ahsar.regulate`) it is the base neuron, bit for bit.

    Args:
        backend: where the base neuron lives.
        base: name of the neuron that is regulated.
        group: what it is regulated with.
        options: the base neuron's.
    """
    if base == "ahsar":
        raise UserError("base of 'ahsar' must be another neuron, got 'ahsar'")
    neuron = create_neuron(base, backend, group=group, **options)
    neuron.start_regulation()
    return neuron


def list_backends() -> list[str]:
    """Backends that ``backend=`` takes, installed or not."""
    _load_entry_points()
    return sorted({*_MODULES, *(backend for _, backend in _factories)})


def list_neurons(backend: str | None = None) -> list[str]:
    """Names of the neurons of one backend, or of any."""
    backends = list_backends()
    if backend is not None and backend not in backends:
        raise unknown("backend", backend, backends)
    for each in backends:
        _load(each)
    return sorted({name for name, on in _factories if backend in (None, on)})


def neuron_options(name: str, backend: str = "torch") -> list[str] | None:
    """Names of the options that the neuron takes; None for a factory, which passes them on and refuses by itself."""
    factory: object = _find(name, backend)
    if isinstance(factory, type) and issubclass(factory, SpikingNeuron):
        return factory.option_names()
    return None


def _find(name: str, backend: str) -> Callable[..., SpikingNeuron]:
    if backend not in list_backends():
        raise unknown("backend", backend, list_backends())
    _load(backend)
    if (name, backend) in _factories:
        return _factories[name, backend]
    elsewhere = [b for b in list_backends() if name in list_neurons(b)]
    if elsewhere:
        raise UserError(f"neuron {name!r} does not exist on backend {backend!r}; it exists on: {', '.join(elsewhere)}")
    raise unknown("neuron", name, list_neurons(backend))


@cache
def _load(backend: str) -> None:
    if backend in _MODULES:
        import_module(_MODULES[backend])
    register_neuron("ahsar", backend)(partial(ahsar, backend=backend))


@cache
def _load_entry_points() -> None:
    for entry in entry_points(group=ENTRY_POINTS):
        entry.load()
