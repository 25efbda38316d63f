"""How a command is called: an error in the user's input, or a signal, becomes one line and an exit status."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from step_ahsar.errors import ToldByMain, UserError, shortened_path

FAILED, USER_ERROR = 1, 2
_OF_A_SIGNAL = 128  # and its number, as shells have it: 130 for Ctrl-C, 143 for `kill`

# Names that are too long, places that are closed, and full disks: nothing of this can be mended in the program.
_OF_THE_SYSTEM = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ToldByMain:
            raise typer.Exit(USER_ERROR) from None
        except UserError as fault:
            say(f"error: {' '.join(str(fault).split())}")
            raise typer.Exit(USER_ERROR) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(_OF_A_SIGNAL + signal.SIGINT) from None
        except OSError as fault:
            if fault.errno not in _OF_THE_SYSTEM:
                raise
            say(f"error: {fault.strerror}: {shortened_path(str(fault.filename or ''))}")
            raise typer.Exit(USER_ERROR) from None


class TorchCommand(TyperCommand):
    """A command that imports torch."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        # torch imports numpy, too. If Ctrl-C interrupts that import, torch goes on with half of numpy, and fails later.
        import numpy  # noqa: F401

        return super().invoke(ctx)


def is_main() -> bool:
    """Whether this process is the first, or the only one, of those that torchrun or accelerate has started."""
    return os.environ.get("RANK", "0") == "0"


def say(line: str) -> None:
    """Print a line on stderr."""
    print(line if is_main() else f"rank {os.environ['RANK']}: {line}", file=sys.stderr)


class _Signalled(KeyboardInterrupt):
    """SIGINT or SIGTERM, by its number."""


@contextmanager
def interruptible(how_to_go_on: str) -> Iterator[None]:
    """SIGINT (Ctrl-C) and SIGTERM end the block at once, with a line and an exit status; a second one ends the process.

    Args:
        how_to_go_on: the end of the line.
    """

    def end(number: int, _: Any) -> NoReturn:
        for each in signals:
            signal.signal(each, lambda *_: os._exit(_OF_A_SIGNAL + number))
        raise _Signalled(number)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(each, end) for each in signals]
    try:
        yield
    except KeyboardInterrupt as interruption:
        if is_main():
            say(f"interrupted; {how_to_go_on}")
        number = interruption.args[0] if isinstance(interruption, _Signalled) else signal.SIGINT
        raise typer.Exit(_OF_A_SIGNAL + number) from None
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)
