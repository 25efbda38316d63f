"""Pictures, boxes and masks move together."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import DatasetSpec, Splits
from step_ahsar.data.scenes.scene import make_scene
from step_ahsar.data.scenes.transforms import build_scene_transform
from step_ahsar.errors import UserError


def nothing(config: DataConfig) -> Splits:
    raise AssertionError("not to be opened")


def spec(modality="static", in_chans=3, size=(10, 20), mirrors=True):
    mean = () if modality == "event" else (0.5,) * in_chans
    return DatasetSpec(
        "toy", in_chans, size, mean, mean, None, nothing, mirrors, modality, tasks=("segmentation", "detection")
    )


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blocks(height=10, width=20):
    """Two objects that fill their boxes."""
    masks = np.zeros((2, height, width), bool)
    masks[0, 1:4, 2:8] = True
    masks[1, 5:10, 12:18] = True
    classes = (masks[0] + 2 * masks[1]).astype(np.uint8)
    return make_scene("toy", (height, width), [[2, 1, 8, 4], [12, 5, 18, 10]], [0, 1], masks, classes)


def test_without_augmentation_pixels_are_only_normalised():
    pixels, scene = noise(10, 20, 3), blocks()
    for training in (True, False):
        x, target = build_scene_transform(DataConfig(), spec(), 4, training)(Image.fromarray(pixels), scene)
        torch.testing.assert_close(x, (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - 0.5) / 0.5)
        assert target["boxes"].tolist() == scene.boxes.tolist()
        assert target["area"].tolist() == [18, 30]
        np.testing.assert_array_equal(target["masks"], scene.masks)
        np.testing.assert_array_equal(target["classes"], scene.classes)
    dtypes = {key: value.dtype for key, value in target.items()}
    assert dtypes == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "crowd": torch.bool,
        "area": torch.float32,
        "masks": torch.bool,
        "classes": torch.int64,
    }
    assert all(type(part) is torch.Tensor for part in (x, *target.values()))


def test_resizing_keeps_the_aspect_and_pads_right_and_below():
    # 10 x 20 into 30 x 40: the factor is 2, so 20 x 40 are filled and 10 rows are padding.
    config = DataConfig(img_size=(30, 40))
    x, target = build_scene_transform(config, spec(), 4, False)(Image.fromarray(noise(10, 20, 3)), blocks())
    assert x.shape == (3, 30, 40)
    assert (x[:, 20:] == 0).all()
    assert target["boxes"].tolist() == [[4, 2, 16, 8], [24, 10, 36, 20]]
    assert target["area"].tolist() == [72, 120]
    assert target["masks"].flatten(1).sum(1).tolist() == [72, 120]
    assert (target["classes"][20:] == 255).all()
    assert target["classes"][:20].unique().tolist() == [0, 1, 2]
    narrow = build_scene_transform(DataConfig(img_size=(10, 12)), spec(), 4, False)
    x, target = narrow(Image.fromarray(noise(10, 20, 3)), blocks())  # the factor is 0.6
    assert (x[:, 6:] == 0).all()
    torch.testing.assert_close(target["boxes"][1], torch.tensor([7.2, 3.0, 10.8, 6.0]))
    torch.testing.assert_close(target["area"], torch.tensor([18.0, 30.0]) * 0.36)


def test_test_size_is_of_test_data():
    config, image = DataConfig(img_size=(10, 20), test_size=(20, 40)), Image.fromarray(noise(10, 20, 3))
    transforms = [build_scene_transform(config, spec(), 4, training) for training in (True, False)]
    shapes = [transform(image, blocks())[0].shape for transform in transforms]
    assert shapes == [(3, 10, 20), (3, 20, 40)]


def test_masks_are_sampled_at_the_middle_of_pixels():
    # A third of the columns: the middle one of each three, not the first.
    classes = np.tile(np.array([0, 1, 0], np.uint8), (3, 4))
    scene = make_scene("toy", (3, 12), classes=classes)
    transform = build_scene_transform(DataConfig(img_size=(1, 4)), spec(), 4, False)
    assert transform(Image.fromarray(noise(3, 12, 3)), scene)[1]["classes"].tolist() == [[1, 1, 1, 1]]


def test_a_flip_moves_everything():
    pixels, scene = noise(10, 20, 3), blocks()
    x, target = build_scene_transform(DataConfig(hflip=1.0), spec(), 4, True)(Image.fromarray(pixels), scene)
    still, _ = build_scene_transform(DataConfig(), spec(), 4, True)(Image.fromarray(pixels), scene)
    torch.testing.assert_close(x, still.flip(2))
    assert target["boxes"].tolist() == [[12, 1, 18, 4], [2, 5, 8, 10]]
    np.testing.assert_array_equal(target["masks"], scene.masks[..., ::-1])
    np.testing.assert_array_equal(target["classes"], scene.classes[..., ::-1])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), low=st.floats(0.1, 1), aspect=st.floats(1, 2))
def test_boxes_still_hold_their_masks_after_any_crop(seed, low, aspect):
    """In pixels of the output, a mask's extent is its box but for the rounding of one pixel."""
    config = DataConfig(scale=(low, 1.0), ratio=(1 / aspect, aspect), hflip=0.5, color_jitter=0.4, img_size=(24, 40))
    torch.manual_seed(seed)
    x, target = build_scene_transform(config, spec(), 4, True)(Image.fromarray(noise(10, 20, 3)), blocks())
    assert x.shape == (3, 24, 40)
    assert x.isfinite().all()
    count = len(target["labels"])
    assert {len(target[key]) for key in ("boxes", "masks", "crowd", "area")} == {count}
    for box, label, mask, area in zip(*(target[key] for key in ("boxes", "labels", "masks", "area")), strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert all(abs(float(a) - float(b)) <= 1 for a, b in zip(extent, box, strict=True))
        assert (target["classes"][mask] == label + 1).all()
        torch.testing.assert_close(area, (box[2:] - box[:2]).prod())
    assert set(target["classes"].unique().tolist()) - {0, 255} <= {1, 2}


def test_objects_that_leave_are_dropped_with_all_that_is_theirs():
    masks = np.zeros((3, 10, 20), bool)
    masks[0, :, :2] = masks[1, 4:6, 8:12] = masks[2, :, 18:] = True
    boxes = [[0, 0, 2, 10], [8, 4, 12, 6], [18, 0, 20, 10]]
    scene = make_scene("toy", (10, 20), boxes, [5, 6, 7], masks, crowd=[False, True, False], area=[1, 2, 3])
    transform = build_scene_transform(DataConfig(scale=(0.5, 0.5)), spec(), 4, True)
    for seed in range(20):
        torch.manual_seed(seed)
        _, target = transform(Image.fromarray(noise(10, 20, 3)), scene)
        labels = target["labels"].tolist()
        assert 6 in labels  # half the area is 7 x 14 pixels, which always hold the middle
        assert len(labels) < 3
        assert target["crowd"].tolist() == [label == 6 for label in labels]
        assert len(target["masks"]) == len(target["area"]) == len(target["boxes"]) == len(labels)
        assert target["masks"].flatten(1).any(1).all()


def test_the_same_draws_give_the_same_scene():
    config = DataConfig(scale=(0.2, 1.0), hflip=0.5, color_jitter=0.4)
    transform, image = build_scene_transform(config, spec(), 4, True), Image.fromarray(noise(10, 20, 3))
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(transform(image, blocks()))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_a_picture_without_objects():
    config = DataConfig(scale=(0.2, 1.0), hflip=0.5, img_size=16)
    scene = make_scene("toy", (10, 20), masks=np.zeros((0, 10, 20), bool))
    _, target = build_scene_transform(config, spec(), 4, True)(Image.fromarray(noise(10, 20, 3)), scene)
    assert {key: tuple(value.shape) for key, value in target.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "crowd": (0,),
        "area": (0,),
        "masks": (0, 16, 16),
    }


def test_with_an_encoder_pixels_stay_between_0_and_1():
    pixels = noise(10, 20, 3)
    x, _ = build_scene_transform(DataConfig(encoder="rate"), spec(), 4, True)(Image.fromarray(pixels), blocks())
    torch.testing.assert_close(x, torch.from_numpy(pixels).permute(2, 0, 1) / 255)


def test_grey_and_colour_are_converted():
    image = Image.fromarray(noise(10, 20, 3))
    assert build_scene_transform(DataConfig(), spec(in_chans=1), 4, True)(image, blocks())[0].shape == (1, 10, 20)
    assert build_scene_transform(DataConfig(), spec(), 4, True)(image.convert("P"), blocks())[0].shape == (3, 10, 20)


@pytest.mark.parametrize(("time_steps", "shown"), [(16, range(16)), (4, [3, 7, 11, 15]), (3, [5, 10, 15]), (1, [15])])
def test_a_moving_picture_gives_frames_that_end_with_the_last(time_steps, shown):
    frames = np.arange(16, dtype=np.uint8)[:, None, None].repeat(10, 1).repeat(20, 2)
    transform = build_scene_transform(DataConfig(), spec("sequence", 1), time_steps, False)
    x, _ = transform(frames, blocks())
    assert x.shape == (time_steps, 1, 10, 20)
    assert ((x[:, 0, 0, 0] * 0.5 + 0.5) * 255).round().tolist() == list(shown)


def test_a_moving_picture_in_colour_with_fewer_frames_than_steps():
    frames = noise(2, 10, 20, 3)
    x, _ = build_scene_transform(DataConfig(), spec("sequence"), 4, False)(frames, blocks())
    expected = (torch.from_numpy(frames[[0, 0, 1, 1]]).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    torch.testing.assert_close(x, expected)


def test_event_frames_are_not_normalised_and_padded_with_nothing():
    frames = np.random.default_rng(0).integers(0, 5, (4, 2, 10, 20)).astype(np.int16)
    x, _ = build_scene_transform(DataConfig(), spec("event", 2), 4, True)(frames, blocks())
    torch.testing.assert_close(x, torch.from_numpy(frames).float())
    config = DataConfig(img_size=32, hflip=1.0)
    x, target = build_scene_transform(config, spec("event", 2), 4, True)(frames, blocks())
    assert x.shape == (4, 2, 32, 32)
    assert (x[..., 16:, :] == 0).all()
    torch.testing.assert_close(target["boxes"][0], torch.tensor([12.0, 1, 18, 4]) * 1.6)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"auto_augment": "rand-m9"}, "data.auto_augment does not apply"),
        ({"re_prob": 0.1}, "data.re_prob does not apply"),
        ({"crop_pct": 0.9}, "data.crop_pct does not apply"),
        ({"scale": (0.5, 1.5)}, "data.scale must be a range within 0 to 1"),
        ({"scale": (0.9, 0.5)}, "data.scale must be a range"),
        ({"ratio": (2.0, 0.5)}, "data.ratio must be a range"),
        ({"interpolation": "lanczos"}, "data.interpolation must be nearest, bilinear or bicubic"),
        ({"mean": (0.5,)}, "data.mean must have one value per channel"),
    ],
)
def test_options_that_do_not_apply(keys, said):
    with pytest.raises(UserError, match=said):
        build_scene_transform(DataConfig(**keys), spec(), 4, False)


def test_options_that_do_not_apply_to_this_kind():
    with pytest.raises(UserError, match=r"data\.hflip must be 0"):
        build_scene_transform(DataConfig(hflip=0.5), spec(mirrors=False), 4, False)
    with pytest.raises(UserError, match=r"data\.color_jitter does not apply"):
        build_scene_transform(DataConfig(color_jitter=0.4), spec("event", 2), 4, False)


def test_an_input_of_another_kind_or_size_is_named():
    transform = build_scene_transform(DataConfig(), spec(), 4, False)
    with pytest.raises(DataFault, match=r"toy: is a ndarray \(10, 20\), which is no static picture of 3 channels"):
        transform(noise(10, 20), blocks())
    with pytest.raises(DataFault, match="toy: the class mask of 10 x 20 pixels do not fit the picture of 12 x 20"):
        transform(Image.fromarray(noise(12, 20, 3)), blocks())
