"""What a task is to the engine: it completes a backbone, gives the loss and the metrics, and shows predictions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from step_ahsar.config import Config
from step_ahsar.errors import UserError
from step_ahsar.layers import NeuronFactory
from step_ahsar.neurons import neuron_options

if TYPE_CHECKING:
    from PIL import Image

Backbone = Callable[..., nn.Module]  # timm.create_model with everything but the task's own arguments


class Task(ABC):
    """One task on one data set.

    Inputs are [B, C, *S], or [T, B, C, *S] where the data have a time axis of their own.

    Args:
        config: the run; a task reads `train` (the loss), `head` and `model` (the head's neurons).
        classes: names, by class index.

    Attributes:
        metric: the key of :meth:`Metrics.compute` that runs are judged by; higher is better, in [0, 1].
        losses: what `train.loss` may be.

    Raises:
        UserError: an option that does not apply to the task.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    losses: ClassVar[tuple[str, ...]] = ("ce",)

    def __init__(self, config: Config, classes: Sequence[str]) -> None:
        if config.train.loss not in self.losses:
            raise UserError(f"train.loss must be {' or '.join(self.losses)} for {self.name}, got {config.train.loss!r}")
        self.config, self.classes = config, tuple(classes)

    @abstractmethod
    def build(self, backbone: Backbone) -> nn.Module:
        """The whole model: the backbone with the task's head."""

    def mix(self, inputs: Tensor, targets: Any, epoch: int) -> tuple[Tensor, Any]:
        """Augmentation across a training batch; it may draw from the global generators, which the engine seeds."""
        return inputs, targets

    @abstractmethod
    def loss(self, model: nn.Module, inputs: Tensor, targets: Any) -> Tensor:
        """The training loss of a batch, 0-d."""

    def predict(self, model: nn.Module, inputs: Tensor) -> Any:
        """What :meth:`Metrics.update` takes."""
        return model(inputs)

    @abstractmethod
    def metrics(self) -> "Metrics":
        """Fresh metrics for one pass over a data set."""

    @abstractmethod
    def show(self, outputs: Any, targets: Any) -> list[dict[str, Any]]:
        """For each sample of a batch its truth and its prediction, for people to read."""

    def draw(self, inputs: Tensor, outputs: Any, targets: Any) -> "list[Image.Image]":
        """For each sample of a batch a picture of truth and prediction; none where there is nothing to see."""
        return []


class Metrics(ABC):
    """Metrics gathered over the batches of a data set."""

    @abstractmethod
    def update(self, outputs: Any, targets: Any) -> None:
        """Adds a batch."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """The metrics over all batches, by name, each in [0, 1]; what is undefined is left out."""


def head_neurons(config: Config) -> NeuronFactory:
    """Makes the neurons of a spiking head: those of ``config.model``."""
    model = config.model
    base = model.args.get("base", model.base or "lif") if model.neuron == "ahsar" else model.neuron
    known = {"base", *(neuron_options(base, model.backend) or ())} - {"threshold"}
    options = model.neuron_options() | {name: value for name, value in model.args.items() if name in known}
    return NeuronFactory(model.neuron, model.backend, model.threshold, model.attn_threshold, options, model.time_steps)
