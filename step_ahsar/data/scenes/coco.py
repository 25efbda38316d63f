"""COCO's JSON: boxes, polygons and run-length masks, crowds.

T.-Y. Lin et al., "Microsoft COCO: common objects in context" (arXiv 1405.0312). Boxes are x, y, width, height from the
picture's corner. Categories become contiguous indices in the order of their ids. A pixel has the class of the smallest
object that covers it, or class 0, background, if there is none. Pixels that only crowds cover are ignored.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.files import existing_root, not_found
from step_ahsar.data.common.registry import Splits, photographs, register_dataset
from step_ahsar.data.scenes.files import open_image, open_parts, subfolder
from step_ahsar.data.scenes.scene import IGNORE, Scene, make_scene
from step_ahsar.errors import UserError


@dataclass(frozen=True)
class Item:
    """An image with its annotations: the file, COCO's records, and the JSON that they are from."""

    image: Path
    annotations: list[dict[str, Any]]
    source: Path


def open_coco(config: DataConfig) -> Splits:
    """``annotations/instances_train*.json`` and ``instances_val*.json``, with the images that they name.

    The images of ``instances_<split>.json`` are looked for in ``<split>``, ``images/<split>``, ``images`` and the root.
    Images without annotations are kept.

    Raises:
        UserError: a JSON is missing, a split has several, a split is empty, the splits have different categories.
        DataFault: a JSON that cannot be read, an annotation of an unknown image; when a sample is read, a missing
            image, an unknown category, a malformed box or mask.
    """
    wanted = "annotations/instances_{train,val}*.json and folders train*, val* of images"
    root = existing_root(config, wanted, folder=True)
    contents = [_load(_find(config, root, split, wanted)) for split in ("train", "val")]
    named = [{entry["id"]: str(entry["name"]) for entry in content["categories"]} for content in contents]
    if named[0] != named[1]:
        odd = sorted({name for _, name in named[0].items() ^ named[1].items()})
        raise UserError(f"dataset {config.name!r}: categories of training and validation differ: {', '.join(odd[:5])}")
    index = {category: i for i, category in enumerate(sorted(named[0], key=lambda name: (isinstance(name, str), name)))}
    classes = tuple(named[0][category] for category in index)
    masked = any(entry.get("segmentation") for content in contents for entry in content["annotations"])
    parts, strays = [], []
    for content in contents:
        items, stray = _items(root, content)
        parts.append(items)
        strays += stray
    with_pixels = masked and len(classes) < IGNORE
    return open_parts(
        (parts[0], None, parts[1]),
        partial(_read_item, index=index, masked=masked),
        lambda item: [item.image],
        root,
        config,
        strays,
        further=[content["file"] for content in contents],
        classes=classes,
        pixel_classes=("background", *classes) if with_pixels else (),
    )


def _find(config: DataConfig, root: Path, split: str, wanted: str) -> Path:
    found = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    if not found:
        raise not_found(config, wanted)
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise UserError(
            f"dataset {config.name!r}: there must be one annotations/instances_{split}*.json, found {names}"
        )
    return found[0]


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataFault(file, f"cannot be read as JSON: {error}") from error
    for key, needed in (
        ("images", {"id", "file_name"}),
        ("annotations", {"id", "image_id"}),
        ("categories", {"id", "name"}),
    ):
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise DataFault(file, f"must hold a list {key!r} of objects")
        for number, entry in enumerate(entries):
            if missing := needed - set(entry):
                raise DataFault(file, f"{key}[{number}] has no {sorted(missing)[0]!r}")
            for name in ("id", "image_id", "category_id"):
                if not isinstance(entry.get(name, 0), int | str):
                    raise DataFault(file, f"{key}[{number}] must have a number or a text as its {name}")
    for key in ("images", "categories"):
        ids = Counter(entry["id"] for entry in content[key])
        if twice := [name for name, count in ids.items() if count > 1]:
            raise DataFault(file, f"has id {twice[0]} twice among its {key}")
    return content | {"file": file}


def _items(root: Path, content: dict[str, Any]) -> tuple[list[Item], list[DataFault]]:
    """The images with their annotations, and faults of annotations without an image."""
    file = content["file"]
    split = file.stem.removeprefix("instances_")
    folder = subfolder(root, (split, f"images/{split}", "images")) or root
    annotations: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    strays = []
    for entry in content["annotations"]:
        if entry["image_id"] in annotations:
            annotations[entry["image_id"]].append(entry)
        else:
            strays.append(
                DataFault(file, f"annotation {entry['id']} is of image {entry['image_id']}, which is not listed")
            )
    return [
        Item(folder / str(image["file_name"]), annotations[image["id"]], file) for image in content["images"]
    ], strays


def _read_item(item: Item, index: dict[Any, int], masked: bool) -> tuple[Image.Image, Scene]:
    if not item.image.is_file():
        raise DataFault(item.source, f"names the image {item.image.name}, which is not there: {item.image}")
    image = open_image(item.image)
    size = image.height, image.width
    boxes, labels, areas, crowd = [], [], [], []
    masks = np.zeros((len(item.annotations), *size), bool) if masked else None
    for i, entry in enumerate(item.annotations):
        where = f"{item.source}, annotation {entry['id']} of {item.image.name}"
        box = _box(entry.get("bbox"), where)
        if entry.get("category_id") not in index:
            raise DataFault(where, f"is of category {entry.get('category_id')}, which is not listed")
        if not _numbers([entry.get("area", 0)]):
            raise DataFault(where, f"must have a number as its area, got {entry['area']!r}")
        boxes.append(box)
        labels.append(index[entry["category_id"]])
        areas.append(entry.get("area", (box[2] - box[0]) * (box[3] - box[1])))
        crowd.append(bool(entry.get("iscrowd", 0)))
        if masks is not None:
            masks[i] = read_segmentation(entry.get("segmentation"), size, where)
    classes = None
    if masks is not None and len(index) < IGNORE:
        classes = paint_classes(masks, labels, crowd)
    return image, make_scene(str(item.image), size, boxes, labels, masks, classes, crowd, areas)


def _box(bbox: Any, where: str) -> list[float]:
    valid = isinstance(bbox, list) and len(bbox) == 4 and _numbers(bbox)
    if not valid or bbox[2] < 0 or bbox[3] < 0:
        raise DataFault(where, f"must have a bbox [x, y, width, height] of numbers, no side < 0, got {bbox}")
    return [bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]]


def _numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def read_segmentation(segmentation: Any, size: tuple[int, int], where: str) -> NDArray[np.bool_]:
    """Converts COCO's polygons or run lengths, plain or compressed, to a mask bool [H, W].

    Raises:
        DataFault: it is neither, or the run lengths are of another size than the picture.
    """
    from faster_coco_eval.core import mask as coco

    height, width = size
    if isinstance(segmentation, dict):
        if segmentation.get("size") != [height, width]:
            raise DataFault(
                where, f"its mask is of {segmentation.get('size')} pixels, its picture of {[height, width]}"
            )
        counts = segmentation.get("counts")
        if isinstance(counts, list):
            if not _numbers(counts) or sum(counts) != height * width or min(counts) < 0:
                raise DataFault(
                    where, f"the run lengths of its mask must sum to {height * width}, its picture's pixels"
                )
            ends = np.cumsum(counts)
            pixels = np.arange(height * width)
            return (np.searchsorted(ends, pixels, side="right") % 2 == 1).reshape(width, height).T
        if isinstance(counts, str | bytes):
            try:
                return coco.decode({"size": [height, width], "counts": counts}).astype(bool)
            except (ValueError, RuntimeError) as error:
                raise DataFault(where, f"the compressed run lengths of its mask are damaged: {error}") from error
    elif isinstance(segmentation, list) and segmentation:
        polygons = [points for points in segmentation if isinstance(points, list) and _numbers(points)]
        if len(polygons) == len(segmentation) and all(len(points) >= 6 and len(points) % 2 == 0 for points in polygons):
            return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).astype(bool)
    raise DataFault(where, "must have a segmentation: polygons of 3 points or more, or run lengths with their size")


def paint_classes(masks: NDArray[np.bool_], labels: list[int], crowd: list[bool]) -> NDArray[np.uint8]:
    """The class of each pixel, uint8 [H, W]: 0 = background, k + 1 = an object of label k, 255 = a crowd.

    Args:
        masks: bool [n, H, W]; smaller ones cover larger ones, and all cover crowds.
        labels: label of each object.
        crowd: whether each object is a crowd.
    """
    classes = np.zeros(masks.shape[1:], np.uint8)
    sizes = masks.sum((1, 2))
    for i in sorted(range(len(masks)), key=lambda i: (not crowd[i], -sizes[i])):
        classes[masks[i]] = IGNORE if crowd[i] else labels[i] + 1
    return classes


register_dataset(
    photographs(
        name="coco",
        size=512,
        num_classes=None,
        open=open_coco,
        tasks=("segmentation", "detection"),
        titles=None,
    )
)
