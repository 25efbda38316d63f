"""Where the runs of a comparison are trained. Each file is one launcher.

A launcher starts processes and says which of them were lost, and nothing else: all that is known of a run is in its
folder, where `queue.py` reads it. So a launcher, and the process that started it, can be replaced at any time. What
trains is imported where runs are trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from step_ahsar.compare.launchers.base import Launcher, threads_of
from step_ahsar.compare.launchers.local import LocalProcesses
from step_ahsar.compare.launchers.ray import RayTasks
from step_ahsar.compare.launchers.slurm import SlurmJobs
from step_ahsar.config import LaunchConfig
from step_ahsar.errors import UserError
from step_ahsar.registry import Registry


@dataclass(frozen=True)
class Kind:
    """A launcher that can be chosen.

    Args:
        create: makes one for a comparison's folder.
        keys: the keys of the section `launch` that it reads, besides `launcher`, `jobs` and `threads`.
    """

    create: Callable[[Path, LaunchConfig], Launcher]
    keys: tuple[str, ...] = ()


LAUNCHERS = Registry[Kind]("launcher")
LAUNCHERS.add("local", Kind(LocalProcesses))
LAUNCHERS.add("ray", Kind(RayTasks, keys=("gpus", "memory", "retries")))
LAUNCHERS.add("slurm", Kind(SlurmJobs, keys=("gpus", "memory", "partition", "time")))


def check_launch(config: LaunchConfig) -> None:
    """Raises UserError for an unknown launcher, and for keys that the launcher does not read."""
    default, read = LaunchConfig(), LAUNCHERS[config.launcher].keys
    for key in sorted({key for kind in LAUNCHERS.values() for key in kind.keys}):
        if key not in read and getattr(config, key) != getattr(default, key):
            which = " and ".join(name for name, kind in LAUNCHERS.items() if key in kind.keys)
            raise UserError(f"launch.{key} does not apply to launcher {config.launcher!r}; it is for {which}")


__all__ = ["LAUNCHERS", "Kind", "Launcher", "check_launch", "threads_of"]
