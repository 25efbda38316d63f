"""Pascal VOC: boxes in XML files, class masks in palette images.

M. Everingham et al., "The Pascal visual object classes (VOC) challenge", IJCV 2010. Boxes are 1-based and inclusive
there: ``xmin..xmax`` is x0 = xmin - 1 to x1 = xmax here. If xmin = xmax or ymin = ymax, this counts as a mistake of
the annotator, and the box has no area. Objects marked difficult are treated as COCO's crowds.
"""

from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, not_found
from step_ahsar.data.common.registry import Splits, photographs, register_dataset
from step_ahsar.data.scenes.files import map_ids, open_image, open_parts, read_lines, read_mask
from step_ahsar.data.scenes.scene import Scene, make_scene

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
PIXEL_CLASSES = ("background", *VOC)


def open_voc(config: DataConfig) -> Splits:
    """Boxes: ``Annotations/*.xml``, ``JPEGImages``, and the splits of ``ImageSets/Main``.

    If there is a ``test.txt``, it is the test part and ``val.txt`` the validation part; with ``data.validation: 0``,
    ``trainval.txt`` is the training part. Without ``test.txt``, ``val.txt`` is the test part. The classes are the 20
    published ones. If annotations have other classes, the classes are all that occur, sorted by name.

    Raises:
        UserError: the layout is not found, a split is empty.
        DataFault: an annotation that cannot be read or has no valid box, a missing image, a box outside its image.
    """
    wanted = "Annotations/*.xml, JPEGImages and ImageSets/Main/{train|trainval,val|test}.txt"
    root = existing_root(config, wanted, folder=True)
    parts = [
        None if part is None else [root / "Annotations" / f"{stem}.xml" for stem in part]
        for part in _parts(config, root, "Main", wanted)
    ]
    found: set[str] = set()

    def note_classes(file: Path) -> None:
        found.update(_text(entry, "name", file) for entry in _parse(file).iter("object"))

    Faults(config).read((file for part in parts for file in part or ()), note_classes)  # open_parts lists the faults
    classes = VOC if found <= set(VOC) else tuple(sorted(found))
    read = partial(_read_objects, index={name: i for i, name in enumerate(classes)})
    return open_parts(parts, read, lambda file: [file, _image_of(file, _parse(file))], root, config, classes=classes)


def open_voc_segmentation(config: DataConfig) -> Splits:
    """Masks: ``SegmentationClass/*.png``, ``JPEGImages``, and the splits of ``ImageSets/Segmentation``.

    Classes are the background and the 20; 255, the border of objects, is ignored. The splits are as in
    :func:`open_voc`.

    Raises:
        UserError: the layout is not found, a split is empty.
        DataFault: a missing or unreadable file, a mask of another size than its image, unknown ids.
    """
    wanted = "SegmentationClass/*.png, JPEGImages and ImageSets/Segmentation/{train|trainval,val|test}.txt"
    root = existing_root(config, wanted, folder=True)
    return open_parts(
        _parts(config, root, "Segmentation", wanted),
        partial(_read_classes, root=root),
        partial(_pair, root),
        root,
        config,
        classes=PIXEL_CLASSES,
        pixel_classes=PIXEL_CLASSES,
    )


def _parts(config: DataConfig, root: Path, kind: str, wanted: str) -> list[list[str] | None]:
    """Names of the pictures for training, validation and testing."""
    folder = root / "ImageSets" / kind
    names = {name for name in ("train", "val", "trainval", "test") if (folder / f"{name}.txt").is_file()}
    chosen: tuple[str, str | None, str] = ("train", None, "val")
    if "test" in names:
        chosen = ("trainval" if "trainval" in names else "train", None, "test")
        if config.validation and names >= {"train", "val"}:
            chosen = ("train", "val", "test")
    if not names >= {name for name in chosen if name} or not (root / "JPEGImages").is_dir():
        raise not_found(config, wanted)
    # A line may have a second word, which says whether the image has the class of the list.
    return [
        None if name is None else [line.split()[0] for line in read_lines(folder / f"{name}.txt") if line.strip()]
        for name in chosen
    ]


def _read_objects(file: Path, index: dict[str, int]) -> tuple[Image.Image, Scene]:
    tree = _parse(file)
    path = _image_of(file, tree)
    if not path.is_file():
        raise DataFault(file, f"names the image JPEGImages/{path.name}, which is not there")
    image = open_image(path)
    boxes, labels, difficult = [], [], []
    for number, entry in enumerate(tree.iter("object")):
        boxes.append(_box(entry, number, file))
        labels.append(index[_text(entry, "name", file)])
        difficult.append((entry.findtext("difficult") or "0").strip() == "1")
    return image, make_scene(str(file), (image.height, image.width), boxes, labels, crowd=difficult)


def _image_of(file: Path, tree: ElementTree.Element) -> Path:
    """The picture that an annotation names."""
    name = (tree.findtext("filename") or "").strip() or f"{file.stem}.jpg"
    return file.parent.parent / "JPEGImages" / Path(name).name


def _box(entry: ElementTree.Element, number: int, file: Path) -> list[float]:
    try:
        x0, y0, x1, y1 = (float(entry.findtext(f"bndbox/{key}", "")) for key in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise DataFault(file, f"object {number} must have numbers xmin, ymin, xmax, ymax in bndbox") from error
    return [x0 - 1, y0 - 1, x1 - (x1 <= x0), y1 - (y1 <= y0)]


def _parse(file: Path) -> ElementTree.Element:
    if not file.is_file():
        raise DataFault(file, "there is no such annotation")
    try:
        return ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise DataFault(file, f"cannot be read as XML: {error}") from error


def _text(entry: ElementTree.Element, key: str, file: Path) -> str:
    text = (entry.findtext(key) or "").strip()
    if not text:
        raise DataFault(file, f"has an object without a {key}")
    return text


def _pair(root: Path, stem: str) -> tuple[Path, Path]:
    return root / "JPEGImages" / f"{stem}.jpg", root / "SegmentationClass" / f"{stem}.png"


def _read_classes(stem: str, root: Path) -> tuple[Image.Image, Scene]:
    path, mask = _pair(root, stem)
    image = open_image(path)
    classes = map_ids(read_mask(mask), range(len(PIXEL_CLASSES)), mask)
    return image, make_scene(str(mask), (image.height, image.width), classes=classes)


register_dataset(photographs("voc", size=512, num_classes=None, open=open_voc, tasks=("detection",), titles=None))
register_dataset(
    photographs(
        "voc_segmentation",
        size=512,
        num_classes=len(PIXEL_CLASSES),
        open=open_voc_segmentation,
        tasks=("segmentation",),
        titles=None,
    )
)
