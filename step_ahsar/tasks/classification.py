"""Classification: cross-entropy on the mean over time, or on every time step (TET); top-1 accuracy."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn

from step_ahsar.config import TrainConfig
from step_ahsar.tasks.base import Backbone, Metrics, Task


class Classification(Task):
    """Images to classes. Models give logits [B, K], or [T, B, K] where the loss looks at every time step."""

    name = "classification"
    metric = "acc1"

    def __init__(self, config: TrainConfig, classes: Sequence[str]) -> None:
        super().__init__(config, classes)
        self._mixup: Mixup | None = None
        if config.mixup or config.cutmix:
            self._mixup = Mixup(
                mixup_alpha=config.mixup,
                cutmix_alpha=config.cutmix,
                label_smoothing=config.label_smoothing,
                num_classes=len(classes),
            )

    def build(self, backbone: Backbone) -> nn.Module:
        """The backbone's own linear head is the task's."""
        options = {"per_step": True} if self.config.loss == "tet" else {}
        return backbone(num_classes=len(self.classes), **options)

    def mix(self, inputs: Tensor, targets: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Mixup and CutMix until ``mixup_off_epoch``.

        Args:
            inputs: [B, C, H, W], B even.
            targets: class indices, [B].
            epoch: counted from 1.

        Returns:
            Mixed inputs, and targets: probabilities [B, K] when mixed, else unchanged.
        """
        over = self.config.mixup_off_epoch and epoch > self.config.mixup_off_epoch
        if self._mixup is None or over:
            return inputs, targets
        return self._mixup(inputs, targets)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        r"""Cross-entropy with label smoothing; mixed targets are smoothed already.

        "tet" is temporal efficient training (Deng et al., ICLR 2022, arXiv 2202.11946, eq. 9):
        :math:`\frac{1}{T} \sum_t L_{CE}(O(t), y)`, without that paper's regulariser.

        Args:
            outputs: logits [B, K] or [T, B, K].
            targets: class indices [B] or probabilities [B, K].
        """
        smoothing = 0.0 if targets.is_floating_point() else self.config.label_smoothing
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
