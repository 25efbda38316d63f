"""Files that cannot be used: they raise an error, or with ``on_error: skip`` they are left out and listed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.errors import UserError
from step_ahsar.progress import followed

T = TypeVar("T")
R = TypeVar("R")


class DataFault(UserError):
    """A file, or a record in a file, that cannot be used. The message names it and says what is wrong with it."""

    def __init__(self, where: str | Path, fault: str) -> None:
        super().__init__(f"{where}: {fault}")


class Faults:
    """The faults of a data set's files. The first one is raised; with ``on_error: skip`` all are collected.

    Attributes:
        found: "file: fault" of every file that was left out.
    """

    def __init__(self, config: DataConfig) -> None:
        self.skips, self.found = config.on_error == "skip", list[str]()

    def note(self, fault: DataFault) -> None:
        """Raises the fault, or adds it to ``found``."""
        if not self.skips:
            raise fault
        self.found.append(str(fault))

    def readable(self, items: Iterable[T], read: Callable[[T], Any]) -> list[T]:
        """The items that can be read.

        With ``on_error: skip`` every item is read once. Otherwise all items are returned unread: a fault stops the run
        when the item is needed.
        """
        if not self.skips:
            return list(items)
        return [item for item, _ in self.tried(items, read)]

    def read(self, items: Iterable[T], read: Callable[[T], R]) -> list[R]:
        """The result of ``read`` for each item that can be read."""
        return [value for _, value in self.tried(items, read)]

    def tried(self, items: Iterable[T], read: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """Each item that can be read, with the result of ``read``, one after the other."""
        for item in followed("reading files", list(items)):
            try:
                value = read(item)
            except DataFault as fault:
                self.note(fault)
            else:
                yield item, value

    def without(self, wrong: Mapping[int, str], count: int, where: Path) -> NDArray[Any]:
        """The indices below ``count`` that are not in ``wrong``, which gives the fault of each faulty record."""
        for index in sorted(wrong):
            self.note(DataFault(where, wrong[index]))
        return np.setdiff1d(np.arange(count), list(wrong))
