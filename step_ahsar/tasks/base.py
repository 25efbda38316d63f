"""The interface of tasks. A task completes a backbone, has a loss and metrics, and shows predictions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from step_ahsar.config import Config
from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint
from step_ahsar.neurons import neuron_kind
from step_ahsar.registry import Registry
from step_ahsar.tasks.losses import Loss

if TYPE_CHECKING:
    from PIL import Image

Backbone = Callable[..., nn.Module]  # timm.create_model with everything but the task's own arguments


class Task(ABC):
    """One task on one data set.

    Inputs are [B, C, *S], or [T, B, C, *S] for data with a time axis of their own.

    Args:
        config: the run's config. A task reads `train` (the loss), `head` and `model` (the head's neurons).
        classes: names, by class index.

    Attributes:
        metric: the key of :meth:`Metrics.compute` by which runs are judged; higher is better, in [0, 1].
        losses: the values of `train.loss`.

    Raises:
        UserError: an option that does not apply to the task.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    losses: ClassVar[Registry[Loss]]

    def __init__(self, config: Config, classes: Sequence[str]) -> None:
        self.check(config)
        self.config, self.classes = config, tuple(classes)
        self.criterion = self.losses[config.train.loss]

    @classmethod
    def check(cls, config: Config) -> None:
        """Raises UserError for an option that does not apply to the task. Nothing is built."""
        criterion = cls.losses[config.train.loss]
        if config.train.tet_lambda and config.train.loss != "tet":
            raise UserError(f"train.tet_lambda is for train.loss 'tet', not for {config.train.loss!r}; leave it at 0")
        if config.train.head_lr != 1 and cls.name != "classification":
            raise UserError(f"train.head_lr does not apply to {cls.name}, whose heads have norms; leave it at 1")
        if config.train.label_smoothing and not criterion.smooths:
            raise UserError(
                f"train.label_smoothing does not apply to train.loss {config.train.loss!r} of {cls.name}; leave it at 0"
            )

    @abstractmethod
    def build(self, backbone: Backbone) -> nn.Module:
        """The whole model: the backbone with the task's head."""

    @property
    def mixes(self) -> bool:
        """Whether :meth:`mix` mixes samples in some epoch."""
        return False

    def batch_axis(self, inputs: Tensor) -> int:
        """0 for [B, C, *S], 1 for [T, B, C, *S]."""
        data = self.config.data
        return int(inputs.ndim == 5 or data.encoder != "direct" or data.sequence.axis == "time")

    def mix(self, inputs: Tensor, targets: Any, epoch: int) -> tuple[Tensor, Any]:
        """Augmentation across a training batch. It may draw from the global generators, which the engine seeds."""
        return inputs, targets

    @abstractmethod
    def loss(self, model: nn.Module, inputs: Tensor, targets: Any) -> Tensor:
        """The training loss of a batch, 0-d."""

    def predict(self, model: nn.Module, inputs: Tensor) -> Any:
        """Predictions for :meth:`Metrics.update`."""
        return model(inputs)

    @abstractmethod
    def metrics(self, calibration: bool = False) -> "Metrics":
        """Fresh metrics for one pass over a data set.

        Args:
            calibration: whether they include "ece", the expected calibration error, if the task has one.
        """

    @abstractmethod
    def show(self, outputs: Any, targets: Any) -> list[dict[str, Any]]:
        """Truth and prediction of each sample of a batch, as text and numbers for a reader."""

    @abstractmethod
    def judge(self, outputs: Any, targets: Any) -> tuple[list[float], Tensor | None]:
        """How well the samples of a batch are predicted.

        Returns:
            The score of each sample, in [0, 1], by which the best and the worst examples are chosen; and class index in
            truth and in prediction of whatever is classified, as truth * number of classes + prediction, int64 [N], or
            None.
        """

    def kept(self, outputs: Any) -> Any:
        """What :meth:`show` and :meth:`draw` need of predictions, if that is less."""
        return outputs

    @abstractmethod
    def draw(self, inputs: Tensor, outputs: Any, targets: Any) -> "list[Image.Image]":
        """A picture of each sample of a batch; of dense tasks with truth and prediction."""


class Metrics(ABC):
    """Metrics gathered over the batches of a data set."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Adds a batch."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Adds what other metrics of the same class have gathered, from the samples that come after these."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The metrics over all batches, by name, each in [0, 1]. Undefined ones are left out."""


def head_neurons(config: Config) -> Blueprint:
    """The factory of a spiking head's neurons and norms, which are those of ``config.model``."""
    model = config.model
    known = neuron_kind(model.neuron, model.backend, model.base).options or {}
    options = model.neuron_options() | {name: value for name, value in model.args.items() if name in known}
    return Blueprint(
        model.neuron,
        model.backend,
        model.threshold,
        model.attn_threshold,
        options,
        model.time_steps,
        norm=model.norm or "bn",
    )


TASKS = Registry[type[Task]]("task")
