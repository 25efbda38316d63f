"""Files that cannot be used: named, or with ``on_error: skip`` left out and listed."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from step_ahsar.config import DataConfig
from step_ahsar.errors import UserError

T = TypeVar("T")


class DataFault(UserError):
    """A file, or a record of one, that cannot be used; the message names it and says what is wrong."""

    def __init__(self, where: str | Path, fault: str) -> None:
        super().__init__(f"{where}: {fault}")


def screen(items: Iterable[T], read: Callable[[T], Any], config: DataConfig) -> tuple[list[T], list[str]]:
    """The items that can be read, and what was wrong with the others.

    With ``on_error: skip`` every item is read once. Otherwise none is: a fault shows, and stops the run, when the item
    is needed.

    Returns:
        The items kept, in order, and "file: fault" of those left out.
    """
    if config.on_error == "raise":
        return list(items), []
    kept, skipped = [], []
    for item in items:
        try:
            read(item)
        except DataFault as fault:
            skipped.append(str(fault))
        else:
            kept.append(item)
    return kept, skipped
