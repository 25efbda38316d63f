"""Folders of images and class masks: CamVid's lists, plain folders, Cityscapes, ADE20K.

A mask is a grey or palette image of its image's size that holds class ids; 255 is ignored.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, find_parts, not_found
from step_ahsar.data.common.registry import Splits, photographs, register_dataset
from step_ahsar.data.scenes.files import (
    class_table,
    images_in,
    map_ids,
    open_image,
    open_parts,
    read_lines,
    read_mask,
    read_names,
    subfolder,
)
from step_ahsar.data.scenes.scene import IGNORE, Scene, make_scene
from step_ahsar.errors import UserError

Pair = tuple[Path, Path]  # an image and its mask
Parts = Sequence[list[Pair] | None]  # for training, validation and testing

MASK_FOLDERS = ("masks", "labels", "annotations")

# G. J. Brostow et al., "Semantic object classes in video", 2009, as V. Badrinarayanan et al. grouped its classes for
# SegNet (arXiv 1511.00561); id 11 is void.
CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")

# M. Cordts et al., "The Cityscapes dataset" (arXiv 1604.01685): the 19 classes that are evaluated, and their label ids.
CITYSCAPES = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
CITYSCAPES_IDS = 34

ADE20K_CLASSES = 150


def open_masks(config: DataConfig) -> Splits:
    """Images with masks, which are named by lists or found in folders.

    The lists are ``train.txt`` and ``val.txt`` or ``test.txt``; each line has the paths of an image and of its mask.
    The folders are ``images/train``, ``masks/train`` and so on; an image and its mask have the same stem. If there are
    both ``val`` and ``test``, ``val`` is for validation.

    Of each path in a list the longest ending that exists below the root is used, so lists may contain the paths of
    another machine. ``classes.txt`` names the class of each id, one per line; pixels of ``void`` or ``ignore`` are
    ignored. Without it SegNet's CamVid has its published class names, and every other set has the ids as names.

    Raises:
        UserError: neither layout is found, a line of a list is not a pair of paths, a split is empty.
        DataFault: an unreadable file, a missing mask or image, a mask of another size than its image, unknown ids.
    """
    wanted = "train.txt and val.txt|test.txt of image and mask paths, or images/{train,val} and masks/{train,val}"
    root = existing_root(config, wanted, folder=True)
    lists = find_parts(lambda names: _first_file(root, [f"{name}.txt" for name in names]))
    strays: list[DataFault] = []
    pairs: Parts
    if lists[0] and lists[2]:
        pairs = [_read_list(root, file) if file else None for file in lists]
    else:
        pairs, strays = _folder_pairs(config, root, wanted)
    table: Sequence[int | None]
    file = root / "classes.txt"
    if file.is_file():
        classes, table = class_table(read_names(file))
    elif (
        lists[0]
        and lists[2]
        and any("camvid" in text.lower().split("/") for text in (root.name, *read_lines(lists[0])))
    ):
        classes, table = class_table((*CAMVID, "void"))
    else:
        masks = (mask for part in pairs for _, mask in part or ())
        readable = Faults(config).tried(masks, read_mask)  # open_parts lists the faults
        count = 1 + max((_highest_id(mask, ids) for mask, ids in readable), default=-1)
        classes, table = class_table([str(i) for i in range(count)])
    return _open_pairs(config, root, pairs, classes, table, strays)


def open_cityscapes(config: DataConfig) -> Splits:
    """Cityscapes: ``leftImg8bit/<split>/<city>/*_leftImg8bit.png`` and ``gtFine/<split>/<city>/*_gtFine_labelIds.png``.

    Classes are the 19 that are evaluated; all other label ids are ignored. Raises as :func:`open_masks`.
    """
    wanted = "leftImg8bit/{train,val}/<city>/*_leftImg8bit.png and gtFine/{train,val}/<city>/*_gtFine_labelIds.png"
    root = existing_root(config, wanted, folder=True)
    pairs = []
    for split in ("train", "val"):
        images = sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        if not images:
            raise not_found(config, wanted)
        pairs.append([(image, _cityscapes_mask(root, split, image)) for image in images])
    table = [IGNORE] * CITYSCAPES_IDS
    for index, label_id in enumerate(CITYSCAPES.values()):
        table[label_id] = index
    return _open_pairs(config, root, (pairs[0], None, pairs[1]), tuple(CITYSCAPES), table)


def open_ade20k(config: DataConfig) -> Splits:
    """ADE20K as in the scene parsing challenge of 2016: ``{images,annotations}/{training,validation}``.

    There are 150 classes; id 0 is ignored, id k is class k - 1. Their names are read from ``objectInfo150.txt``;
    without it they are numbers. B. Zhou et al., "Scene parsing through ADE20K dataset" (CVPR 2017). Raises as
    :func:`open_masks`.
    """
    wanted = "images/{training,validation} and annotations/{training,validation}, maybe in ADEChallengeData2016"
    root = existing_root(config, wanted, folder=True)
    root = subfolder(root, ("ADEChallengeData2016",)) or root
    pairs, strays = _folder_pairs(config, root, wanted)
    names = tuple(map(str, range(1, ADE20K_CLASSES + 1)))
    info = root / "objectInfo150.txt"
    if info.is_file():
        rows = [line.split("\t") for line in read_lines(info)]
        names = tuple(row[-1].strip() for row in rows if row[0].strip().isdigit())
        if len(names) != ADE20K_CLASSES:
            raise DataFault(info, f"must have {ADE20K_CLASSES} rows that begin with a number, has {len(names)}")
    return _open_pairs(config, root, pairs, names, [IGNORE, *range(ADE20K_CLASSES)], strays)


def _open_pairs(
    config: DataConfig,
    root: Path,
    pairs: Parts,
    classes: tuple[str, ...],
    table: Sequence[int | None],
    strays: Sequence[DataFault] = (),
) -> Splits:
    return open_parts(
        pairs,
        partial(_read_pair, table=table),
        lambda pair: pair,
        root,
        config,
        strays,
        further=[root / "classes.txt"],
        classes=classes,
        pixel_classes=classes,
    )


def _read_pair(pair: Pair, table: Sequence[int | None]) -> tuple[Image.Image, Scene]:
    image, ids = open_image(pair[0]), read_mask(pair[1])
    size = image.height, image.width
    if ids.shape != size:
        raise DataFault(
            pair[1],
            f"is of {ids.shape[0]} x {ids.shape[1]} pixels (rows x columns), its image {pair[0].name} of "
            f"{size[0]} x {size[1]}",
        )
    return image, make_scene(str(pair[0]), size, classes=map_ids(ids, table, pair[1]))


def _first_file(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_list(root: Path, file: Path) -> list[Pair]:
    pairs = []
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        parts = line.split()
        if len(parts) != 2:
            raise UserError(
                f"{file}, line {number}: must be the path of an image and the path of a mask, got {line.strip()!r}"
            )
        pairs.append((_below(root, parts[0]), _below(root, parts[1])))
    return pairs


def _below(root: Path, path: str) -> Path:
    """The file below the root that is the longest ending of the path.

    If there is none, a path that does not exist, which is then reported as missing.
    """
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    places = [root.joinpath(*parts[start:]) for start in range(len(parts))]
    return next((place for place in places if place.is_file()), places[max(0, len(places) - 2)])


def _folder_pairs(config: DataConfig, root: Path, wanted: str) -> tuple[Parts, list[DataFault]]:
    """Images with the masks of the same name, and faults of masks without an image."""
    masks_of = subfolder(root, MASK_FOLDERS)

    def find(names: Sequence[str]) -> tuple[Path, Path] | None:
        """The folders of images and masks of a part. Images without masks, as in a secret test set, do not count."""
        images, masks = subfolder(root / "images", names), masks_of and subfolder(masks_of, names)
        return (images, masks) if images and masks else None

    folders = find_parts(find)
    if folders[0] is None or folders[2] is None:
        raise not_found(config, wanted)
    strays: list[DataFault] = []
    return [None if part is None else _matched(*part, strays) for part in folders], strays


def _matched(images: Path, masks: Path, strays: list[DataFault]) -> list[Pair]:
    """The images of a folder with their masks; masks without an image are added to ``strays``."""
    stems: dict[Path, Path] = {}
    for mask in images_in(masks):
        stem = mask.relative_to(masks).with_suffix("")
        if stem in stems:
            raise UserError(f"{mask}: there is another mask of that name, {stems[stem].name}")
        stems[stem] = mask
    found = [(image, image.relative_to(images).with_suffix("")) for image in images_in(images)]
    known = {stem for _, stem in found}
    alone = (mask for stem, mask in stems.items() if stem not in known)
    strays += [DataFault(mask, f"there is no image of this name in {images}") for mask in alone]
    return [(image, stems.get(stem, masks / f"{stem}.png")) for image, stem in found]


def _highest_id(mask: Path, ids: NDArray[np.int64]) -> int:
    ids = ids[ids != IGNORE]
    highest = int(ids.max(initial=-1))
    if highest >= IGNORE:
        raise DataFault(mask, f"has class id {highest}; ids must be < {IGNORE}")
    return highest


def _cityscapes_mask(root: Path, split: str, image: Path) -> Path:
    stem = image.name.removesuffix("_leftImg8bit.png")
    return root / "gtFine" / split / image.parent.name / f"{stem}_gtFine_labelIds.png"


_pictures_with_masks = partial(photographs, tasks=("segmentation",))
register_dataset(_pictures_with_masks("masks", size=512, num_classes=None, open=open_masks, titles=None))
register_dataset(
    _pictures_with_masks("cityscapes", size=(512, 1024), num_classes=len(CITYSCAPES), open=open_cityscapes)
)
register_dataset(_pictures_with_masks("ade20k", size=512, num_classes=ADE20K_CLASSES, open=open_ade20k))
