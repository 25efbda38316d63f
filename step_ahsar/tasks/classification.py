"""Classification: cross-entropy on the mean over time, or on every time step (TET); top-1 accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from step_ahsar.config import Config, HeadConfig
from step_ahsar.errors import UserError
from step_ahsar.tasks import losses
from step_ahsar.tasks.base import Backbone, Metrics, Task
from step_ahsar.tasks.drawing import curves, enlarged, frames, picture
from step_ahsar.tasks.eventmix import event_mix

if TYPE_CHECKING:
    from PIL import Image
    from timm.data import Mixup
    from torchmetrics import Metric


class Classification(Task):
    """One class per input. The model's output is logits [B, K], or [T, B, K] for a loss on every time step."""

    name = "classification"
    metric = "acc1"
    losses = losses.CLASSIFICATION

    def __init__(self, config: Config, classes: Sequence[str]) -> None:
        super().__init__(config, classes)
        train = config.train
        self._mixup: Mixup | None = None
        if train.mixup or train.cutmix:
            from timm.data import Mixup  # slow to import

            self._mixup = Mixup(
                mixup_alpha=train.mixup,
                cutmix_alpha=train.cutmix,
                label_smoothing=train.label_smoothing,
                num_classes=len(classes),
            )

    @classmethod
    def check(cls, config: Config) -> None:
        """Raises UserError for an option that does not apply to the task."""
        super().check(config)
        if config.head != HeadConfig():
            raise UserError("head does not apply to classification: models have a linear head of their own")

    @property
    def mixes(self) -> bool:
        """Whether samples are mixed in some epoch."""
        return self._mixup is not None or bool(self.config.train.eventmix)

    def build(self, backbone: Backbone) -> nn.Module:
        """The backbone with its own linear head."""
        options = {"per_step": True} if self.criterion.per_step else {}
        return backbone(num_classes=len(self.classes), **options)

    def mix(self, inputs: Tensor, targets: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Mixup and CutMix, or EventMix, until ``mixup_off_epoch``.

        Args:
            inputs: [B, C, *S] or [T, B, C, *S], B even.
            targets: class indices, [B].
            epoch: counted from 1.

        Returns:
            Mixed inputs, and targets: probabilities [B, K] when mixed, else unchanged.
        """
        train = self.config.train
        if train.mixup_off_epoch and epoch > train.mixup_off_epoch:
            return inputs, targets
        if train.eventmix and torch.rand(()) < train.eventmix:
            wrong = train.label_smoothing / len(self.classes)
            soft = F.one_hot(targets, len(self.classes)) * (1 - train.label_smoothing) + wrong
            return event_mix(inputs, soft, len(self.classes))
        if self._mixup is None:
            return inputs, targets
        timed = self.batch_axis(inputs) == 1
        # timm mixes [B, C, H, W]. So time steps are joined with the channels, and a sequence is an image of one row.
        before, within = ("t b c", "(t c)") if timed else ("b c", "c")
        space, within_space = ("h w", "h w") if inputs.ndim - timed == 4 else ("l", "1 l")
        steps = {"t": len(inputs)} if timed else {}
        flat = rearrange(inputs, f"{before} {space} -> b {within} {within_space}")
        mixed, targets = self._mixup(flat.contiguous(), targets)
        return rearrange(mixed, f"b {within} {within_space} -> {before} {space}", **steps).contiguous(), targets

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy with label smoothing, on the mean over time or (``tet``) on every time step.

        Args:
            model: returns logits [B, K] or [T, B, K].
            inputs: [B, C, *S] or [T, B, C, *S].
            targets: class indices [B] or, if they were mixed, probabilities [B, K].
        """
        train, outputs = self.config.train, model(inputs)
        loss = self.criterion.function(outputs, targets, train.label_smoothing)
        return losses.regularised(loss, outputs, train.tet_lambda) if train.tet_lambda else loss

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Logits [B, K], mean over time."""
        return logits(model(inputs))

    def metrics(self, calibration: bool = False) -> Accuracy:
        """Top-1 accuracy, and the expected calibration error if it is asked for."""
        return Accuracy(len(self.classes), calibration)

    def show(self, outputs: Tensor, targets: Tensor) -> list[dict[str, Any]]:
        """Truth, prediction and the prediction's probability."""
        scores = logits(outputs)
        predicted = scores.argmax(-1)  # of the logits: after a softmax those that nearly agree may be equal
        confidence = scores.softmax(-1).gather(1, predicted[:, None]).flatten()
        return [
            {"truth": self.classes[truth], "prediction": self.classes[guess], "confidence": probability}
            for truth, guess, probability in zip(targets.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
        ]

    def judge(self, outputs: Tensor, targets: Tensor) -> tuple[list[float], Tensor]:
        """The probability of each sample's true class, and its classes in truth and prediction."""
        scores = logits(outputs)
        probability = scores.softmax(-1).gather(1, targets[:, None]).flatten()
        return probability.tolist(), targets * len(self.classes) + scores.argmax(-1)

    def draw(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> list[Image.Image]:
        """The image, up to eight frames through time, or the curves of a series."""
        timed = self.batch_axis(inputs) == 1
        samples = inputs.transpose(0, 1) if timed else inputs
        if inputs.ndim - timed == 4:
            return [frames(x) if timed else enlarged(picture(x)) for x in samples]
        if not timed:
            return [curves(x) for x in samples]
        if self.config.data.sequence.axis == "time":  # [T, 1, N']: from left to right what each step is given
            return [curves(x[:, 0].T) for x in samples]
        return [curves(x.mean(0)) for x in samples]


class Accuracy(Metrics):
    """Share of samples whose class has the greatest logit: {"acc1": ...}.

    With ``calibration`` also "ece": how far confidence is from accuracy, mean over samples in 15 bins of confidence
    (Guo et al. 2017, arXiv 1706.04599, eq. 3).
    """

    def __init__(self, num_classes: int, calibration: bool = False) -> None:
        from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError  # slow to import

        self._metrics: dict[str, Metric] = {
            "acc1": MulticlassAccuracy(num_classes, average="micro", sync_on_compute=False)
        }
        if calibration:
            self._metrics["ece"] = MulticlassCalibrationError(num_classes, n_bins=15, norm="l1", sync_on_compute=False)

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: logits [B, K] or [T, B, K], class indices [B]."""
        for metric in self._metrics.values():
            metric.to(targets.device).update(logits(outputs), targets)

    def merge(self, other: Accuracy) -> None:
        """Adds the batches of another one."""
        for name, metric in self._metrics.items():
            metric.merge_state(other._metrics[name])

    def compute(self) -> dict[str, float]:
        """``{"acc1": accuracy in [0, 1]}``."""
        # The quotient is computed in fp32: without rounding, 450 of 500 would be less than a target of 0.9.
        return {name: round(metric.compute().item(), 6) for name, metric in self._metrics.items()}


def logits(outputs: Tensor) -> Tensor:
    """Logits [B, K] in fp32 or fp64: [T, B, K] is averaged over time."""
    return losses.precise(outputs.mean(0) if outputs.ndim == 3 else outputs)
