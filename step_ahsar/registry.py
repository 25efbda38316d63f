"""Registries for all that a config refers to by name: data sets, tasks, heads, losses, encoders and so on."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from step_ahsar.errors import UserError, unknown
from step_ahsar.plugins import load_plugins

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping from names to entries of one kind, in the order of the names, other packages' among them.

    Args:
        kind: what an entry is called in messages.

    >>> animals = Registry[str]("animal")
    >>> animals.add("cat", "meow"), list(animals), animals["cat"]
    ('meow', ['cat'], 'meow')
    >>> animals["car"]
    Traceback (most recent call last):
    step_ahsar.errors.UserError: unknown animal 'car'; did you mean 'cat'? known: cat
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def add(self, name: str, entry: T) -> T:
        """Registers ``entry`` and returns it. Raises UserError if the name is taken."""
        if name in self._entries:
            raise UserError(f"{self.kind} {name!r} is already registered")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """:meth:`add` as a decorator for a class or function."""
        return lambda entry: self.add(name, entry)

    def check(self, name: str) -> str:
        """Returns ``name``. Raises UserError if it is not registered."""
        if name not in self:
            raise unknown(self.kind, name, self)
        return name

    def __getitem__(self, name: str) -> T:
        return self._entries[self.check(name)]

    def __contains__(self, name: object) -> bool:
        load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        load_plugins()
        return len(self._entries)
