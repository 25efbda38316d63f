"""Folders of event recordings with masks or boxes."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.files import existing_root, find_parts, not_found
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.events.formats import read_recording
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.scenes.files import class_table, map_ids, open_parts, read_mask, read_names, subfolder
from step_ahsar.data.scenes.scene import Scene, make_scene

BACKGROUND = "background"
MASK, BOXES = ".png", ".json"


def open_event_scenes(config: DataConfig) -> Splits:
    """Recordings in ``train/*`` and in ``test/*`` or ``val/*`` or both, with the scene at the end of each recording.

    The scene is in ``<stem>.png``, a mask of class ids, or in ``<stem>.json``, boxes, or in both. All recordings must
    have the same kinds of files::

        {"size": [260, 346], "boxes": [[x0, y0, x1, y1], ...], "labels": ["car", ...]}

    ``size`` is height and width of the sensor, which may be missing if there is a mask; x1 and y1 are exclusive.
    ``classes.txt`` names the class of each id, one per line. Pixels of ``void`` or ``ignore`` are ignored. Objects may
    have any class except ``background``.

    Raises:
        UserError: the layout is not found, a split is empty.
        DataFault: a recording, mask or JSON that is missing or cannot be read, a mask of another size than the sensor,
            unknown ids or labels, boxes outside the sensor.
    """
    wanted = "classes.txt, train/* and test|val/* of recordings, each with <stem>.png or <stem>.json"
    root = existing_root(config, wanted, folder=True)
    folders = find_parts(partial(subfolder, root))
    if folders[0] is None or folders[2] is None or not (root / "classes.txt").is_file():
        raise not_found(config, wanted)
    files = [path for folder in folders if folder for path in folder.rglob("*") if path.is_file()]
    parts = [None if folder is None else _recordings(folder) for folder in folders]
    every = [path for part in parts if part for path in part]
    stems = {path.with_suffix("") for path in every}
    alone = sorted(path for path in files if path.suffix in (MASK, BOXES) and path.with_suffix("") not in stems)
    strays = [DataFault(path, "there is no recording of this name beside it") for path in alone]
    kinds = {kind for kind in (MASK, BOXES) if any(path.with_suffix(kind).is_file() for path in every)}
    pixel_classes, table = class_table(read_names(root / "classes.txt"))
    classes = tuple(name for name in pixel_classes if name.lower() != BACKGROUND)
    index = {name: i for i, name in enumerate(classes)}
    splits = open_parts(
        parts,
        partial(_read, kinds=kinds, table=table, index=index),
        lambda path: [path, *(path.with_suffix(kind) for kind in kinds)],
        root,
        config,
        strays,
        further=[root / "classes.txt"],
        classes=classes if BOXES in kinds else (),
        pixel_classes=pixel_classes if MASK in kinds else (),
    )
    return replace(splits, size=splits.train[0][0].sensor)


def _recordings(folder: Path) -> list[Path]:
    others = (MASK, BOXES, ".txt", ".md")
    found = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return sorted(path for path in found if path.suffix.lower() not in others)


def _read(path: Path, kinds: set[str], table: list[int], index: dict[str, int]) -> tuple[Recording, Scene]:
    if not kinds:
        raise DataFault(path, f"has neither a mask {path.stem}{MASK} nor boxes {path.stem}{BOXES}")
    sensor, classes = None, None
    boxes: list[list[float]] = []
    labels: list[int] = []
    if MASK in kinds:
        file = path.with_suffix(MASK)
        classes = map_ids(read_mask(file), table, file)
        sensor = classes.shape[0], classes.shape[1]
    if BOXES in kinds:
        file = path.with_suffix(BOXES)
        size, boxes, labels = _read_boxes(file, index)
        if sensor is not None and size not in (None, sensor):
            raise DataFault(file, f"has size {list(size or ())}, but its mask is of {list(sensor)}")
        sensor = sensor or size
        if sensor is None:
            raise DataFault(file, "must have size: [height, width] of the sensor, because there is no mask")
    assert sensor is not None
    return read_recording(path, sensor), make_scene(str(path), sensor, boxes, labels, classes=classes)


def _read_boxes(file: Path, index: dict[str, int]) -> tuple[tuple[int, int] | None, list[list[float]], list[int]]:
    if not file.is_file():
        raise DataFault(file, "there is no such file of boxes")
    try:
        content: Any = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DataFault(file, f"cannot be read as JSON: {error}") from error
    size, boxes, labels = (
        content.get(key) if isinstance(content, dict) else None for key in ("size", "boxes", "labels")
    )
    if not (isinstance(boxes, list) and isinstance(labels, list) and len(boxes) == len(labels)):
        raise DataFault(file, "must hold lists boxes and labels of one length")
    for number, box in enumerate(boxes):
        if not (isinstance(box, list) and len(box) == 4 and all(isinstance(value, int | float) for value in box)):
            raise DataFault(file, f"box {number} must be four numbers x0, y0, x1, y1, got {box}")
    for label in labels:
        if not isinstance(label, str) or label not in index:
            raise DataFault(file, f"has label {label!r}, which is not in classes.txt: {', '.join(index)}")
    if size is not None and not (
        isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise DataFault(file, f"size must be [height, width] of the sensor, got {size}")
    return (size[0], size[1]) if size else None, boxes, [index[label] for label in labels]


register_dataset(
    DatasetSpec(
        name="event_scenes",
        in_chans=2,
        size=None,
        mean=(),
        std=(),
        num_classes=None,
        open=open_event_scenes,
        modality="event",
        tasks=("segmentation", "detection"),
        titles=None,
    )
)
