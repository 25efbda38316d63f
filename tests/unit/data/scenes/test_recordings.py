"""Folders of event recordings with masks or boxes."""

import json
import os

import numpy as np
import pytest

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import open_data
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.errors import UserError


def opened(root, **keys):
    return find_dataset("event_scenes").open(DataConfig(name="event_scenes", root=str(root), **keys))


def boxes(*entries, size=(20, 30)):
    content = {"boxes": [entry[1:] for entry in entries], "labels": [entry[0] for entry in entries]}
    return json.dumps(content if size is None else content | {"size": size})


@pytest.fixture
def scenes(tmp_path, save):
    """Two training recordings and a test recording of a sensor of 20 x 30 pixels, with masks and boxes."""
    rng = np.random.default_rng(0)
    (tmp_path / "classes.txt").write_text("background\ncar\nvoid\nbus\n")
    for split, stem in (("train", "a"), ("train", "b"), ("test", "c")):
        mask = np.zeros((20, 30))
        mask[0], mask[1], mask[2] = 1, 2, 3
        path = save(tmp_path / split / f"{stem}.png", mask)
        events = [rng.integers(0, 30, 50), rng.integers(0, 20, 50), np.arange(50) * 10, rng.integers(0, 2, 50)]
        np.save(path.with_suffix(".npy"), np.stack(events, 1))
        path.with_suffix(".json").write_text(boxes(["bus", 2, 3, 9, 12], ["car", 5, 6, 40, 9]))
    return tmp_path


def test_masks_and_boxes(scenes):
    splits = opened(scenes)
    assert (len(splits.train), len(splits.test), splits.size) == (2, 1, (20, 30))
    assert splits.classes == ("car", "bus")
    assert splits.pixel_classes == ("background", "car", "bus")
    recording, scene = splits.train[0]
    assert (len(recording), recording.sensor) == (50, (20, 30))
    assert scene.boxes.tolist() == [[2, 3, 9, 12], [5, 6, 30, 9]]
    assert scene.labels.tolist() == [1, 0]
    assert scene.classes[:4, 0].tolist() == [1, 255, 2, 0]


def test_edited_labels_are_not_taken_from_the_cache(scenes):
    """Fault: targets were cached under names and sizes, so labels of equal length came back stale."""
    values = {"data.name": "event_scenes", "data.root": str(scenes), "data.validation": 0, "data.batch_size": 1}

    def labels():
        data = open_data(Config().with_values(values | {"task": "detection"}))
        return next(iter(data.test_batches()))[1][0]["labels"].tolist()

    assert labels() == labels() == [1, 0]
    file = scenes / "test" / "c.json"
    stamp = file.stat().st_mtime_ns
    file.write_text(boxes(["car", 2, 3, 9, 12], ["bus", 5, 6, 40, 9]))  # as many characters
    os.utime(file, ns=(stamp + 1, stamp + 1))  # clocks may not have moved on
    assert labels() == [0, 1]


def remove(root, suffix):
    for path in root.rglob(f"*{suffix}"):
        path.unlink()


def test_masks_alone_and_boxes_alone(scenes):
    texts = {path: path.read_text() for path in scenes.rglob("*.json")}
    remove(scenes, ".json")
    splits = opened(scenes)
    assert (splits.classes, len(splits.pixel_classes)) == ((), 3)
    assert splits.train[0][1].boxes.shape == (0, 4)
    remove(scenes, ".png")
    with pytest.raises(DataFault, match=r"a\.npy: has neither a mask a\.png nor boxes a\.json"):
        opened(scenes)
    for path, text in texts.items():
        path.write_text(text)
    splits = opened(scenes)
    assert (splits.classes, splits.pixel_classes, splits.size) == (("car", "bus"), (), (20, 30))
    assert splits.train[0][1].classes is None
    (scenes / "train" / "a.json").write_text(boxes(size=None))
    with pytest.raises(DataFault, match=r"a\.json: must have size: \[height, width\]"):
        opened(scenes)


def test_no_boxes_are_legal(scenes):
    (scenes / "train" / "b.json").write_text(boxes(size=None))
    assert opened(scenes).train[1][1].boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("b.json", boxes(["van", 1, 2, 3, 4]), r"has label 'van', which is not in classes\.txt: car, bus"),
        ("b.json", boxes(["car", 1, 2, 3]), r"box 0 must be four numbers x0, y0, x1, y1, got \[1, 2, 3\]"),
        ("b.json", boxes(["car", 31, 2, 33, 4]), r"b\.npy: box 0 .* is outside the picture of 20 x 30"),
        ("b.json", boxes(size=[20, 31]), r"has size \[20, 31\], but its mask is of \[20, 30\]"),
        ("b.json", boxes(size="big"), r"size must be \[height, width\] of the sensor, got big"),
        ("b.json", "{}", "must hold lists boxes and labels of one length"),
        ("b.json", "{", r"b\.json: cannot be read as JSON"),
        ("b.json", None, r"b\.json: there is no such file of boxes"),
        ("b.png", None, r"b\.png: there is no such mask"),
        ("b.npy", "words", r"b\.npy: "),
        ("b.npy", None, r"b\.(json|png): there is no recording of this name beside it"),
    ],
)
def test_faults_are_named_or_skipped(scenes, name, text, fault):
    path = scenes / "train" / name
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(DataFault, match=fault):
        opened(scenes).train[1]
    splits = opened(scenes, on_error="skip")
    assert (len(splits.train), len(splits.test)) == (1, 1)
    assert splits.skipped
    with pytest.raises(DataFault, match=fault):
        raise DataFault(*splits.skipped[0].split(": ", 1))


def test_a_mask_smaller_than_the_sensor(scenes, save):
    save(scenes / "train" / "b.png", np.zeros((10, 10)))
    (scenes / "train" / "b.json").write_text(boxes(size=None))
    with pytest.raises(DataFault, match=r"b\.npy: .*outside the sensor of 10 x 10"):
        opened(scenes).train[1]


def test_what_is_looked_for(scenes):
    (scenes / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"looked for classes\.txt, train/\* and test\|val/\* of recordings"):
        opened(scenes)
