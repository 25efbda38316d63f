"""Folders of images and masks."""

import os
from pathlib import Path

import numpy as np
import pytest

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.errors import UserError


def opened(root, name="masks", **keys):
    return find_dataset(name).open(DataConfig(name=name, root=str(root), **keys))


def everything(splits):
    return [sample for part in (splits.train, splits.test) for sample in (part[i] for i in range(len(part)))]


@pytest.fixture
def folders(tmp_path, save):
    """Two training images and one test image of 4 x 6 pixels; ids 0, 1, 2 and 255."""
    for split, stem in (("train", "a"), ("train", "b"), ("val", "c")):
        save(tmp_path / "images" / split / f"{stem}.jpg", (4, 6))
        mask = np.zeros((4, 6))
        mask[0], mask[1], mask[2] = 1, 2, 255
        save(tmp_path / "masks" / split / f"{stem}.png", mask)
    return tmp_path


@pytest.fixture
def lists(tmp_path, save):
    """SegNet's layout under another machine's paths; ids 0, 3 and 11."""
    for split, stem in (("train", "x"), ("val", "y")):
        save(tmp_path / split / f"{stem}.png", (4, 6))
        mask = np.zeros((4, 6))
        mask[0], mask[1] = 3, 11
        save(tmp_path / f"{split}annot" / f"{stem}.png", mask)
        line = f"/SegNet/CamVid/{split}/{stem}.png /SegNet/CamVid/{split}annot/{stem}.png\n"
        (tmp_path / f"{split}.txt").write_text(line)
    return tmp_path


def test_plain_folders(folders):
    splits = opened(folders)
    assert (len(splits.train), len(splits.test)) == (2, 1)
    assert splits.classes == splits.pixel_classes == ("0", "1", "2")
    image, scene = splits.train[0]
    assert image.size == (6, 4)
    assert scene.classes[:, 0].tolist() == [1, 2, 255, 0]
    assert scene.boxes.shape == (0, 4)
    assert scene.name.endswith("a.jpg")
    assert find_dataset("masks/of/mine").name == "masks"


def test_listed_classes_with_void_anywhere(folders):
    (folders / "classes.txt").write_text("road\nvoid\ntree\n\n")
    splits = opened(folders)
    assert splits.classes == ("road", "tree")
    assert splits.train[0][1].classes[:, 0].tolist() == [255, 1, 255, 0]


def test_masks_with_a_palette_are_read_as_indices(folders, save):
    mask = np.tile(np.array([0, 1, 2, 255, 1, 0]), (4, 1))
    save(folders / "masks" / "train" / "a.png", mask, palette=True)
    np.testing.assert_array_equal(opened(folders).train[0][1].classes, mask)


def test_lists_keep_a_foreign_prefix_and_camvid_has_names(lists):
    splits = opened(lists)
    assert len(splits.classes) == 11
    assert splits.classes[3] == "road"
    assert splits.test[0][1].classes[:, 0].tolist() == [3, 255, 0, 0]


def test_lists_that_are_not_camvids(lists):
    for split in ("train", "val"):
        file = lists / f"{split}.txt"
        file.write_text(file.read_text().replace("CamVid", "streets"))
    splits = opened(lists)
    assert splits.classes == tuple(map(str, range(12)))
    assert splits.test[0][1].classes[:, 0].tolist() == [3, 11, 0, 0]


def test_the_fingerprint_tells_data_apart(folders, save):
    before = opened(folders).fingerprint
    assert opened(folders).fingerprint == before
    save(folders / "images" / "train" / "d.jpg", (4, 6))
    save(folders / "masks" / "train" / "d.png", np.zeros((4, 6)))
    assert opened(folders).fingerprint != before


def test_the_fingerprint_tells_parts_apart(lists):
    """Fault: after two lines had changed places, evaluate measured training pictures as test pictures."""
    before = opened(lists).fingerprint
    train, val = ((lists / f"{part}.txt").read_text() for part in ("train", "val"))
    (lists / "train.txt").write_text(val)
    (lists / "val.txt").write_text(train)
    assert opened(lists).fingerprint != before


def faulty(folders, save, fault):
    """Makes the training image a, or its mask, unusable."""
    image, mask = folders / "images/train/a.jpg", folders / "masks/train/a.png"
    if fault == "size":
        save(mask, np.zeros((5, 6)))
    elif fault == "ids":
        save(mask, np.full((4, 6), 7))
    elif fault == "colours":
        save(mask, (4, 6))
    elif fault == "no mask":
        mask.unlink()
    elif fault == "no image":
        image.unlink()
    elif fault == "corrupt image":
        image.write_bytes(image.read_bytes()[:200])
    elif fault == "no picture":
        image.write_text("words")
    elif fault == "corrupt mask":
        mask.write_bytes(mask.read_bytes()[:40])


FAULTS = {
    "size": r"a\.png: is of 5 x 6 pixels \(rows x columns\), its image a\.jpg of 4 x 6",
    "ids": r"a\.png: has class ids beyond the list: 7; there are 3 classes",
    "colours": r"a\.png: is a mask of mode RGB; class ids are wanted",
    "no mask": r"a\.png: there is no such mask",
    "no image": r"a\.png: there is no image of this name in .*train",
    "corrupt image": r"a\.jpg: is no image that can be read",
    "no picture": r"a\.jpg: is no image that can be read",
    "corrupt mask": r"a\.png: is no image that can be read",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named_or_skipped(folders, save, fault):
    (folders / "classes.txt").write_text("road\ntree\ncar\n")
    faulty(folders, save, fault)
    with pytest.raises(DataFault, match=FAULTS[fault]):
        everything(opened(folders))
    splits = opened(folders, on_error="skip")
    assert (len(splits.train), len(splits.test), len(splits.skipped)) == (1, 1, 1)
    assert len(everything(splits)) == 2
    with pytest.raises(DataFault, match=FAULTS[fault]):
        raise DataFault(*splits.skipped[0].split(": ", 1))


def test_skipping_works_without_a_class_list(folders, save):
    faulty(folders, save, "corrupt mask")
    with pytest.raises(DataFault, match=r"a\.png"):
        opened(folders)
    splits = opened(folders, on_error="skip")
    assert splits.classes == ("0", "1", "2")
    assert len(splits.skipped) == 1


def test_a_list_of_missing_files_and_one_without_masks(lists):
    (lists / "train.txt").write_text("/far/CamVid/train/z.png /far/CamVid/trainannot/z.png\n")
    with pytest.raises(DataFault, match=r"train/z\.png: there is no such image"):
        everything(opened(lists))
    (lists / "train.txt").write_text("train/x.png\n")
    with pytest.raises(
        UserError, match=r"train\.txt, line 1: must be the path of an image and the path of a mask, got 'train/x\.png'"
    ):
        opened(lists)


def test_a_folder_that_holds_something_else(tmp_path):
    with pytest.raises(UserError, match=r"looked for train\.txt and val\.txt\|test\.txt .* in .*, not found"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"data\.root is not set; set it to the place of dataset 'masks': train\.txt"):
        find_dataset("masks").open(DataConfig(name="masks"))
    with pytest.raises(UserError, match="not found"):
        opened(tmp_path / "nowhere")


def test_an_empty_split_and_a_class_twice(folders):
    (folders / "classes.txt").write_text("road\nroad\n")
    with pytest.raises(DataFault, match=r"classes\.txt: names 'road' twice"):
        opened(folders)
    (folders / "classes.txt").unlink()
    for file in ("images/val/c.jpg", "masks/val/c.png"):
        (folders / file).unlink()
    with pytest.raises(UserError, match="no test sample in"):
        opened(folders)


def test_cityscapes_layout(tmp_path, save):
    for split, city in (("train", "ulm"), ("val", "bonn")):
        stem = f"{city}_000000_000019"
        save(tmp_path / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png", (4, 6))
        # car, road, unlabelled, parking (not evaluated), bicycle, building
        mask = np.tile(np.array([26, 7, 0, 9, 33, 11]), (4, 1))
        save(tmp_path / "gtFine" / split / city / f"{stem}_gtFine_labelIds.png", mask)
    splits = opened(tmp_path, "cityscapes")
    assert len(splits.classes) == 19
    assert splits.train[0][1].classes[0].tolist() == [13, 0, 255, 255, 18, 2]
    assert splits.classes[13] == "car"
    save(mask_path := next(tmp_path.rglob("bonn*labelIds.png")), np.full((4, 6), 34))
    with pytest.raises(DataFault, match=f"{mask_path.name}: has class ids beyond the list: 34"):
        splits.test[0]
    with pytest.raises(UserError, match="looked for leftImg8bit"):
        opened(tmp_path / "gtFine", "cityscapes")


def test_ade20k_layout(tmp_path, save):
    root = tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        save(root / "images" / split / "ADE_1.jpg", (4, 6))
        save(root / "annotations" / split / "ADE_1.png", np.tile(np.array([0, 1, 150, 2, 0, 0]), (4, 1)))
    splits = opened(tmp_path, "ade20k")
    assert splits.train[0][1].classes[0].tolist() == [255, 0, 149, 1, 255, 255]
    assert (len(splits.classes), splits.classes[0]) == (150, "1")
    rows = [f"{i}\t0.1\t5\t5\tthing {i}, other" for i in range(1, 151)]
    (root / "objectInfo150.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]))
    assert opened(root, "ade20k").classes[149] == "thing 150, other"
    save(root / "annotations/training/ADE_1.png", np.full((4, 6), 151))
    with pytest.raises(DataFault, match="beyond the list: 151; there are 150 classes"):
        splits.train[0]


@pytest.mark.skipif("STEP_AHSAR_DATA" not in os.environ, reason="needs STEP_AHSAR_DATA, a folder with camvid")
def test_camvid():
    splits = opened(Path(os.environ["STEP_AHSAR_DATA"]) / "camvid")
    counts = sum(np.bincount(scene.classes.ravel(), minlength=256) for _, scene in everything(splits))
    assert (len(splits.train), len(splits.test)) == (60, 20)
    assert counts.sum() == 80 * 360 * 480
    assert np.flatnonzero(counts).tolist() == [*range(11), 255]
