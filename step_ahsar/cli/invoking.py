"""How a command is called: an error in the user's input, or Ctrl-C, becomes one line and an exit status."""

import errno
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from step_ahsar.errors import UserError, shortened_path

FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130  # the last is 128 + SIGINT, as shells have it

# Names that are too long, places that are closed, and full disks: nothing of this can be mended in the program.
_OF_THE_SYSTEM = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


class Commands(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except UserError as fault:
            say(f"error: {' '.join(str(fault).split())}")
            raise typer.Exit(USER_ERROR) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
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


def say(line: str) -> None:
    """Print a line on stderr."""
    print(line, file=sys.stderr)
