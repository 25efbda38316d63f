"""What a launcher is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from step_ahsar.compare.observer import PlannedRun
from step_ahsar.config import LaunchConfig
from step_ahsar.errors import UserError


class Launcher(Protocol):
    """Starts runs in other processes, in their order, `jobs` at a time."""

    def submit(self, runs: Sequence[PlannedRun]) -> None:
        """Starts the runs as soon as there is room."""

    def lost(self) -> Mapping[PlannedRun, str]:
        """The runs whose process has ended although they have not, and the reason."""

    def close(self) -> None:
        """Ends all processes. Runs that have not ended keep their last checkpoint."""


def imported(package: str, title: str, launcher: str) -> Any:
    """A package that a launcher needs, on its first use: it is an extra. Raises UserError if it is not installed."""
    try:
        return import_module(package)
    except ImportError:
        raise UserError(f"launcher {launcher!r} needs {title}: pip install 'step-ahsar[{launcher}]'") from None


def threads_of(config: LaunchConfig) -> int:
    """The number of threads of each run, of those that torch uses in this process."""
    import torch

    return config.threads or max(1, torch.get_num_threads() // config.jobs)
