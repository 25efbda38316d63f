"""Classification: cross-entropy on the mean over time, or on every time step (TET); top-1 accuracy."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn

from step_ahsar.config import Config, HeadConfig
from step_ahsar.errors import UserError
from step_ahsar.tasks.base import Backbone, Metrics, Task
from step_ahsar.tasks.eventmix import event_mix


class Classification(Task):
    """One class per input. Models give logits [B, K], or [T, B, K] where the loss looks at every time step."""

    name = "classification"
    metric = "acc1"
    losses = ("ce", "tet")

    def __init__(self, config: Config, classes: Sequence[str]) -> None:
        super().__init__(config, classes)
        if config.head != HeadConfig():
            raise UserError("head does not apply to classification: models have a linear head of their own")
        train = config.train
        self._mixup: Mixup | None = None
        if train.mixup or train.cutmix:
            self._mixup = Mixup(
                mixup_alpha=train.mixup,
                cutmix_alpha=train.cutmix,
                label_smoothing=train.label_smoothing,
                num_classes=len(classes),
            )

    def build(self, backbone: Backbone) -> nn.Module:
        """The backbone's own linear head is the task's."""
        options = {"per_step": True} if self.config.train.loss == "tet" else {}
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
        data = self.config.data
        timed = inputs.ndim == 5 or data.encoder != "direct" or data.sequence.axis == "time"
        samples = inputs.transpose(0, 1) if timed else inputs
        # timm mixes [B, C, H, W]: time steps go with the channels, and a sequence is a row
        flat = samples.reshape(
            len(samples), -1, *((1,) if samples.ndim - timed == 3 else ()), *samples.shape[2 + timed :]
        )
        mixed, targets = self._mixup(flat, targets)
        mixed = mixed.reshape(samples.shape)
        return (mixed.transpose(0, 1) if timed else mixed).contiguous(), targets

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        r"""Cross-entropy with label smoothing; mixed targets are smoothed already.

        "tet" is temporal efficient training (Deng et al., ICLR 2022, arXiv 2202.11946, eq. 9):
        :math:`\frac{1}{T} \sum_t L_{CE}(O(t), y)`, without that paper's regulariser.

        Args:
            model: gives logits [B, K] or [T, B, K].
            inputs: [B, C, *S] or [T, B, C, *S].
            targets: class indices [B] or probabilities [B, K].
        """
        outputs = model(inputs)
        smoothing = 0.0 if targets.is_floating_point() else self.config.train.label_smoothing
        if outputs.ndim == 3:
            steps = len(outputs)
            outputs = outputs.flatten(0, 1)
            targets = targets.repeat(steps, *[1] * (targets.ndim - 1))
        return F.cross_entropy(outputs.float(), targets, label_smoothing=smoothing)

    def metrics(self) -> "Accuracy":
        """Top-1 accuracy."""
        return Accuracy(len(self.classes))

    def show(self, outputs: Tensor, targets: Tensor) -> list[dict[str, Any]]:
        """Truth, prediction and the prediction's probability."""
        confidence, predicted = logits(outputs).softmax(-1).max(-1)
        return [
            {"truth": self.classes[truth], "prediction": self.classes[guess], "confidence": probability}
            for truth, guess, probability in zip(targets.tolist(), predicted.tolist(), confidence.tolist(), strict=True)
        ]


class Accuracy(Metrics):
    """Share of samples whose class has the greatest logit: {"acc1": ...}."""

    def __init__(self, num_classes: int) -> None:
        from torchmetrics.classification import MulticlassAccuracy  # slow to import, and not needed to describe a task

        self._accuracy = MulticlassAccuracy(num_classes, average="micro")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds a batch: logits [B, K] or [T, B, K], class indices [B]."""
        self._accuracy.to(targets.device).update(logits(outputs), targets)

    def compute(self) -> dict[str, float]:
        """``{"acc1": accuracy in [0, 1]}``."""
        # A quotient in fp32: without rounding, 450 of 500 would not reach a target of 0.9.
        return {"acc1": round(self._accuracy.compute().item(), 6)}


def logits(outputs: Tensor) -> Tensor:
    """[B, K] of [B, K] or, averaged over time, of [T, B, K]; fp32."""
    return (outputs.mean(0) if outputs.ndim == 3 else outputs).float()
