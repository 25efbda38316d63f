"""How far work is that may take long, told to whoever wants to show it.

Opening data sets, measuring and the like say so by :func:`followed` and :func:`work`, whoever has called them. Without
:func:`told` nobody listens.
"""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

OnProgress = Callable[[str, float], None]

_T = TypeVar("_T")
# No argument: it would have to go through whatever opens a data set, other packages' functions too.
_listening: ContextVar[OnProgress | None] = ContextVar("listening", default=None)


@contextmanager
def told(on_progress: OnProgress) -> Iterator[None]:
    """Tells `on_progress` how far the work in the block is.

    Args:
        on_progress: called with what is being done, and with the share of it that is done. The share is 0 when work
            begins and 1 when it has ended; then other work may begin.
    """
    token = _listening.set(on_progress)
    try:
        yield
    finally:
        _listening.reset(token)


@contextmanager
def work(what: str, parts: int) -> Iterator[Callable[[str], None]]:
    """Work of several parts. The function that it yields is to be called with a name as each of them begins.

    Work inside of a part is told as a share of it. Names may be empty, and so may be what is done, in the midst of
    other work that says it.

    >>> with told(lambda what, share: print(f"{what}: {share:.0%}")):
    ...     with work("condition", 2) as part:
    ...         for name in ("noise", "blur"):
    ...             part(name)
    ...             for _ in followed("", ["a", "b"]):
    ...                 pass
    condition: 0%
    condition 1/2, noise: 0%
    condition 1/2, noise: 0%
    condition 1/2, noise: 25%
    condition 1/2, noise: 50%
    condition 2/2, blur: 50%
    condition 2/2, blur: 50%
    condition 2/2, blur: 75%
    condition: 100%
    """
    tell = _listening.get()
    if tell is None or not parts:
        yield lambda name: None
        return
    begun, place = 0, what

    def part(name: str) -> None:
        nonlocal begun, place
        begun, place = begun + 1, _joined(f"{what} {begun + 1}/{parts}" if what and parts > 1 else what, name)
        inside("", 0.0)

    def inside(name: str, share: float) -> None:
        if (done := (max(0, begun - 1) + share) / parts) < 1:  # what ends with the last part is told at the end
            tell(_joined(place, name), done)

    tell(what, 0.0)
    try:
        with told(inside):
            yield part
    finally:
        tell(what, 1.0)


def followed(what: str, items: Iterable[_T], number: int | None = None) -> Iterator[_T]:
    """The items. Each is done when the next one is asked for.

    Args:
        what: what is done with them; empty if the part of a :func:`work` says so.
        items: any.
        number: of the items, unless they can say so themselves.
    """
    tell = _listening.get()
    if tell is None:
        yield from items
        return
    if number is None:
        assert isinstance(items, Sized)
        number = len(items)
    tell(what, 0.0)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if done < number:
                tell(what, done / number)
    finally:
        tell(what, 1.0)


def _joined(*names: str) -> str:
    return ", ".join(filter(None, names))
