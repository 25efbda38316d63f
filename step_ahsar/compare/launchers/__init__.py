"""Where the runs of a comparison are trained. Each file is one launcher.

A launcher starts processes and says which of them were lost, and nothing else: all that is known of a run is in its
folder, where `queue.py` reads it. So a launcher, and the process that started it, can be replaced at any time.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from step_ahsar.compare.launchers.base import Launcher, threads_of
from step_ahsar.compare.launchers.local import LocalProcesses
from step_ahsar.config import LaunchConfig

LAUNCHERS: Mapping[str, Callable[[Path, LaunchConfig], Launcher]] = {"local": LocalProcesses}

__all__ = ["LAUNCHERS", "Launcher", "threads_of"]
