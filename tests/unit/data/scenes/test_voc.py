"""Pascal VOC."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.errors import UserError


def opened(root, name="voc", **keys):
    return find_dataset(name).open(DataConfig(**{"name": name, "root": str(root), "validation": 0, **keys}))


def annotation(filename, *objects):
    entries = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, difficult, x0, y0, x1, y1 in objects
    )
    return f"<annotation><filename>{filename}</filename>{entries}</annotation>"


@pytest.fixture
def voc(tmp_path, save):
    """Four images of 20 x 30 pixels; `empty` has no objects."""
    objects = {
        "one": [("cell", 0, 1, 1, 30, 20), ("blob", 1, 5, 6, 10, 8)],
        "two": [("cell", 0, 7, 7, 7, 7)],
        "three": [("blob", 0, 25, 2, 33, 9)],
        "empty": [],
    }
    (tmp_path / "Annotations").mkdir()
    for stem, entries in objects.items():
        save(tmp_path / "JPEGImages" / f"{stem}.jpg", (20, 30))
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(annotation(f"{stem}.jpg", *entries))
    lists = {"train": "one\n", "val": "two\n", "trainval": "one\ntwo  1\n", "test": "three\nempty\n"}
    folder = tmp_path / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text(lines)
    return tmp_path


def test_the_fingerprint_is_of_the_pictures_that_annotations_name(voc, save):
    save(voc / "JPEGImages" / "other.png", (20, 30))
    (voc / "Annotations" / "one.xml").write_text(annotation("other.png", ("cell", 0, 1, 1, 30, 20)))
    before = opened(voc).fingerprint
    Image.new("RGB", (30, 20), "red").save(voc / "JPEGImages" / "other.png")
    assert opened(voc).fingerprint != before


def test_the_fingerprint_tells_parts_apart(voc):
    before = opened(voc).fingerprint
    lists = voc / "ImageSets" / "Main"
    (lists / "trainval.txt").write_text("three\ntwo\n")
    (lists / "test.txt").write_text("one\nempty\n")
    assert opened(voc).fingerprint != before


def test_boxes_and_classes(voc):
    splits = opened(voc)
    assert splits.classes == ("blob", "cell")
    assert splits.pixel_classes == ()
    image, scene = splits.train[0]
    assert image.size == (30, 20)
    # 1-based and inclusive becomes 0-based and exclusive: the first box is the whole image.
    assert scene.boxes.tolist() == [[0, 0, 30, 20], [4, 5, 10, 8]]
    assert scene.labels.tolist() == [1, 0]
    assert scene.crowd.tolist() == [False, True]  # difficult
    assert splits.train[1][1].boxes.tolist() == [[6, 6, 6, 6]]  # corners that coincide: no area
    assert splits.test[0][1].boxes.tolist() == [[24, 1, 30, 9]]  # clipped
    assert splits.test[1][1].boxes.shape == (0, 4)  # legal


def test_which_lists_are_used(voc):
    lists = voc / "ImageSets" / "Main"
    assert (len(opened(voc).train), len(opened(voc).test)) == (2, 2)
    (lists / "trainval.txt").unlink()
    assert (len(opened(voc).train), len(opened(voc).test)) == (1, 2)
    (lists / "test.txt").unlink()
    assert (len(opened(voc).train), len(opened(voc).test)) == (1, 1)
    (lists / "val.txt").unlink()
    with pytest.raises(UserError, match=r"looked for Annotations/\*\.xml, JPEGImages and ImageSets/Main/"):
        opened(voc)


def test_val_is_for_validation_where_there_is_a_test_list(voc):
    splits = opened(voc, validation=0.1)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1, 1, 2)
    assert "two" in splits.validation[0][1].name
    (voc / "ImageSets" / "Main" / "test.txt").unlink()
    splits = opened(voc, validation=0.1)
    assert splits.validation is None
    assert "two" in splits.test[0][1].name


def test_the_published_classes_where_they_are_enough(voc):
    for file in (voc / "Annotations").iterdir():
        file.write_text(file.read_text().replace("cell", "person").replace("blob", "aeroplane"))
    splits = opened(voc)
    assert len(splits.classes) == 20
    assert splits.train[0][1].labels.tolist() == [14, 0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (annotation("gone.jpg"), r"one\.xml: names the image JPEGImages/gone\.jpg, which is not there"),
        (annotation("one.jpg", ("cell", 0, 40, 3, 50, 9)), r"one\.xml: box 0 .* is outside the picture of 20 x 30"),
        (annotation("one.jpg", ("cell", 0, 9, 3, 8, 9)), r"one\.xml: box 0 .* ends before it begins"),
        (annotation("one.jpg", ("cell", 0, "a", 3, 8, 9)), r"one\.xml: object 0 must have numbers xmin"),
        (annotation("one.jpg", ("", 0, 1, 3, 8, 9)), r"one\.xml: has an object without a name"),
        ("<annotation><object>", r"one\.xml: cannot be read as XML"),
        (None, r"one\.xml: there is no such annotation"),
    ],
)
def test_faults_are_named_or_skipped(voc, text, fault):
    file = voc / "Annotations" / "one.xml"
    file.unlink() if text is None else file.write_text(text)
    with pytest.raises(DataFault, match=fault):
        opened(voc).train[0]
    splits = opened(voc, on_error="skip")
    assert (len(splits.train), len(splits.test), len(splits.skipped)) == (1, 2, 1)
    with pytest.raises(DataFault, match=fault):
        raise DataFault(*splits.skipped[0].split(": ", 1))


def test_a_corrupt_image_is_named(voc):
    path = voc / "JPEGImages" / "one.jpg"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataFault, match=r"one\.jpg: is no image that can be read"):
        opened(voc).train[0]


def test_segmentation(voc, save):
    folder = voc / "ImageSets" / "Segmentation"
    folder.mkdir()
    for name, stem in (("train", "one"), ("val", "two")):
        (folder / f"{name}.txt").write_text(f"{stem}\n")
        mask = np.zeros((20, 30))
        mask[5], mask[6] = 15, 255
        save(voc / "SegmentationClass" / f"{stem}.png", mask, palette=True)
    splits = opened(voc, "voc_segmentation")
    assert splits.pixel_classes[15] == "person"
    assert splits.train[0][1].classes[4:8, 0].tolist() == [0, 15, 255, 0]
    save(voc / "SegmentationClass" / "one.png", np.full((20, 30), 21), palette=True)
    with pytest.raises(DataFault, match=r"one\.png: has class ids beyond the list: 21; there are 21 classes"):
        splits.train[0]
    save(voc / "SegmentationClass" / "one.png", np.zeros((20, 31)))
    with pytest.raises(
        DataFault, match=r"one\.png: the class mask of 20 x 31 pixels do not fit the picture of 20 x 30"
    ):
        splits.train[0]


@pytest.mark.skipif("STEP_AHSAR_DATA" not in os.environ, reason="needs STEP_AHSAR_DATA, a folder with bccd_voc")
def test_blood_cells():
    splits = opened(Path(os.environ["STEP_AHSAR_DATA"]) / "bccd_voc")
    assert splits.classes == ("Platelets", "RBC", "WBC")
    assert (len(splits.train), len(splits.test)) == (292, 72)
    scenes = [part[i][1] for part in (splits.train, splits.test) for i in range(len(part))]
    counts = sum(np.bincount(scene.labels, minlength=3) for scene in scenes)
    assert counts.tolist() == [361, 4155, 372]
    flat = [scene for scene in scenes if ((scene.boxes[:, 2:] - scene.boxes[:, :2]) <= 0).any()]
    assert sorted(Path(scene.name).stem for scene in flat) == ["BloodImage_00338", "BloodImage_00343"]
