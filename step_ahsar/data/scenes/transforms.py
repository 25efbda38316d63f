"""From a picture and its scene to tensors, by torchvision's transforms v2, which transform boxes and masks as well."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import DatasetSpec
from step_ahsar.data.images.transforms import image_size, is_augmented, statistics
from step_ahsar.data.scenes.scene import IGNORE, Scene, fit_scene
from step_ahsar.errors import UserError

_STATIC_ONLY = ("auto_augment", "re_prob", "crop_pct")  # timm's, for images with a class
_DEFAULTS = DataConfig()


def build_scene_transform(config: DataConfig, spec: DatasetSpec, time_steps: int, training: bool) -> "SceneTransform":
    """The transform of training scenes or of test scenes. They are the same unless the config augments.

    Args:
        config: the section `data`. Its augmentation keys have the same meaning as for images, except ``ratio``: it is
            the aspect ratio of the crop divided by that of the picture.
        spec: the data set, with channels and size.
        time_steps: T, the number of frames taken from a moving picture.
        training: whether to augment.

    Raises:
        UserError: an option that does not apply to boxes and masks, flips of a set whose mirror images have other
            classes, statistics of another number of channels.
    """
    what = f"scenes, such as those of dataset {config.name!r}"
    for key in _STATIC_ONLY:
        if getattr(config, key) != getattr(_DEFAULTS, key):
            raise UserError(f"data.{key} does not apply to {what}; they have data.scale, ratio, hflip and color_jitter")
    if config.hflip and not spec.mirrors:
        raise UserError(f"data.hflip must be 0 for dataset {config.name!r}, whose mirrored images mean something else")
    if config.color_jitter and spec.modality != "static":
        raise UserError(f"data.color_jitter does not apply to dataset {config.name!r}: it is for still images")
    if config.interpolation not in ("nearest", "bilinear", "bicubic"):
        raise UserError(
            f"data.interpolation must be nearest, bilinear or bicubic for {what}, got {config.interpolation}"
        )
    if not config.scale[0] <= config.scale[1] <= 1:
        raise UserError(f"data.scale must be a range within 0 to 1 for {what}, got {list(config.scale)}")
    if not config.ratio[0] <= config.ratio[1]:
        raise UserError(f"data.ratio must be a range, the smaller number first, got {list(config.ratio)}")
    return SceneTransform(config, spec, time_steps, training)


class SceneTransform:
    """Turns (input as read, scene) into (tensor, target); draws are from torch's global generator.

    The input is a PIL image, event frames [T, 2, H, W] or a moving picture, uint8 [F, H, W] or [F, H, W, 3], of which T
    frames are taken, evenly spaced and ending with the last. It is resized with its aspect ratio kept and padded at the
    right and at the bottom: images and moving pictures with the mean (with an encoder, black), event frames with no
    events, masks with no object, pixel classes with 255. Boxes that reach out of the picture are clipped. A crop drops
    the objects of which less than a pixel's width or height, or no pixel of the mask, is left.

    Returns of a call:
        The tensor, float32 [C, H, W] or [T, C, H, W]: pixels normalised, or left in [0, 1] for an encoder other than
        direct; event frames as they are. And the target, in pixels of that tensor: ``boxes`` float32 [n, 4], ``labels``
        int64 [n], ``crowd`` bool [n], ``area`` float32 [n] (square pixels), and where the scene has them ``masks`` bool
        [n, H, W] and ``classes`` int64 [H, W].

    Raises of a call:
        DataFault: an input of another kind, a scene that does not fit it; see
            :func:`step_ahsar.data.scenes.scene.fit_scene`.
    """

    def __init__(self, config: DataConfig, spec: DatasetSpec, time_steps: int, training: bool) -> None:
        self.config, self.spec, self.time_steps = config, spec, time_steps
        self.augment = training and is_augmented(config)
        self.size = image_size(config, spec, training)
        self.interpolation = v2.InterpolationMode(config.interpolation)
        self.statistics = None if spec.modality == "event" else statistics(config, spec)
        jitter = config.color_jitter
        self.jitter = v2.ColorJitter(jitter, jitter, jitter) if jitter else None  # as timm: no change of hue

    def __call__(self, raw: Any, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """(input as read, scene) to (tensor, target)."""
        picture = self._picture(raw, scene.name)
        height, width = picture.shape[-2:]
        scene = fit_scene(scene, (height, width))
        boxes = torch.from_numpy(np.array(scene.boxes))
        moved: dict[str, Tensor] = {
            "picture": picture,
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
        }
        if scene.masks is not None:
            moved["masks"] = tv_tensors.Mask(torch.from_numpy(np.array(scene.masks)))
        if scene.classes is not None:
            moved["classes"] = tv_tensors.Mask(torch.from_numpy(np.array(scene.classes)))
        area = _areas(boxes) if scene.area is None else torch.from_numpy(np.array(scene.area))
        objects = {
            "labels": torch.from_numpy(np.array(scene.labels)),
            "crowd": torch.from_numpy(np.array(scene.crowd)),
            "area": area,
        }
        if self.augment:
            moved, objects = self._augmented(moved, objects)
        moved, scale = self._resized(moved)
        target = {"boxes": moved["boxes"].as_subclass(Tensor), **objects, "area": objects["area"] * scale}
        if "masks" in moved:
            target["masks"] = moved["masks"].as_subclass(Tensor)
        if "classes" in moved:
            target["classes"] = moved["classes"].as_subclass(Tensor).long()
        return moved["picture"].as_subclass(Tensor), target

    def _picture(self, raw: Any, name: str) -> Tensor:
        """The input as an image uint8 [C, H, W], or as a video: uint8 or float32 [T, C, H, W]."""
        channels = self.spec.in_chans
        if isinstance(raw, Image.Image) and self.spec.modality == "static":
            return tv_tensors.Image(functional.pil_to_tensor(raw.convert("L" if channels == 1 else "RGB")))
        if isinstance(raw, np.ndarray) and self.spec.modality == "event" and raw.ndim == 4:
            return tv_tensors.Video(torch.from_numpy(raw).float())
        if isinstance(raw, np.ndarray) and self.spec.modality == "sequence" and raw.ndim in (3, 4) and len(raw):
            frames = raw[np.ceil(np.arange(1, self.time_steps + 1) * len(raw) / self.time_steps).astype(int) - 1]
            frames = frames[:, None] if frames.ndim == 3 else frames.transpose(0, 3, 1, 2)
            if frames.shape[1] == channels:
                return tv_tensors.Video(torch.from_numpy(np.ascontiguousarray(frames)))
        shape = getattr(raw, "shape", "")
        raise DataFault(
            name, f"is a {type(raw).__name__} {shape}, which is no {self.spec.modality} picture of {channels} channels"
        )

    def _augmented(
        self, moved: dict[str, Tensor], objects: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        config = self.config
        if (config.scale, config.ratio) != ((1.0, 1.0), (1.0, 1.0)):
            top, left, height, width = _draw_crop(moved["picture"], config.scale, config.ratio)
            before = _areas(moved["boxes"])
            moved = {key: functional.crop(part, top, left, height, width) for key, part in moved.items()}
            boxes = moved["boxes"].as_subclass(Tensor)
            keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
            if "masks" in moved:
                keep &= moved["masks"].as_subclass(Tensor).flatten(1).any(1)
                moved["masks"] = tv_tensors.wrap(moved["masks"].as_subclass(Tensor)[keep], like=moved["masks"])
            objects["area"] = objects["area"] * (_areas(boxes) / before.clamp(min=1e-6))
            moved["boxes"] = tv_tensors.wrap(boxes[keep], like=moved["boxes"])
            objects = {key: part[keep] for key, part in objects.items()}
        if torch.rand(()) < config.hflip:
            moved = {key: functional.horizontal_flip(part) for key, part in moved.items()}
        return moved, objects

    def _resized(self, moved: dict[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """Resizes, jitters colours, normalises and pads. Returns the result and the factor by which areas change."""
        height, width = moved["picture"].shape[-2:]
        factor = min(self.size[0] / height, self.size[1] / width)
        inner = [max(1, min(round(height * factor), self.size[0])), max(1, min(round(width * factor), self.size[1]))]
        if inner != [height, width]:
            for key, part in moved.items():
                if key == "boxes":
                    moved[key] = functional.resize(part, inner)
                elif key == "picture":
                    moved[key] = functional.resize(
                        part, inner, self.interpolation, antialias=True
                    )  # antialiasing averages all pixels, so that no event is lost
                else:
                    moved[key] = tv_tensors.Mask(_resized_mask(part.as_subclass(Tensor), inner))
        if self.augment and self.jitter is not None:  # after resizing there are fewer pixels
            moved["picture"] = self.jitter(moved["picture"])
        if self.statistics is not None:
            mean, std = map(list, self.statistics)
            pixels = functional.to_dtype(moved["picture"], torch.float32, scale=True)
            moved["picture"] = functional.normalize(pixels, mean, std)
        missing = [0, 0, self.size[1] - inner[1], self.size[0] - inner[0]]  # left, top, right, bottom
        if any(missing):
            for key, part in moved.items():
                moved[key] = functional.pad(part, missing, fill=IGNORE if key == "classes" else 0)
        return moved, (inner[0] / height) * (inner[1] / width)


def _resized_mask(mask: Tensor, size: list[int]) -> Tensor:
    """The mask [..., H, W], sampled at the centres of the new pixels.

    torchvision's v2 rounds the coordinates down, which shifts a mask by up to half a pixel.
    """
    rows, columns = (
        ((torch.arange(new) + 0.5) * (old / new)).long() for new, old in zip(size, mask.shape[-2:], strict=True)
    )
    return mask[..., rows[:, None], columns]


def _areas(boxes: Tensor) -> Tensor:
    boxes = boxes.as_subclass(Tensor)
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _draw_crop(picture: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Draws top, left, height and width of a crop.

    Its share of the area is uniform in ``scale``. Its aspect ratio, relative to the picture's, is log-uniform in
    ``ratio``. Sides are limited to the picture's.
    """
    height, width = picture.shape[-2:]
    share, aspect, down, right = torch.rand(4).tolist()
    share = scale[0] + share * (scale[1] - scale[0])
    aspect = math.exp(math.log(ratio[0]) + aspect * (math.log(ratio[1]) - math.log(ratio[0])))
    rows = max(1, min(round(height * math.sqrt(share / aspect)), height))
    columns = max(1, min(round(width * math.sqrt(share * aspect)), width))
    return int(down * (height - rows + 1)), int(right * (width - columns + 1)), rows, columns
