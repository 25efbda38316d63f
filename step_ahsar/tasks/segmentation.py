"""Semantic segmentation: a class for every pixel. Runs are judged by the mean intersection over union (mIoU)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from step_ahsar.config import Config, HeadConfig
from step_ahsar.errors import UserError
from step_ahsar.heads.pyramid import each_map
from step_ahsar.heads.segmentation import HEADS, SegmentationHead
from step_ahsar.tasks import losses
from step_ahsar.tasks.base import Backbone, Metrics, Task, head_neurons
from step_ahsar.tasks.drawing import IGNORED, beside, colour, differing, overlay, picture
from step_ahsar.tasks.losses import IGNORE

DEFAULT_HEAD = "fpn"


class Segmentation(Task):
    """Inputs are [B, C, H, W] or [T, B, C, H, W], targets class indices [B, H, W] (255 = ignored).

    Outputs are scores [B, K, H, W]; the predicted class is the one with the highest score.
    """

    name = "segmentation"
    metric = "miou"
    losses = losses.SEGMENTATION

    @classmethod
    def check(cls, config: Config) -> None:
        """Raises UserError for an option that does not apply to the task."""
        super().check(config)
        train, head, default = config.train, config.head, HeadConfig()
        for key in ("mixup", "cutmix", "eventmix"):
            if getattr(train, key):
                raise UserError(f"train.{key} does not apply to segmentation: it mixes classes of whole inputs")
        HEADS.check(head.name or DEFAULT_HEAD)
        for key in ("anchor_scale", "score_threshold"):
            if getattr(head, key) != getattr(default, key):
                raise UserError(f"head.{key} does not apply to segmentation")

    def build(self, backbone: Backbone) -> nn.Module:
        """The backbone with the head; see :class:`Segmenter`."""
        head = self.config.head
        features: Any = backbone(features_only=True, per_step=head.spiking)
        channels, reductions = features.feature_info.channels(), features.feature_info.reduction()
        neuron = head_neurons(self.config) if head.spiking else None
        classes = len(self.classes)
        top = SegmentationHead(head.name or DEFAULT_HEAD, channels, reductions, head.channels, classes, neuron)
        return Segmenter(features, top, stride=max(reductions))

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, Dice, or their sum, over the pixels of the batch that are not ignored; 0 if all are ignored.

        Raises:
            UserError: targets with class indices that the data set does not have.
        """
        check_classes(targets, len(self.classes))
        return self.criterion.function(model(inputs), targets, self.config.train.label_smoothing)

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Scores [B, K, H, W]: logits, or probabilities averaged over scales and mirror images.

        Scaled sizes are rounded to multiples of the backbone's stride; with scale 1 the input is not resized.
        """
        head = self.config.head
        if head.test_scales == (1.0,) and not head.test_flip:
            return model(inputs)
        size, stride = inputs.shape[-2:], cast(int, model.stride)
        views = []
        for scale in head.test_scales:
            x = inputs if scale == 1 else _scaled(inputs, scale, stride)
            for flipped in (False, True) if head.test_flip else (False,):
                scores = model(x.flip(-1)).flip(-1) if flipped else model(x)
                views.append(_bilinear(scores.float(), size).softmax(1))
        return torch.stack(views).mean(0)

    def metrics(self, calibration: bool = False) -> "PixelMetrics":
        """mIoU, pixel accuracy, mean class accuracy, and the IoU of each class."""
        return PixelMetrics(self.classes)

    def show(self, outputs: Tensor, targets: Tensor) -> list[dict[str, Any]]:
        """The classes in truth and prediction, pixel accuracy and mIoU of each sample."""
        shown = []
        for found, target in zip(_class_maps(outputs), targets, strict=True):
            counted = target != IGNORE
            record: dict[str, Any] = {
                "truth": self._names(target[counted]),
                "prediction": self._names(found[counted]),
            }
            if counted.any():
                matrix = self._matrix(found, target)
                right = (matrix.diagonal().sum() / matrix.sum()).item()
                record |= {"pixel_accuracy": right, "miou": _mean_iou(matrix)}
            shown.append(record)
        return shown

    def draw(self, inputs: Tensor, outputs: Tensor, targets: Tensor) -> list[Image.Image]:
        """Input, truth, prediction, and where they differ, side by side. Ignored pixels are hatched.

        A class called "background" is not coloured.
        """
        clear = [i for i, name in enumerate(self.classes) if name.lower() == "background"]
        pictures = []
        for i, (found, target) in enumerate(zip(_class_maps(outputs), targets, strict=True)):
            image = picture(inputs[:, i] if inputs.ndim == 5 else inputs[i])
            present = sorted({*target.unique().tolist(), *found.unique().tolist()} - {*clear, IGNORE})
            legend = {self.classes[index]: colour(index) for index in present}
            if (target == IGNORE).any():
                legend["ignored"] = IGNORED
            maps = [overlay(image, each, ignore=IGNORE, clear=clear) for each in (target, found)]
            wrong = differing(image, (found != target) & (target != IGNORE))
            titles = ("input", "truth", "prediction", "wrong")
            pictures.append(beside(image, *maps, wrong, titles=titles, legend=legend))
        return pictures

    def kept(self, outputs: Tensor) -> Tensor:
        """The class of each pixel, which is smaller than the scores of all classes."""
        return _class_maps(outputs)

    def judge(self, outputs: Tensor, targets: Tensor) -> tuple[list[float], Tensor]:
        """The mIoU of each sample, 1 if all its pixels are ignored; and the classes of all other pixels."""
        found = _class_maps(outputs)
        scores = [_mean_iou(self._matrix(*each)) for each in zip(found, targets, strict=True)]
        counted = targets != IGNORE
        return scores, targets[counted] * len(self.classes) + found[counted]

    def _matrix(self, found: Tensor, target: Tensor) -> Tensor:
        """The confusion matrix of one sample, fp64 [K, K]: rows are truth, columns prediction."""
        number, counted = len(self.classes), target != IGNORE
        pairs = target[counted] * number + found[counted]
        return pairs.bincount(minlength=number**2).view(number, number).double()

    def _names(self, indices: Tensor) -> str:
        return ", ".join(self.classes[index] for index in indices.unique().tolist())


class Segmenter(nn.Module):
    """A backbone and a head, whose logits are interpolated to the size of the input (bilinear).

    From ``[B, C, H, W]`` or ``[T, B, C, H, W]`` to logits ``[B, K, H, W]``.

    Args:
        backbone: returns its levels, averaged over time unless the head is spiking.
        head: returns logits at its own stride.
        stride: H and W must be multiples of it.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, stride: int) -> None:
        super().__init__()
        self.backbone, self.head, self.stride = backbone, head, stride

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K, H, W]."""
        return _bilinear(self.head(self.backbone(x)), x.shape[-2:])


class PixelMetrics(Metrics):
    """Metrics from one confusion matrix over all pixels of the data set that are not ignored, as in benchmark tables.

    The IoU of a class is the number of pixels that have it in truth and prediction, divided by the number of pixels
    that have it in either. A class that occurs in neither is left out, also of the mean. A class that is not in the
    truth is left out of the mean class accuracy.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        from torchmetrics.classification import MulticlassConfusionMatrix  # slow to import

        self.classes = tuple(classes)
        self._matrix = MulticlassConfusionMatrix(
            len(classes), ignore_index=IGNORE, validate_args=False, sync_on_compute=False
        )

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Adds scores [B, K, H, W] and class indices [B, H, W].

        Raises:
            UserError: class indices that the data set does not have.
        """
        check_classes(targets, len(self.classes))
        self._matrix.to(targets.device).update(outputs.argmax(1), targets)

    def merge(self, other: "PixelMetrics") -> None:
        """Adds the batches of another one."""
        self._matrix.merge_state(other._matrix)

    def compute(self) -> dict[str, float]:
        """``miou``, ``pixel_accuracy``, ``class_accuracy`` and ``iou_<class>``, each in [0, 1].

        Raises:
            UserError: every pixel is ignored.
        """
        matrix = self._matrix.compute().cpu().double()  # rows: truth, columns: prediction
        hits, truth, iou = matrix.diagonal(), matrix.sum(1), _iou(matrix)
        if not truth.sum():
            raise UserError(f"the metrics are undefined: all pixels are ignored ({IGNORE})")
        return {
            "miou": _mean_iou(matrix),
            "pixel_accuracy": (hits.sum() / truth.sum()).item(),
            "class_accuracy": (hits / truth)[truth > 0].mean().item(),
            **{f"iou_{name}": iou[i].item() for i, name in enumerate(self.classes) if not iou[i].isnan()},
        }


def _class_maps(outputs: Tensor) -> Tensor:
    """The classes [B, H, W] of scores [B, K, H, W]; classes are left as they are."""
    return outputs.argmax(1) if outputs.ndim == 4 else outputs


def _iou(matrix: Tensor) -> Tensor:
    """Of each class of a confusion matrix, fp64 [K, K]; nan of one that is neither in truth nor in prediction."""
    hits = matrix.diagonal()
    return hits / (matrix.sum(0) + matrix.sum(1) - hits)


def _mean_iou(matrix: Tensor) -> float:
    """The mean over the classes that there are; 1 if there are none."""
    iou = _iou(matrix)
    present = iou[~iou.isnan()]
    return present.mean().item() if len(present) else 1.0


def check_classes(targets: Tensor, classes: int) -> None:
    """Raises UserError for class indices that are neither below ``classes`` nor 255."""
    wrong = targets[((targets < 0) | (targets >= classes)) & (targets != IGNORE)]
    if len(wrong):
        ids = ", ".join(map(str, wrong.unique().tolist()))
        raise UserError(
            f"masks have class ids {ids}, but the data set has {classes} classes: 0 to {classes - 1}, or {IGNORE} for "
            "pixels to be ignored"
        )


def _scaled(x: Tensor, scale: float, stride: int) -> Tensor:
    size = [max(1, round(pixels * scale / stride)) * stride for pixels in x.shape[-2:]]
    return each_map(lambda maps: _bilinear(maps, size), x)


def _bilinear(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
