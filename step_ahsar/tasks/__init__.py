"""Tasks by name."""

from collections.abc import Sequence

from step_ahsar.config import TrainConfig
from step_ahsar.errors import unknown
from step_ahsar.tasks.base import Metrics, Task
from step_ahsar.tasks.classification import Classification

_tasks: dict[str, type[Task]] = {task.name: task for task in (Classification,)}


def list_tasks() -> list[str]:
    """Names that ``task:`` takes."""
    return sorted(_tasks)


def create_task(name: str, config: TrainConfig, classes: Sequence[str]) -> Task:
    """The task of that name. Raises UserError if there is none."""
    if name not in _tasks:
        raise unknown("task", name, list_tasks())
    return _tasks[name](config, classes)


__all__ = ["Metrics", "Task", "create_task", "list_tasks"]
