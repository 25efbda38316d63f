"""Training losses, by task and name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from step_ahsar.registry import Registry

IGNORE = 255  # class index of pixels that are ignored


@dataclass(frozen=True)
class Loss:
    """An entry of one of the registries.

    Args:
        function: gives the loss, 0-d, from outputs, targets and label smoothing.
        per_step: whether it needs outputs for each time step.
        smooths: whether label smoothing has an effect.
    """

    function: Callable[[Any, Any, float], Tensor]
    per_step: bool = False
    smooths: bool = True


CLASSIFICATION = Registry[Loss]("loss of classification")
SEGMENTATION = Registry[Loss]("loss of segmentation")
DETECTION = Registry[Loss]("loss of detection")


def precise(outputs: Tensor) -> Tensor:
    """In fp32, or in fp64 if they are in that."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of logits [B, K] and class indices [B], or probabilities [B, K] that were smoothed before."""
    outputs = precise(outputs)
    return F.cross_entropy(outputs, targets, label_smoothing=0.0 if targets.is_floating_point() else smoothing)


def temporal_cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    r"""Temporal efficient training (Deng et al., ICLR 2022, arXiv 2202.11946, eq. 9).

    :math:`\frac{1}{T} \sum_t L_{CE}(O(t), y)` of logits O, [T, B, K]. Its regulariser is in :func:`regularised`.
    """
    each = repeat(targets, "b ... -> (t b) ...", t=len(outputs))
    return cross_entropy(rearrange(outputs, "t b ... -> (t b) ..."), each, smoothing)


def regularised(loss: Tensor, outputs: Tensor, weight: float) -> Tensor:
    r"""The whole loss of temporal efficient training (the same paper).

    :math:`(1 - \lambda) L + \lambda \frac{1}{T} \sum_t MSE(O(t), \phi)` with :math:`\phi = 1`, as in the authors' code.

    Args:
        loss: L, of :func:`temporal_cross_entropy`.
        outputs: the logits O, [T, B, K].
        weight: :math:`\lambda`.
    """
    return (1 - weight) * loss + weight * (precise(outputs) - 1).square().mean()


def pixel_cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of logits [B, K, H, W] and classes [B, H, W], averaged over the pixels that are not ignored.

    It is 0 if all pixels are ignored.
    """
    outputs = precise(outputs)
    total = F.cross_entropy(outputs, targets, ignore_index=IGNORE, reduction="sum", label_smoothing=smoothing)
    return total / (targets != IGNORE).sum().clamp(min=1)


def dice(outputs: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    r"""Soft Dice (Milletari et al. 2016, arXiv 1606.04797, section 3), averaged over the classes in the targets.

    .. math::
        1 - \frac{2 \sum_i p_i g_i}{\sum_i p_i^2 + \sum_i g_i^2}

    over all pixels i of the batch that are not ignored. It is 0 if all are ignored.

    Args:
        outputs: logits [B, K, H, W].
        targets: class indices [B, H, W], 255 = ignored.
        smoothing: without effect.
    """
    outputs = precise(outputs)
    classes = outputs.shape[1]
    counted = targets != IGNORE
    truth = F.one_hot(targets[counted], classes).T.to(outputs.dtype)  # [K, pixels]
    probability = outputs.softmax(1).transpose(0, 1)[:, counted]
    pixels = truth.sum(1)
    overlap = 2 * (probability * truth).sum(1) / (probability.square().sum(1) + pixels).clamp(min=1e-12)
    return ((1 - overlap) * (pixels > 0)).sum() / (pixels > 0).sum().clamp(min=1)


def cross_entropy_and_dice(outputs: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """The sum of :func:`pixel_cross_entropy` and :func:`dice`."""
    return pixel_cross_entropy(outputs, targets, smoothing) + dice(outputs, targets)


def detectors_own(outputs: dict[str, Tensor], targets: Any, smoothing: float) -> Tensor:
    """The sum of the losses that a detector returns."""
    return torch.stack(list(outputs.values())).sum()


CLASSIFICATION.add("ce", Loss(cross_entropy))
CLASSIFICATION.add("tet", Loss(temporal_cross_entropy, per_step=True))
SEGMENTATION.add("ce", Loss(pixel_cross_entropy))
SEGMENTATION.add("dice", Loss(dice, smooths=False))
SEGMENTATION.add("ce+dice", Loss(cross_entropy_and_dice))
DETECTION.add("ce", Loss(detectors_own, smooths=False))
