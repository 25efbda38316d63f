"""What a task is to the engine: it completes a backbone, gives the loss and the metrics, and shows predictions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from step_ahsar.config import TrainConfig

Backbone = Callable[..., nn.Module]  # timm.create_model with everything but the task's own arguments


class Task(ABC):
    """One task on one data set.

    Args:
        config: the run's section `train`, where the loss is chosen.
        classes: names, by class index.

    Attributes:
        metric: the key of :meth:`Metrics.compute` that runs are judged by; higher is better, in [0, 1].
    """

    name: ClassVar[str]
    metric: ClassVar[str]

    def __init__(self, config: TrainConfig, classes: Sequence[str]) -> None:
        self.config, self.classes = config, tuple(classes)

    @abstractmethod
    def build(self, backbone: Backbone) -> nn.Module:
        """The whole model: the backbone with the task's head."""

    def mix(self, inputs: Tensor, targets: Any, epoch: int) -> tuple[Tensor, Any]:
        """Augmentation across a training batch; it may draw from the global generators, which the engine seeds."""
        return inputs, targets

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The training loss, 0-d."""

    @abstractmethod
    def metrics(self) -> "Metrics":
        """Fresh metrics for one pass over a data set."""

    @abstractmethod
    def show(self, outputs: Any, targets: Any) -> list[dict[str, Any]]:
        """For each sample of a batch its truth and its prediction, for people to read."""


class Metrics(ABC):
    """Metrics gathered over the batches of a data set."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Adds a batch."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The metrics over all batches, by name."""
