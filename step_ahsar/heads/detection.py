"""Torchvision's detectors on the features of a spiking backbone. torchvision, slow to import, is imported on first use.

T time steps, B batch, C channels, H, W pixels, n objects.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import log2
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.heads.pyramid import Pyramid
from step_ahsar.layers import Blueprint
from step_ahsar.registry import Registry

if TYPE_CHECKING:
    from torchvision.models.detection.image_list import ImageList
    from torchvision.ops import MultiScaleRoIAlign

    from step_ahsar.heads.anchors import Anchors

STRIDES = (4, 8, 16, 32)  # strides of the maps, on every backbone, as in FPN and ViTDet
DETECTIONS = 100  # most detections per image, as in COCO's evaluation
_RATIOS = (0.5, 1.0, 2.0)  # height divided by width of the anchors
_GROUPS = 32  # groups of the group norms in the towers of FCOS and RetinaNet


@dataclass(frozen=True)
class DetectorKind:
    """An entry of :data:`HEADS`.

    Args:
        build: creates the detector, from a backbone, the number of classes, and anchor_scale and score_threshold of
            :class:`Detector`.
        anchors: whether it has anchors.
        masks: whether it predicts masks as well as boxes.
        background: whether its class 0 is the background.
        group_norms: whether it has group norms, which need ``head.channels`` to be a multiple of 32.
    """

    build: Callable[[Any, int, float, float], nn.Module]
    anchors: bool = True
    masks: bool = False
    background: bool = False
    group_norms: bool = False


HEADS = Registry[DetectorKind]("detection head")


class Detector(nn.Module):
    """A backbone, a feature pyramid and one of torchvision's detectors.

    Images are not normalised, resized or padded. The pyramid's maps have the strides 4, 8, 16 and 32 on every backbone.
    With a ``blueprint`` the pyramid is spiking, on levels that keep their time axis. Its firing rates are normalised,
    because few neurons fire at first and the initial weights of torchvision's layers are small. The layers behind it
    (towers, proposals, RoI heads) are torchvision's and are not spiking.

    Torchvision's defaults are made for photographs of 800 pixels. Here the RoI heads have ``channels`` channels (for
    boxes four times as many), are trained on 128 proposals per image and evaluated on 300 (Ren et al., arXiv
    1506.01497); RetinaNet's towers have group norms, as its second version in torchvision; anchors are not rounded.

    Args:
        name: one of :data:`HEADS`.
        backbone: a module that returns a list of levels [B, C, H, W], or [T, B, C, H, W] with a ``blueprint``, and has
            timm's ``feature_info``.
        num_classes: K, without the background.
        channels: channels of the pyramid and of the heads; for FCOS and RetinaNet a multiple of 32.
        anchor_scale: side of the smallest anchor of a map, divided by the map's stride; FCOS has no anchors.
        score_threshold: detections with lower scores are dropped.
        blueprint: makes the pyramid's neurons, in group "head"; None = a pyramid that is not spiking.

    Raises:
        UserError: an unknown name, channels that group norms cannot divide, or a backbone without such strides.
    """

    def __init__(
        self,
        name: str,
        backbone: Any,
        num_classes: int,
        *,
        channels: int = 64,
        anchor_scale: float = 4.0,
        score_threshold: float = 0.05,
        blueprint: Blueprint | None = None,
    ) -> None:
        super().__init__()
        kind = HEADS[name]
        if kind.group_norms and channels % _GROUPS:
            raise UserError(f"head.channels of {name} must be a multiple of {_GROUPS}, got {channels}")
        info = backbone.feature_info
        self.stride = max(info.reduction())  # sizes of images must be multiples of it
        self.body = backbone
        self.pyramid = Pyramid(info.channels(), info.reduction(), channels, STRIDES, blueprint)
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for _ in STRIDES) if blueprint else None
        self.has_masks, self.has_background = kind.masks, kind.background
        self.net = kind.build(_Backbone(channels), num_classes, anchor_scale, score_threshold)
        self.net.transform = _Transform()

    def forward(
        self, inputs: Tensor, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training, detections in eval mode.

        Args:
            inputs: [B, C, H, W] or [T, B, C, H, W].
            targets: for each image "boxes" (x0, y0, x1, y1 in pixels, [n, 4]), "labels" ([n], from 0), "crowd" (bool
                [n]) and, for Mask R-CNN, "masks" (bool [n, H, W]). n may be 0. Crowds and boxes without area are left
                out of the loss. Ignored in eval mode.

        Returns:
            In training the losses by name, 0-d. In eval mode for each image "boxes" [n, 4], "scores" [n], descending,
            "labels" [n] from 0 and, for Mask R-CNN, "masks", probabilities within the boxes [n, 1, 28, 28]; n <= 100.

        Raises:
            UserError: Mask R-CNN is trained and the targets have no masks.
        """
        maps = self.pyramid(self.body(inputs))
        if self.norms is not None:
            maps = [norm(spikes.mean(0)) for norm, spikes in zip(self.norms, maps, strict=True)]
        # In fp32 also under mixed precision: bf16 would round coordinates above 256 to even pixels.
        with torch.autocast(inputs.device.type, enabled=False):
            images = _Images(inputs, maps)
            if self.training:
                assert targets is not None, "a detector in training mode needs targets"
                return self.net(images, [self._learnt(target) for target in targets])
            detections = self.net(images)
        if self.has_background:
            detections = [{**found, "labels": found["labels"] - 1} for found in detections]
        return detections

    def _learnt(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """The objects that the loss is computed from, in torchvision's format."""
        keep = ~target["crowd"] & ~without_area(target["boxes"])
        learnt = {"boxes": target["boxes"][keep], "labels": target["labels"][keep] + int(self.has_background)}
        if self.has_masks:
            check_masks(target)
            learnt["masks"] = target["masks"][keep]
        return learnt


def without_area(boxes: Tensor) -> Tensor:
    """Which of the boxes, [n, 4], have no width or no height; bool [n]."""
    return (boxes[:, 2:] <= boxes[:, :2]).any(1)


def check_masks(target: dict[str, Tensor]) -> None:
    """Raises UserError if ``target`` has no masks."""
    if "masks" not in target:
        raise UserError(
            "this detector needs a mask of each object for training, and the data set has only boxes; take a detector "
            "without masks, such as faster_rcnn"
        )


class _Images(list[Tensor]):
    """The images of a batch, each [C, H, W] or [T, C, H, W], together with their maps.

    Torchvision's detectors pass their images to the transform and then to the backbone, which here need the maps only.
    """

    def __init__(self, inputs: Tensor, maps: Sequence[Tensor]) -> None:
        super().__init__(inputs.unbind(-4))
        self.maps = OrderedDict((str(i), x.float()) for i, x in enumerate(maps))


class _Transform(nn.Module):
    """Replaces torchvision's transform, which would normalise, resize and pad."""

    def forward(self, images: _Images, targets: Any) -> "tuple[ImageList, Any]":
        """The maps and the images' sizes."""
        from torchvision.models.detection.image_list import ImageList

        return ImageList(images.maps, [(x.shape[-2], x.shape[-1]) for x in images]), targets

    def postprocess(self, result: list[dict[str, Tensor]], sizes: Any, original: Any) -> list[dict[str, Tensor]]:
        """Returns the result unchanged: boxes are in pixels of the image. Masks are not enlarged, to save memory."""
        return result


class _Backbone(nn.Module):
    """The backbone of torchvision's detector: it returns the maps, which exist already."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, maps: "OrderedDict[str, Tensor]") -> "OrderedDict[str, Tensor]":
        return maps


def _anchors(sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> "Anchors":
    from step_ahsar.heads.anchors import Anchors

    return Anchors(STRIDES, sizes, ratios)


def _fcos(maps: nn.Module, num_classes: int, anchor_scale: float, score_threshold: float) -> nn.Module:
    from torchvision.models.detection import FCOS

    points = _anchors([[stride] for stride in STRIDES], [1.0])  # FCOS's unit of length is the stride
    return FCOS(maps, num_classes, anchor_generator=points, score_thresh=score_threshold, detections_per_img=DETECTIONS)


def _retinanet(maps: Any, num_classes: int, anchor_scale: float, score_threshold: float) -> nn.Module:
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.retinanet import RetinaNetHead

    sizes = [[anchor_scale * stride * 2 ** (i / 3) for i in range(3)] for stride in STRIDES]
    anchors = _anchors(sizes, _RATIOS)
    head = RetinaNetHead(
        maps.out_channels,
        anchors.num_anchors_per_location()[0],
        num_classes,
        norm_layer=partial(nn.GroupNorm, _GROUPS),
    )
    return RetinaNet(
        maps,
        num_classes,
        anchor_generator=anchors,
        head=head,
        score_thresh=score_threshold,
        detections_per_img=DETECTIONS,
    )


def _two_stages(maps: Any, num_classes: int, anchor_scale: float, score_threshold: float) -> dict[str, Any]:
    """The arguments that Faster and Mask R-CNN have in common. Class 0 is the background."""
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead

    channels = maps.out_channels
    return {
        "backbone": maps,
        "rpn_anchor_generator": _anchors([[anchor_scale * stride] for stride in STRIDES], _RATIOS),
        "rpn_post_nms_top_n_test": 300,
        "box_roi_pool": _roi_align(7),
        "box_head": TwoMLPHead(channels * 7 * 7, 4 * channels),
        "box_predictor": FastRCNNPredictor(4 * channels, num_classes + 1),
        "box_batch_size_per_image": 128,
        "box_score_thresh": score_threshold,
        "box_detections_per_img": DETECTIONS,
    }


def _faster_rcnn(maps: Any, num_classes: int, anchor_scale: float, score_threshold: float) -> nn.Module:
    from torchvision.models.detection import FasterRCNN

    return FasterRCNN(**_two_stages(maps, num_classes, anchor_scale, score_threshold))


def _mask_rcnn(maps: Any, num_classes: int, anchor_scale: float, score_threshold: float) -> nn.Module:
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

    channels = maps.out_channels
    return MaskRCNN(
        **_two_stages(maps, num_classes, anchor_scale, score_threshold),
        mask_roi_pool=_roi_align(14),
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, num_classes + 1),
    )


def _roi_align(size: int) -> "MultiScaleRoIAlign":
    """RoIAlign of ``size`` x ``size`` cells at the strides of the maps.

    Torchvision estimates the strides from the first batch, which is wrong if sizes were rounded up.
    """
    from torchvision.ops import MultiScaleRoIAlign
    from torchvision.ops.poolers import initLevelMapper

    pool = MultiScaleRoIAlign([str(i) for i in range(len(STRIDES))], size, sampling_ratio=2)
    pool.scales = [1 / stride for stride in STRIDES]
    pool.map_levels = initLevelMapper(round(log2(STRIDES[0])), round(log2(STRIDES[-1])))
    return pool


HEADS.add("fcos", DetectorKind(_fcos, anchors=False, group_norms=True))  # arXiv 1904.01355
HEADS.add("retinanet", DetectorKind(_retinanet, group_norms=True))  # arXiv 1708.02002
HEADS.add("faster_rcnn", DetectorKind(_faster_rcnn, background=True))  # arXiv 1506.01497
HEADS.add("mask_rcnn", DetectorKind(_mask_rcnn, masks=True, background=True))  # arXiv 1703.06870
