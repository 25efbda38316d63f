"""COCO's JSON."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.data.scenes.coco import paint_classes, read_segmentation
from step_ahsar.errors import UserError

SIZE = (20, 30)
SQUARE = [[2.0, 3.0, 8.0, 3.0, 8.0, 9.0, 2.0, 9.0]]  # x, y pairs: columns 2..7, rows 3..8


def opened(root, **keys):
    return find_dataset("coco").open(DataConfig(name="coco", root=str(root), **keys))


def runs(mask):
    """Plain run lengths, column by column, the first of zeros."""
    flat = np.asarray(mask).T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    lengths = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": lengths if not flat[0] else [0, *lengths]}


def block(top, left, bottom, right):
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def content():
    crowd = runs(block(0, 0, 20, 15))
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": 20, "width": 30},
            {"id": 3, "file_name": "b.jpg", "height": 20, "width": 30},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 5, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 18, "bbox": [2, 3, 6, 6], "area": 36.0, "segmentation": SQUARE},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [0, 0, 15, 20], "iscrowd": 1, "segmentation": crowd},
        ],
    }


@pytest.fixture
def coco(tmp_path, save):
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        for name in ("a.jpg", "b.jpg"):
            save(tmp_path / split / name, SIZE)
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(content()))
    return tmp_path


def change(root, alter, split="train2017"):
    file = root / "annotations" / f"instances_{split}.json"
    data = json.loads(file.read_text())
    alter(data)
    file.write_text(json.dumps(data))


def test_boxes_masks_crowds_and_classes(coco):
    splits = opened(coco)
    assert splits.classes == ("cat", "dog")  # in the order of their ids, 5 and 18
    assert splits.pixel_classes == ("background", "cat", "dog")
    image, scene = splits.train[0]
    assert image.size == (30, 20)
    assert scene.boxes.tolist() == [[2, 3, 8, 9], [0, 0, 15, 20]]
    assert scene.labels.tolist() == [1, 0]
    assert scene.crowd.tolist() == [False, True]
    assert scene.area.tolist() == [36, 300]
    np.testing.assert_array_equal(scene.masks, [block(3, 2, 9, 8), block(0, 0, 20, 15)])
    expected = np.where(block(3, 2, 9, 8), 2, np.where(block(0, 0, 20, 15), 255, 0))
    np.testing.assert_array_equal(scene.classes, expected)


def test_images_without_objects_are_legal(coco):
    _, scene = opened(coco).train[1]
    assert scene.boxes.shape == (0, 4)
    assert scene.masks.shape == (0, 20, 30)
    assert (scene.classes == 0).all()


def test_the_smaller_object_lies_on_top():
    masks = np.stack([block(5, 5, 7, 7), block(0, 0, 10, 10), block(6, 6, 20, 30)])
    classes = paint_classes(masks, [0, 1, 2], [False, False, True])
    assert (classes[5:7, 5:7] == 1).all()
    assert (classes[7:10, 7:10] == 2).all()
    assert (classes[12:, 12:] == 255).all()
    assert (classes[:5, 12:] == 0).all()


def test_boxes_alone(coco):
    for split in ("train2017", "val2017"):
        change(coco, lambda data: [entry.pop("segmentation") for entry in data["annotations"]], split)
    splits = opened(coco)
    assert splits.pixel_classes == ()
    _, scene = splits.train[0]
    assert scene.masks is None
    assert scene.classes is None


def test_boxes_without_area_are_kept(coco):
    change(coco, lambda data: data["annotations"][0].update(bbox=[4, 4, 0, 3], area=0))
    _, scene = opened(coco).train[0]
    assert scene.boxes[0].tolist() == [4, 4, 4, 7]
    assert scene.area[0] == 0


@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_run_lengths_plain_and_compressed(seed, share):
    mask = np.random.default_rng(seed).random(SIZE) < share
    packed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    packed["counts"] = packed["counts"].decode()
    for segmentation in (runs(mask), packed):
        np.testing.assert_array_equal(read_segmentation(segmentation, SIZE, "a"), mask)


def test_polygons_are_those_of_pycocotools():
    polygons = [[2.5, 3.1, 20.2, 4.7, 11.0, 18.9], [22.0, 2.0, 28.0, 2.0, 28.0, 8.0, 22.0, 8.0]]
    expected = reference.decode(reference.merge(reference.frPyObjects(polygons, *SIZE))).astype(bool)
    np.testing.assert_array_equal(read_segmentation(polygons, SIZE, "a"), expected)


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        (None, "must have a segmentation"),
        ([], "must have a segmentation"),
        ([[1, 2, 3, 4]], "polygons of 3 points or more"),
        ([[1, 2, 3, 4, 5, "x"]], "polygons of 3 points or more"),
        ({"size": [30, 20], "counts": [600]}, r"its mask is of \[30, 20\] pixels, its picture of \[20, 30\]"),
        ({"size": [20, 30], "counts": [500]}, "must sum to 600"),
        ({"size": [20, 30], "counts": "zzzz"}, "are damaged"),
        ({"size": [20, 30]}, "must have a segmentation"),
    ],
)
def test_malformed_masks(segmentation, fault):
    with pytest.raises(DataFault, match=f"annotation 4: .*{fault}"):
        read_segmentation(segmentation, SIZE, "annotation 4")


ALTERED = {
    "category": (
        lambda data: data["annotations"][0].update(category_id=99),
        r"instances_train2017\.json, annotation 1 of a\.jpg: is of category 99, which is not listed",
    ),
    "three numbers": (
        lambda data: data["annotations"][0].update(bbox=[1, 2, 3]),
        r"annotation 1 of a\.jpg: must have a bbox \[x, y, width, height\] .* got \[1, 2, 3\]",
    ),
    "negative": (lambda data: data["annotations"][0].update(bbox=[1, 2, -3, 4]), "no side < 0, got"),
    "not a number": (lambda data: data["annotations"][0].update(bbox=[1, 2, "3", 4]), "must have a bbox"),
    "no box": (lambda data: data["annotations"][0].pop("bbox"), "must have a bbox .* got None"),
    "area": (lambda data: data["annotations"][0].update(area="big"), "must have a number as its area, got 'big'"),
    "outside": (
        lambda data: data["annotations"][0].update(bbox=[40, 2, 3, 4]),
        r"a\.jpg: box 0 .* is outside the picture of 20 x 30",
    ),
    "missing image": (
        lambda data: data["images"][0].update(file_name="gone.jpg"),
        r"instances_train2017\.json: names the image gone\.jpg, which is not there",
    ),
}


@pytest.mark.parametrize("case", ALTERED)
def test_faults_are_named_or_skipped(coco, case):
    alter, fault = ALTERED[case]
    change(coco, alter)
    with pytest.raises(DataFault, match=fault):
        opened(coco).train[0]
    splits = opened(coco, on_error="skip")
    assert (len(splits.train), len(splits.skipped)) == (1, 1)
    with pytest.raises(DataFault, match=fault):
        raise DataFault(*splits.skipped[0].split(": ", 1))


def test_an_annotation_of_an_unknown_image(coco):
    change(coco, lambda data: data["annotations"][0].update(image_id=99))
    with pytest.raises(DataFault, match="annotation 1 is of image 99, which is not listed"):
        opened(coco)
    splits = opened(coco, on_error="skip")
    assert (len(splits.train), len(splits.skipped)) == (2, 1)


def test_damaged_json(coco):
    change(coco, lambda data: data["annotations"][1].pop("image_id"))
    with pytest.raises(DataFault, match=r"annotations\[1\] has no 'image_id'"):
        opened(coco)
    change(coco, lambda data: data.pop("annotations"))
    with pytest.raises(DataFault, match="must hold a list 'annotations' of objects"):
        opened(coco)
    (coco / "annotations" / "instances_train2017.json").write_text('{"images": [')
    with pytest.raises(DataFault, match=r"instances_train2017\.json: cannot be read as JSON"):
        opened(coco)


def test_ids_that_cannot_be_told_apart(coco):
    change(coco, lambda data: data["annotations"][1].update(category_id=[5]))
    with pytest.raises(DataFault, match=r"annotations\[1\] must have a number or a text as its category_id"):
        opened(coco)
    (coco / "annotations" / "instances_train2017.json").write_text(json.dumps(content()))
    change(coco, lambda data: data["images"][1].update(id=7))
    with pytest.raises(DataFault, match="has id 7 twice among its images"):
        opened(coco)
    (coco / "annotations" / "instances_train2017.json").write_text(json.dumps(content()))
    change(coco, lambda data: data["categories"][1].update(id=18))
    with pytest.raises(DataFault, match="has id 18 twice among its categories"):
        opened(coco)


def test_categories_of_the_splits_must_agree(coco):
    change(coco, lambda data: data["categories"][0].update(name="wolf"), "val2017")
    with pytest.raises(UserError, match="categories of training and validation differ: dog, wolf"):
        opened(coco)


def test_what_is_looked_for(coco, tmp_path):
    file = coco / "annotations" / "instances_train2017.json"
    (coco / "annotations" / "instances_train2014.json").write_text(file.read_text())
    with pytest.raises(UserError, match=r"there must be one annotations/instances_train\*\.json, found .*2014.*2017"):
        opened(coco)
    with pytest.raises(UserError, match=r"looked for annotations/instances_\{train,val\}\*\.json"):
        opened(coco / "train2017")


def test_names_of_pictures_may_be_absolute(coco):
    """Fault: a picture outside of data.root ended in a traceback."""
    outside = coco.parent / "elsewhere.jpg"
    (coco / "train2017" / "a.jpg").rename(outside)

    def alter(data):
        data["images"][0]["file_name"] = str(outside)

    change(coco, alter)
    assert opened(coco).train[0][0].size == (30, 20)
