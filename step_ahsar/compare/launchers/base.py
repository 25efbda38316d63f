"""What a launcher is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from step_ahsar.compare.observer import PlannedRun
from step_ahsar.config import LaunchConfig


class Launcher(Protocol):
    """Starts runs in other processes, in their order, `jobs` at a time."""

    def submit(self, runs: Sequence[PlannedRun]) -> None:
        """Starts the runs as soon as there is room."""

    def lost(self) -> Mapping[PlannedRun, str]:
        """The runs whose process has ended although they have not, and the reason."""

    def close(self) -> None:
        """Ends all processes. Runs that have not ended keep their last checkpoint."""


def threads_of(config: LaunchConfig) -> int:
    """The number of threads of each run, of those that torch uses in this process."""
    return config.threads or max(1, torch.get_num_threads() // config.jobs)
