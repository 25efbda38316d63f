"""Tasks by name."""

from collections.abc import Sequence

from step_ahsar.config import Config
from step_ahsar.tasks.base import TASKS, Metrics, Task
from step_ahsar.tasks.classification import Classification
from step_ahsar.tasks.detection import Detection
from step_ahsar.tasks.segmentation import Segmentation

for _task in (Classification, Segmentation, Detection):
    TASKS.add(_task.name, _task)


def create_task(config: Config, classes: Sequence[str]) -> Task:
    """The task of a config, for the classes of its data. Raises UserError if there is none, or options do not apply."""
    return TASKS[config.task](config, classes)


__all__ = ["TASKS", "Metrics", "Task", "create_task"]
