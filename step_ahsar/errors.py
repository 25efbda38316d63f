"""Errors that a user can correct. Each is one line that says what was wrong, where, and what would be right."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """An error in the user's input. The command line prints it as one line and exits with status 2."""


class ToldByMain(UserError):
    """The error of the first of several processes that train one run, raised in the others. The first reports it."""


def shortened(parts: Iterable[str], limit: int = 6, separator: str = ", ") -> str:
    """The first parts of a list, and how many more there are.

    >>> shortened(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    listed = list(parts)
    more = len(listed) - limit
    return separator.join(listed[:limit]) + (f" and {more} more" if more > 0 else "")


def shortened_path(path: str, most: int = 100) -> str:
    """A path, without its middle if it is long."""
    return path if len(path) <= most else f"{path[: most // 2]}...{path[-most // 2 :]}"


def first_line(error: Exception) -> str:
    """Class and first line of whatever the code of other packages raises.

    >>> first_line(ImportError("no module\\nand more")), first_line(KeyError())
    ('ImportError: no module', 'KeyError: no message')
    """
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def unknown(kind: str, name: object, known: Iterable[str]) -> UserError:
    """The error for a name that is not one of the known ones.

    >>> print(unknown("neuron", "liff", ["if", "lif"]))
    unknown neuron 'liff'; did you mean 'lif'? known: if, lif
    """
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return UserError(f"unknown {kind} {name!r}{hint} known: {', '.join(names) or 'none'}")
