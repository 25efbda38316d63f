"""The embedded scenes."""

import numpy as np
import pytest
import torch

from step_ahsar.config import DataConfig
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.data.embedded.digits import open_digits
from step_ahsar.data.embedded.scenes import DARK, FRAMES, Layout, _shifted, describe, paint
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.scenes.transforms import build_scene_transform

NAMES = ("digits_scenes", "digits_scenes_sequence", "digits_scenes_events")


def scenes(name="digits_scenes"):
    return find_dataset(name).open(DataConfig(name=name))


def same_scene(a, b):
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in ("boxes", "labels", "masks", "classes"))


def test_sizes_and_names_of_classes():
    splits = scenes()
    assert (len(splits.train), len(splits.test)) == (800, 200)
    assert splits.classes == tuple("0123456789")
    assert splits.pixel_classes == ("background", *splits.classes)


def test_the_three_sets_show_the_same_scenes_in_their_own_ways():
    image, scene = scenes().train[11]
    frames, last = scenes(NAMES[1]).train[11]
    recording, end = scenes(NAMES[2]).train[11]
    assert (image.mode, image.size) == ("L", (64, 64))
    assert (frames.shape, frames.dtype) == ((FRAMES, 64, 64), np.uint8)
    assert isinstance(recording, Recording)
    assert recording.sensor == (64, 64)
    assert same_scene(scene, last)
    assert same_scene(scene, end)
    assert len({scenes(name).fingerprint for name in NAMES}) == 3


def test_a_scene_depends_on_its_number_alone_and_splits_differ():
    splits = scenes()
    once = np.asarray(splits.train[5][0])
    splits.train.made.clear()
    for index in (7, 6):
        splits.train[index]
    np.testing.assert_array_equal(once, np.asarray(splits.train[5][0]))
    assert not np.array_equal(once, np.asarray(splits.test[5][0]))
    with pytest.raises(IndexError):
        splits.train[800]


def test_boxes_masks_and_classes_agree():
    splits = scenes()
    for samples in (splits.train, splits.test):
        for index in range(0, len(samples), 10):
            _, scene = samples[index]
            assert 2 <= len(scene.labels) <= 4
            assert (scene.masks.sum(0) <= 1).all()  # a pixel is of one digit
            expected = np.zeros((64, 64), int)
            for box, label, mask, area in zip(scene.boxes, scene.labels, scene.masks, scene.area, strict=True):
                rows, columns = np.nonzero(mask)
                assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert area == mask.sum()
                expected[mask] = label + 1
            np.testing.assert_array_equal(scene.classes, expected)


def test_a_digit_is_where_the_image_is_bright():
    samples = scenes().train
    ink, ground = [], []
    for index in range(50):
        image, scene = samples[index]
        pixels = np.asarray(image, float)
        ink.append(pixels[scene.classes > 0].mean())
        ground.append(pixels[scene.classes == 0].mean())
    assert min(ink) > 120
    assert max(ground) < DARK + 25


def test_what_lies_on_top_is_seen():
    glyph = np.ones((4, 4), np.float32)
    layout = Layout([glyph, 0.5 * glyph], np.array([3, 7]), np.array([[10.0, 10], [12, 12]]))
    scene = describe(layout, "two")
    assert scene.area.tolist() == [12, 16]
    assert scene.boxes.tolist() == [[10, 10, 14, 14], [12, 12, 16, 16]]
    assert (scene.classes[12:14, 12:14] == 8).all()
    assert (paint(layout)[12:16, 12:16] == 0.5).all()
    covered = Layout([glyph, glyph], np.array([3, 7]), np.array([[10.0, 10], [10, 10]]))
    assert describe(covered, "one").labels.tolist() == [7]


def test_digits_are_of_the_split_that_they_should_be():
    digits, splits = open_digits(DataConfig()), scenes()
    for part, source in ((splits.train, digits.train), (splits.test, digits.test)):
        np.testing.assert_array_equal(part.pixels, source.pixels)


def test_every_digit_occurs_about_equally_often():
    samples = scenes().train
    counts = np.bincount(np.concatenate([samples[index][1].labels for index in range(400)]), minlength=10)
    assert counts.min() > 0.7 * counts.mean()


def test_digits_move_and_end_where_the_truth_is():
    frames, scene = scenes("digits_scenes_sequence").train[3]
    frames = frames.astype(float)
    seen = scene.classes > 0
    assert frames[-1][seen].mean() > frames[0][seen].mean() + 20
    steps = np.abs(np.diff(frames, axis=0)).mean((1, 2))
    assert (steps > 8).all()  # noise alone: 6 * 2 / sqrt(pi) = 6.8
    assert frames.min() >= 0


def test_the_statistics_are_those_of_the_training_scenes():
    for name in NAMES[:2]:
        spec, samples = find_dataset(name), scenes(name).train
        pixels = np.stack([np.asarray(samples[index][0]) for index in range(len(samples))]) / 255
        np.testing.assert_allclose([spec.mean[0], spec.std[0]], [pixels.mean(), pixels.std()], atol=5e-5)


def test_events_are_along_the_digits_and_come_back():
    recording, scene = scenes("digits_scenes_events").train[0]
    assert (np.diff(recording.t) >= 0).all()
    assert recording.t[0] >= 0
    assert recording.t[-1] <= 300_000
    assert set(np.unique(recording.p)) == {0, 1}
    counts = np.zeros((64, 64))
    np.add.at(counts, (recording.y, recording.x), 1)
    near = np.zeros((64, 64), bool)
    for left, top, right, bottom in scene.boxes.astype(int):
        near[max(0, top - 7) : bottom + 7, max(0, left - 7) : right + 7] = True
    assert counts[near].mean() > 5 * counts[~near].mean()
    # As often brighter as darker: the scene returns to its place.
    assert abs(recording.p.mean() - 0.5) < 0.05


def test_events_are_the_same_each_time():
    samples = scenes("digits_scenes_events").test
    first, second = samples[4][0], samples[4][0]
    for key in ("x", "y", "t", "p"):
        np.testing.assert_array_equal(getattr(first, key), getattr(second, key))


def test_a_shift_by_whole_and_by_half_pixels():
    canvas = np.zeros((64, 64), np.float32)
    canvas[20, 30] = 1
    moved = _shifted(canvas, 2.0, -3.0)
    assert moved[22, 27] == moved.sum() == 1
    half = _shifted(canvas, 0.5, 0.0)
    assert half[20, 30] == half[21, 30] == 0.5


@pytest.mark.parametrize("name", NAMES[:2])
def test_scenes_pass_through_the_transform(name):
    spec = find_dataset(name)
    raw, scene = scenes(name).train[0]
    x, target = build_scene_transform(DataConfig(name=name, scale=(0.5, 1.0)), spec, 4, True)(raw, scene)
    assert x.shape == ((1, 64, 64) if spec.modality == "static" else (4, 1, 64, 64))
    assert x.dtype == torch.float32
    assert target["classes"].shape == (64, 64)
