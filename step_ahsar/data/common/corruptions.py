"""What the corruptions of all kinds of data have in common."""

from typing import TypeVar

from step_ahsar.errors import UserError
from step_ahsar.registry import Registry

T = TypeVar("T")

SEVERITIES = (1, 2, 3, 4, 5)


def find(corruptions: Registry[T], name: str, severity: int) -> T:
    """The corruption with this name. Raises UserError if it, or the severity, does not exist."""
    found = corruptions[name]
    if severity not in SEVERITIES:
        raise UserError(f"the severity of a corruption is 1, 2, 3, 4 or 5, got {severity!r}")
    return found
