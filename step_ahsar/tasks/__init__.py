"""Tasks by name."""

from collections.abc import Sequence

from step_ahsar.config import Config
from step_ahsar.errors import unknown
from step_ahsar.tasks.base import Metrics, Task
from step_ahsar.tasks.classification import Classification
from step_ahsar.tasks.detection import Detection
from step_ahsar.tasks.segmentation import Segmentation

_tasks: dict[str, type[Task]] = {task.name: task for task in (Classification, Segmentation, Detection)}


def list_tasks() -> list[str]:
    """Names that ``task:`` takes."""
    return sorted(_tasks)


def create_task(config: Config, classes: Sequence[str]) -> Task:
    """The task of a config, for the classes of its data. Raises UserError if there is none, or options do not apply."""
    if config.task not in _tasks:
        raise unknown("task", config.task, list_tasks())
    return _tasks[config.task](config, classes)


__all__ = ["Metrics", "Task", "create_task", "list_tasks"]
