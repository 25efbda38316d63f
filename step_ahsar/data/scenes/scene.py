"""Scenes: the targets of segmentation and detection."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from step_ahsar.data.common.faults import DataFault

IGNORE = 255  # class index of pixels that are ignored


@dataclass(frozen=True, eq=False)
class Scene:
    """The objects in a picture, and the class of each pixel.

    Args:
        boxes: x0, y0, x1, y1 in pixels, float32 [n, 4]; x1 and y1 are exclusive, as in COCO.
        labels: class indices from 0, int64 [n].
        masks: pixels of each object, bool [n, H, W]; None if there are only boxes.
        classes: class index of each pixel, uint8 [H, W], 255 = ignored; None if there are only objects.
        crowd: whether an object stands for a crowd, bool [n]; crowds are left out of the loss and ignored in
            evaluation.
        area: area of each object in square pixels, float32 [n], for COCO's size ranges; None = the area of its box.
        name: name of the picture, for messages.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None
    classes: NDArray[np.uint8] | None
    crowd: NDArray[np.bool_]
    area: NDArray[np.float32] | None
    name: str


def make_scene(
    name: str,
    size: tuple[int, int],
    boxes: Sequence[Sequence[float]] | NDArray = (),
    labels: Sequence[int] | NDArray = (),
    masks: NDArray[np.bool_] | None = None,
    classes: NDArray[np.uint8] | None = None,
    crowd: Sequence[bool] | NDArray | None = None,
    area: Sequence[float] | NDArray | None = None,
) -> Scene:
    """Makes a scene of lists or arrays, and checks it by :func:`fit_scene`. It may have no objects.

    Args:
        name: name of the picture, for messages.
        size: (H, W) of the picture.
        boxes: x0, y0, x1, y1 of each object.
        labels: class index of each object.
        masks: bool [n, H, W].
        classes: uint8 [H, W].
        crowd: whether each object is a crowd; None = no object is.
        area: area of each object; None = the area of its box.
    """
    scene = Scene(
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        labels=np.asarray(labels, np.int64),
        masks=masks,
        classes=classes,
        crowd=np.zeros(len(labels), bool) if crowd is None else np.asarray(crowd, bool),
        area=None if area is None else np.asarray(area, np.float32),
        name=name,
    )
    return fit_scene(scene, size)


def fit_scene(scene: Scene, size: tuple[int, int]) -> Scene:
    """The scene with its boxes clipped to the picture.

    Boxes without area are kept; the task decides about them.

    Args:
        scene: the scene of an annotation.
        size: (H, W) of the picture.

    Raises:
        DataFault: boxes, labels, masks, crowd or area differ in number; a mask has another size than the picture; a box
            is not finite, ends before it begins, or lies outside the picture.
    """
    height, width = size
    for what, mask in (("class mask", scene.classes), ("object masks", scene.masks)):
        if mask is not None and mask.shape[-2:] != (height, width):
            raise DataFault(
                scene.name,
                f"the {what} of {mask.shape[-2]} x {mask.shape[-1]} pixels do not fit the picture of {height} x "
                f"{width} (rows x columns)",
            )
    parts: dict[str, NDArray | None] = {
        "boxes": scene.boxes,
        "labels": scene.labels,
        "crowd": scene.crowd,
        "masks": scene.masks,
        "area": scene.area,
    }
    counts = {key: part.shape[0] for key, part in parts.items() if part is not None}
    if len(set(counts.values())) > 1:
        raise DataFault(scene.name, f"objects differ in number: {', '.join(f'{n} {key}' for key, n in counts.items())}")
    if not len(scene.boxes):
        return scene
    low, high = scene.boxes[:, :2], scene.boxes[:, 2:]
    end = np.asarray((width, height), np.float32)
    clipped = np.concatenate((low.clip(0, end), high.clip(0, end)), 1)
    lost = ((high - low) > 0).all(1) & ((clipped[:, 2:] - clipped[:, :2]) <= 0).any(1)
    for fault, which in (
        ("is not finite", ~np.isfinite(scene.boxes).all(1)),
        ("ends before it begins", (high < low).any(1)),
        (f"is outside the picture of {height} x {width} (rows x columns)", lost | ((high < 0) | (low > end)).any(1)),
    ):
        if which.any():
            i = int(np.argmax(which))
            box = ", ".join(f"{value:g}" for value in scene.boxes[i])
            raise DataFault(scene.name, f"box {i} (x0, y0, x1, y1 = {box}) {fault}")
    return replace(scene, boxes=clipped)
