"""Object detection, and instance segmentation with Mask R-CNN: torchvision's losses, COCO's mean average precision."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from step_ahsar.config import Config, HeadConfig
from step_ahsar.errors import UserError
from step_ahsar.heads.detection import DETECTIONS, HEADS, Detector, DetectorKind, check_masks, without_area
from step_ahsar.heads.pyramid import resize
from step_ahsar.tasks import losses
from step_ahsar.tasks.base import Backbone, Metrics, Task, head_neurons
from step_ahsar.tasks.drawing import beside, colour, enlarged, picture

_SEEN = 0.3  # lowest score of the detections that are shown
_SAME_IOU = 0.5  # of overlapping boxes, whatever their classes, only the best is shown
_MERGE_IOU = 0.5  # boxes of one class, from two views, that overlap so much are one detection
_HEIGHT = 256  # height of a drawn picture, in pixels

Found = dict[str, Tensor]


class Detection(Task):
    """Boxes, classes and scores of the objects in an image; with Mask R-CNN their masks too.

    Targets are a list with, for each image, "boxes" (x0, y0, x1, y1 in pixels of the input, [n, 4]), "labels" ([n]),
    "area" ([n]), "crowd" (bool [n]) and, if the data have them, "masks" (bool [n, H, W]). n may be 0.

    Crowds are left out of the loss; in evaluation a detection inside a crowd is ignored. Boxes without width or height
    are also left out of the loss and ignored in evaluation. (COCO's own tools count each of those as an object that was
    missed.)
    """

    name = "detection"
    metric = "map"
    losses = losses.DETECTION

    def __init__(self, config: Config, classes: Sequence[str]) -> None:
        super().__init__(config, classes)
        self.head, self.kind = _head(config)

    @classmethod
    def check(cls, config: Config) -> None:
        """Raises UserError for an option that does not apply to the task."""
        super().check(config)
        name, kind = _head(config)
        for option in ("mixup", "cutmix", "eventmix"):
            if getattr(config.train, option):
                raise UserError(f"train.{option} does not apply to detection; leave it at 0")
        if not kind.anchors and config.head.anchor_scale != HeadConfig().anchor_scale:
            raise UserError(f"head.anchor_scale does not apply to {name}, which has no anchors")

    def build(self, backbone: Backbone) -> nn.Module:
        """The backbone with a feature pyramid and the head."""
        head = self.config.head
        return Detector(
            self.head,
            backbone(features_only=True, per_step=head.spiking),
            len(self.classes),
            channels=head.channels,
            anchor_scale=head.anchor_scale,
            score_threshold=head.score_threshold,
            blueprint=head_neurons(self.config) if head.spiking else None,
        )

    def loss(self, model: nn.Module, inputs: Tensor, targets: Sequence[Found]) -> Tensor:
        """The sum of the detector's losses.

        Raises:
            UserError: Mask R-CNN, and targets without masks.
        """
        return self.criterion.function(model(inputs, targets), targets, 0.0)

    def predict(self, model: nn.Module, inputs: Tensor) -> list[Found]:
        """The objects in each image, detected at each of `head.test_scales`, and mirrored with `head.test_flip`.

        The sizes are rounded to multiples of the model's stride. Detections of several views are merged by non-maximum
        suppression within each class.

        Returns:
            For each image "boxes" in pixels of the input [n, 4], "scores" [n], descending, "labels" [n] and, for Mask
            R-CNN, "masks", bool [n, H, W].
        """
        views = [_in_view(model, inputs, size, flip) for size, flip in self._views(model, inputs.shape[-2:])]
        return views[0] if len(views) == 1 else [_merge(found) for found in zip(*views, strict=True)]

    def _views(self, model: Any, size: Sequence[int]) -> Iterator[tuple[tuple[int, ...], bool]]:
        for scale in self.config.head.test_scales:
            scaled = tuple(size)
            if scale != 1:
                scaled = tuple(max(1, round(n * scale / model.stride)) * model.stride for n in size)
            yield scaled, False
            if self.config.head.test_flip:
                yield scaled, True

    def metrics(self, calibration: bool = False) -> "AveragePrecision":
        """COCO's average precision."""
        return AveragePrecision(self.classes, masks=self.kind.masks)

    def show(self, outputs: Sequence[Found], targets: Sequence[Found]) -> list[dict[str, Any]]:
        """For each sample the objects in the truth, those that :meth:`draw` shows, and the five best detections."""
        keys = ("labels", "scores", "boxes")
        return [
            {
                "truth": self._count(target["labels"]),
                "prediction": self._count(_shown(found)["labels"]),
                "best": [
                    {"class": self.classes[label], "score": round(score, 4), "box": [round(x, 1) for x in box]}
                    for label, score, box in zip(*(found[key][:5].tolist() for key in keys), strict=True)
                ],
            }
            for found, target in zip(outputs, targets, strict=True)
        ]

    def judge(self, outputs: Sequence[Found], targets: Sequence[Found]) -> tuple[list[float], None]:
        """For each image the F1 of the detections that :meth:`draw` shows; 1 if there are no objects and none is found.

        A detection is right if it overlaps an object of its class, which no better one has, by an IoU of 0.5 or more.
        Crowds, and detections in them, do not count.
        """
        return [_f1(_shown(found), target) for found, target in zip(outputs, targets, strict=True)], None

    def _count(self, labels: Tensor) -> str:
        """Such as "3: 2 x car, 1 x dog"."""
        counts = Counter(labels.tolist()).most_common()
        kinds = ", ".join(f"{n} x {self.classes[label]}" for label, n in counts)
        return f"{len(labels)}: {kinds}" if counts else "0"

    def draw(self, inputs: Tensor, outputs: Sequence[Found], targets: Sequence[Found]) -> list[Image.Image]:
        """Input, truth, detections, and detections over the truth, side by side, with masks if the head finds masks.

        Detections with a score of 0.3 or more are shown; of those that overlap by more than half, only the best.
        """
        pictures = []
        samples = rearrange(inputs, "t b ... -> b t ...") if inputs.ndim == 5 else inputs
        for x, found, target in zip(samples, outputs, targets, strict=True):
            image = picture(x)
            names = [self.classes[label] for label in target["labels"].tolist()]
            crowd = target["crowd"].tolist()
            truth = [f"{name} (crowd)" if many else name for name, many in zip(names, crowd, strict=True)]
            seen = _shown(found)
            scored = zip(seen["labels"].tolist(), seen["scores"].tolist(), strict=True)
            guesses = [f"{self.classes[label]} {score:.2f}" for label, score in scored]
            if "masks" not in seen:
                target = {key: value for key, value in target.items() if key != "masks"}
            large = enlarged(image, _HEIGHT)
            scale = large.height / image.height
            true, guessed = _mark(large, scale, target, truth), _mark(large, scale, seen, guesses)
            both = _outline(true, scale, seen)
            titles = ("input", "truth", "prediction", "prediction (white) over truth")
            pictures.append(beside(image, true, guessed, both, scale_to=_HEIGHT, titles=titles))
        return pictures


class AveragePrecision(Metrics):
    """COCO's mean average precision, by torchmetrics with faster-coco-eval.

    At most 100 detections per image count. Keys: ``map`` over IoU 0.5 to 0.95, ``map_50``, ``map_75``; ``map_small``,
    ``map_medium``, ``map_large`` of objects up to 32 x 32 pixels, up to 96 x 96 and larger, by the targets' "area";
    ``ap_<class>``; with masks ``mask_map``, by the IoU of masks. A metric without any object is left out.

    Args:
        classes: names, by class index.
        masks: whether masks are measured as well.
    """

    def __init__(self, classes: Sequence[str], masks: bool = False) -> None:
        from torchmetrics.detection import MeanAveragePrecision  # slow to import

        self.classes, self._masks, self._objects = tuple(classes), masks, 0
        # The extended summary contains the precision of each class; class_metrics=True would match every class again.
        # The thresholds are those of COCO's tools. torchmetrics rounds its own to fp32, which shifts recalls by a
        # point.
        self._precision = MeanAveragePrecision(
            iou_type=("bbox", "segm") if masks else "bbox",
            iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
            rec_thresholds=np.linspace(0, 1, 101).tolist(),
            extended_summary=True,
            backend="faster_coco_eval",
            sync_on_compute=False,
        )

    def update(self, outputs: Sequence[Found], targets: Sequence[Found]) -> None:
        """Adds a batch: outputs of :meth:`Detection.predict`, and targets as in :class:`Detection`.

        Raises:
            UserError: masks are measured and the targets have none.
        """
        truths = []
        for target in targets:
            ignored = target["crowd"] | without_area(target["boxes"])
            self._objects += int((~ignored).sum())
            truth = {"boxes": target["boxes"], "labels": target["labels"], "area": target["area"], "iscrowd": ignored}
            if self._masks:
                check_masks(target)
                truth["masks"] = target["masks"]
            truths.append(_on_cpu(truth))
        self._precision.update([_on_cpu(found) for found in outputs], truths)

    def merge(self, other: "AveragePrecision") -> None:
        """Adds the images of another one."""
        self._objects += other._objects
        theirs: dict[str, Any] = other._precision.metric_state
        for name, of_images in self._precision.metric_state.items():
            of_images += theirs[name]

    def compute(self) -> dict[str, float]:
        """The metrics, in [0, 1].

        Raises:
            UserError: there was no object at all.
        """
        if not self._objects:
            raise UserError("the metrics are undefined: there is no object in any image, or only crowds")
        found = self._precision.compute()
        boxes = "bbox_" if self._masks else ""
        names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
        values = {name: found[boxes + name].item() for name in names}
        if self._masks:
            values["mask_map"] = found["segm_map"].item()
        # [IoU thresholds, recalls, classes, sizes, numbers of detections]: all sizes, 100 detections
        precision = found[f"{boxes}precision"][:, :, :, 0, -1]
        for i, label in enumerate(found["classes"].flatten().tolist()):
            values[f"ap_{self.classes[label]}"] = precision[:, :, i].mean().item()
        return {name: round(value, 6) for name, value in values.items() if value >= 0}


def _head(config: Config) -> tuple[str, DetectorKind]:
    """Name and kind of the head that a config asks for."""
    name = config.head.name or "fcos"
    return name, HEADS[name]


def _on_cpu(item: Found) -> Found:
    """On the CPU, with masks and flags as bytes, which the metric needs."""
    return {key: (x.byte() if x.dtype == torch.bool else x).cpu() for key, x in item.items()}


def _in_view(model: nn.Module, inputs: Tensor, size: tuple[int, ...], flip: bool) -> list[Found]:
    """Detections at ``size``, mirrored or not, converted to pixels of the inputs; masks as bool [n, H, W]."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    height, width = inputs.shape[-2:]
    x = resize(inputs, size, "bilinear")
    outputs = model(x.flip(-1) if flip else x)
    back = torch.tensor([width / size[1], height / size[0]] * 2, device=inputs.device)
    for found in outputs:
        boxes = found["boxes"]
        if flip:
            x0, y0, x1, y1 = boxes.unbind(1)
            boxes = torch.stack([size[1] - x1, y0, size[1] - x0, y1], dim=1)
        found["boxes"] = boxes * back
        if "masks" in found:
            masks = found["masks"].flip(-1) if flip else found["masks"]
            found["masks"] = paste_masks_in_image(masks, found["boxes"], (height, width))[:, 0] > 0.5
    return outputs


def _merge(views: Sequence[Found]) -> Found:
    """Merges an image's detections in several views, by non-maximum suppression within each class."""
    from torchvision.ops import batched_nms

    found = {key: torch.cat([view[key] for view in views]) for key in views[0]}
    keep = batched_nms(found["boxes"], found["scores"], found["labels"], _MERGE_IOU)[:DETECTIONS]
    return {key: value[keep] for key, value in found.items()}


def _shown(found: Found) -> Found:
    """The detections that are shown, the best first."""
    from torchvision.ops import nms

    likely = torch.nonzero(found["scores"] >= _SEEN).flatten()
    kept = likely[nms(found["boxes"][likely].float(), found["scores"][likely].float(), _SAME_IOU)]
    return {key: value[kept] for key, value in found.items()}


def _f1(found: Found, target: Found) -> float:
    """F1 of the detections in one image, the best first."""
    from torchvision.ops import box_iou

    real = ~target["crowd"]
    boxes, labels = target["boxes"][real].float(), target["labels"][real]
    in_crowd = (box_iou(found["boxes"].float(), target["boxes"][~real].float()) > 0).any(1)
    overlaps = box_iou(found["boxes"].float(), boxes) * (found["labels"][:, None] == labels)
    right, wrong, free = 0, 0, torch.ones(len(boxes))
    for overlap, excused in zip(overlaps.cpu(), in_crowd.tolist(), strict=True):
        best, at = (overlap * free).max(0) if len(boxes) else (torch.zeros(()), 0)
        if best >= _SAME_IOU:
            right, free[at] = right + 1, 0
        elif not excused:
            wrong += 1
    missed = len(boxes) - right
    return 2 * right / (2 * right + wrong + missed) if right + wrong + missed else 1.0


def _mark(image: Image.Image, scale: float, objects: Found, captions: Sequence[str]) -> Image.Image:
    """``image``, enlarged by ``scale``, with boxes, captions and masks, each in its class's colour."""
    image, size = image.copy(), image.size
    colours = [colour(label) for label in objects["labels"].tolist()]
    for mask, fill in zip(objects.get("masks", torch.empty(0)), colours, strict=False):
        cover = Image.fromarray(mask.cpu().numpy().astype(np.uint8) * 128).resize(size, Image.Resampling.NEAREST)
        image.paste(fill, (0, 0), cover)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(11)
    for box, fill, caption in zip(objects["boxes"].tolist(), colours, captions, strict=True):
        x0, y0, x1, y1 = (n * scale for n in box)
        if x1 < x0 or y1 < y0:
            continue
        draw.rectangle((x0, y0, x1, y1), outline=fill, width=2)
        left, top, right, bottom = draw.textbbox((x0 + 2, max(0, y0 - 13)), caption, font=font)
        draw.rectangle((left - 2, top - 1, right + 2, bottom + 1), fill=fill)
        draw.text((x0 + 2, max(0, y0 - 13)), caption, fill="black" if sum(fill) > 330 else "white", font=font)
    return image


def _outline(image: Image.Image, scale: float, objects: Found) -> Image.Image:
    """``image``, enlarged by ``scale``, with the boxes in white, edged in black."""
    image = image.copy()
    draw = ImageDraw.Draw(image)
    for x0, y0, x1, y1 in objects["boxes"].tolist():
        if x1 >= x0 and y1 >= y0:
            for fill, width in (("black", 3), ("white", 1)):
                draw.rectangle((x0 * scale, y0 * scale, x1 * scale, y1 * scale), outline=fill, width=width)
    return image
