"""What is checked of every scene."""

import numpy as np
import pytest

from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.scenes.scene import fit_scene, make_scene


def test_boxes_that_reach_out_are_clipped():
    scene = make_scene("street", (10, 20), [[-3, 2, 5, 12], [0, 0, 20, 10]], [1, 0])
    assert scene.boxes.tolist() == [[0, 2, 5, 10], [0, 0, 20, 10]]
    assert (scene.boxes.dtype, scene.labels.dtype, scene.crowd.dtype) == (np.float32, np.int64, bool)


def test_no_objects_is_legal():
    scene = make_scene("street", (10, 20))
    assert scene.boxes.shape == (0, 4)
    assert scene.labels.shape == scene.crowd.shape == (0,)


@pytest.mark.parametrize("box", [[4, 4, 4, 4], [0, 3, 5, 3], [20, 10, 20, 10], [20, 2, 20, 5]])
def test_boxes_without_area_are_kept(box):
    assert make_scene("street", (10, 20), [box], [0]).boxes.tolist() == [box]


@pytest.mark.parametrize(
    ("box", "fault"),
    [
        ([25, 2, 30, 5], r"box 1 \(x0, y0, x1, y1 = 25, 2, 30, 5\) is outside the picture of 10 x 20"),
        ([20, 2, 30, 5], "is outside"),
        ([-5, 2, 0, 5], "is outside"),
        ([-5, 2, -5, 2], "is outside"),
        ([2, 10, 3, 12], "is outside"),
        ([5, 2, 4, 5], "ends before it begins"),
        ([5, 2, float("nan"), 5], "is not finite"),
    ],
)
def test_impossible_boxes_are_named(box, fault):
    with pytest.raises(DataFault, match=rf"street: .*{fault}"):
        make_scene("street", (10, 20), [[0, 0, 1, 1], box], [0, 0])


def test_masks_of_another_size_are_named():
    with pytest.raises(DataFault, match="street: the class mask of 10 x 19 pixels do not fit the picture of 10 x 20"):
        make_scene("street", (10, 20), classes=np.zeros((10, 19), np.uint8))
    with pytest.raises(DataFault, match="the object masks of 9 x 20 pixels"):
        make_scene("street", (10, 20), [[0, 0, 1, 1]], [0], masks=np.zeros((1, 9, 20), bool))


def test_objects_of_different_numbers_are_named():
    with pytest.raises(DataFault, match="objects differ in number: 1 boxes, 2 labels, 2 crowd"):
        make_scene("street", (10, 20), [[0, 0, 1, 1]], [0, 1])


def test_fitting_twice_changes_nothing():
    scene = make_scene("street", (10, 20), [[-3, 2, 5, 12]], [1])
    np.testing.assert_array_equal(fit_scene(scene, (10, 20)).boxes, scene.boxes)
