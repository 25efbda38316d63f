"""tonic's transforms by config."""

import numpy as np
import pytest
import torch

from step_ahsar.config import Config, EventsConfig
from step_ahsar.data import open_data, seeded
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.representations import to_frames
from step_ahsar.data.events.transforms import transformed
from step_ahsar.errors import UserError

tonic = pytest.importorskip("tonic", reason="comes with the extra events")


def recording(events=400, sensor=(20, 30), duration=50_000, seed=0):
    draw = np.random.default_rng(seed).integers
    x, y = draw(0, sensor[1], events).astype(np.uint16), draw(0, sensor[0], events).astype(np.uint16)
    t = np.sort(draw(0, duration, events))
    return Recording(x, y, t, draw(0, 2, events).astype(np.uint8), sensor)


def theirs(given, *transforms):
    """Tonic's own Compose over the recording's structured events."""
    events = np.empty(len(given), [(name, np.int64) for name in "xytp"])
    for name in "xytp":
        events[name] = getattr(given, name)
    return tonic.transforms.Compose(transforms)(events)


def same(ours, events):
    return all(np.array_equal(getattr(ours, name), events[name]) for name in "xytp")


def config(key="transforms", *transforms, **more):
    return EventsConfig.model_validate({key: list(transforms), **more})


def test_they_are_tonics():
    T, given = tonic.transforms, recording()
    for named, made in (
        ([{"name": "Denoise", "filter_time": 3000}], [T.Denoise(3000)]),
        ([{"name": "TimeSkew", "coefficient": 2, "offset": 7}], [T.TimeSkew(2.0, 7)]),
        ([{"name": "DropPixel", "coordinates": [[1, 2], [3, 4]]}], [T.DropPixel([(1, 2), (3, 4)])]),
        (
            [{"name": "MergePolarities"}, {"name": "RefractoryPeriod", "delta": 9000}],
            [T.MergePolarities(), T.RefractoryPeriod(9000)],
        ),
    ):
        ours = transformed(given, config("transforms", *named), "transforms")
        assert same(ours, theirs(given, *made))
        assert ours.sensor == given.sensor
    drop = [{"name": "DropEvent", "p": [0.2, 0.6]}, {"name": "RandomFlipUD", "p": 1.0}]
    with seeded(1):
        ours = transformed(given, config("train_transforms", *drop), "train_transforms")
    with seeded(1):
        assert same(ours, theirs(given, T.DropEvent((0.2, 0.6)), T.RandomFlipUD((30, 20, 2), 1.0)))
    assert 400 * 0.4 <= len(ours) <= 400 * 0.8


@pytest.mark.parametrize(
    ("transform", "sensor"),
    [
        ({"name": "CenterCrop", "size": 10}, (10, 10)),
        ({"name": "CenterCrop", "size": [12, 8]}, (8, 12)),  # tonic's order is (W, H)
        ({"name": "RandomCrop", "target_size": [12, 8]}, (8, 12)),
        ({"name": "Downsample", "spatial_factor": 0.5}, (10, 15)),
        ({"name": "Downsample", "target_size": [6, 5]}, (5, 6)),
        ({"name": "Decimation", "n": 2}, (20, 30)),
    ],
)
def test_the_sensor_that_is_left_is_what_the_next_one_is_told(transform, sensor):
    key = "train_transforms"
    flip = {"name": "RandomFlipLR", "p": 1.0}
    with seeded(0):
        plain = transformed(recording(), config(key, transform), key)
    with seeded(0):
        flipped = transformed(recording(), config(key, transform, flip), key)
    assert plain.sensor == flipped.sensor == sensor
    assert np.array_equal(flipped.x, sensor[1] - 1 - plain.x.astype(int))
    assert (int(plain.x.max()) + 1, int(plain.y.max()) + 1) == sensor[::-1]


def test_what_one_recording_taught_is_not_kept_for_the_next():
    """Tonic's CropTime without an end remembers the end of the first recording that it sees."""
    named = config("transforms", {"name": "CropTime", "min": 100})
    short, long = recording(duration=10_000), recording(duration=90_000)
    assert int(transformed(short, named, "transforms").t[-1]) < 10_000
    assert int(transformed(long, named, "transforms").t[-1]) > 80_000


def test_times_are_in_order_again_and_nothing_may_be_left():
    key = "train_transforms"
    jittered = transformed(recording(), config(key, {"name": "TimeJitter", "std": 5000}), key)
    assert (np.diff(jittered.t) >= 0).all()
    none = transformed(recording(20), config("transforms", {"name": "Decimation", "n": 99}), "transforms")
    assert len(none) == 0
    assert none.sensor == (20, 30)
    with pytest.raises(
        UserError, match=r"data\.events\.train_transforms: event \d+ has [xy] = -?\d+, outside the sensor"
    ):
        transformed(recording(), config(key, {"name": "SpatialJitter", "var_x": 9.0, "var_y": 9.0}), key)


def test_frames_are_made_of_what_is_left():
    named = config("transforms", {"name": "CenterCrop", "size": [12, 8]})
    cropped = transformed(recording(), named, "transforms")
    assert np.array_equal(to_frames(recording(), named, 3), to_frames(cropped, EventsConfig(), 3))
    padded = to_frames(recording(), named, 3, (20, 30))
    assert padded.shape == (3, 2, 20, 30)
    assert padded.sum() == len(cropped) == padded[:, :, 6:14, 9:21].sum()


# -- in a config -----------------------------------------------------------------------------------------------------


def data(**events):
    keys = {"data.name": "digits_events", "data.batch_size": 16, "data.train_limit": 32, "data.test_limit": 16}
    return open_data(Config().with_values(keys | {f"data.{key}": value for key, value in events.items()}))


def frames(batches):
    return torch.cat([x for x, _ in batches], 1)


def test_of_which_part_they_are():
    every = {"events.transforms": [{"name": "MergePolarities"}]}
    training = {"events.train_transforms": [{"name": "MergePolarities"}]}
    for events, parts in ((every, (True, True, True)), (training, (True, False, False))):
        found = data(**events)
        batches = (found.train_batches(0)(1), found.validation_batches(), found.test_batches())
        merged = tuple(not frames(each)[:, :, 1].any() for each in batches)
        assert merged == parts


def test_augmentation_comes_before_what_is_done_to_every_part():
    noise = [{"name": "UniformNoise", "n": 1000}]
    crop = [{"name": "CenterCrop", "size": 8}]
    x = frames(data(**{"events.train_transforms": noise, "events.transforms": crop}).train_batches(0)(1))
    assert x[..., 12:20, 12:20].sum() == x.sum() > 0


def test_random_ones_depend_on_seed_epoch_and_sample_alone():
    drop = {"events.train_transforms": [{"name": "DropEvent", "p": 0.5}]}
    first = frames(data(**drop).train_batches(0)(1))
    np.random.seed(5)  # noqa: NPY002  # tonic draws from it
    assert torch.equal(first, frames(data(**drop).train_batches(0)(1)))
    assert torch.equal(first, frames(data(**drop, workers=2).train_batches(0)(1)))
    seen = [frames(data(**drop).train_batches(seed)(epoch)) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert len({each.sort(1).values.numpy().tobytes() for each in seen}) == 3


def test_cached_frames_depend_on_them(tmp_path):
    events = {name: getattr(recording(), name) for name in "xyp"} | {"t": recording().t}
    np.savez(tmp_path / "packed.npz", **events, offsets=np.arange(0, 401, 50), label=np.arange(8) % 2, sensor=(20, 30))
    there = {"name": "events", "root": str(tmp_path / "packed.npz"), "cache": str(tmp_path / "cache"), "batch_size": 2}

    def caches(**more):
        found = data(**(there | {"train_limit": None, "test_limit": None, "validation": 0} | more))
        for batches in (found.test_batches(), found.train_batches(0)(1)):
            list(batches)
        return {path.name for path in (tmp_path / "cache").iterdir()}

    plain = caches()
    assert len(plain) == 2
    merged = caches(**{"events.transforms": [{"name": "MergePolarities"}]}) - plain
    assert len(merged) == 2
    assert len(caches(**{"events.train_transforms": [{"name": "DropEvent", "p": 0.5}]})) == 4  # test frames alone
    assert caches(**{"events.transforms": [{"name": "TimeAlignment"}]}) > plain | merged


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"name": "Denoise", "filter_time": 10, "x": 1}, r"unknown argument of Denoise in .*transforms\[0\]: 'x'"),
        ({"name": "Denois"}, r"unknown transform in data\.events\.transforms\[0\]: 'Denois'; did you mean 'Denoise'"),
        ({"name": "Denoise"}, r"data\.events\.transforms\[0\]: Denoise needs filter_time"),
        ({"name": "Denoise", "filter_time": "long"}, r"transforms\[0\]\.filter_time must be a number, got 'long'"),
        (
            {"name": "ToFrame", "n_time_bins": 3},
            "ToFrame does not make events of events; frames are made by data.event",
        ),
        ({"name": "Compose", "transforms": []}, "Compose does not make events of events"),
        ({"name": "DropEvent", "p": 0.5}, r"DropEvent is random; put it into data\.events\.train_transforms"),
        ({"name": "TimeSkew", "coefficient": [1, 2]}, "TimeSkew is random"),
        ({"name": "CenterCrop", "size": 8, "sensor_size": [8, 8, 2]}, "sensor_size cannot be set; it follows from the"),
        ({"name": "Decimation", "n": 0}, "Decimation fails: AssertionError: n has to be an integer greater than zero"),
        ({"filter_time": 3}, r"data\.events\.transforms\[0\]: 'name' is missing"),
    ],
)
def test_faults_are_found_before_anything_is_opened(transform, message):
    with pytest.raises(UserError, match=message) as error:
        data(**{"events.transforms": [transform]})
    assert "\n" not in str(error.value)


def test_faults_in_training():
    for transform, message in (
        ({"name": "RandomCrop", "target_size": [40, 40]}, "RandomCrop fails: AssertionError"),
        ({"name": "RandomFlipLR"}, "RandomFlipLR does not apply to dataset 'digits_events': a mirrored recording"),
    ):
        with pytest.raises(UserError, match=rf"train_transforms\[0\]: {message}"):
            data(**{"events.train_transforms": [transform]})
    scenes = {"task": "detection", "data.name": "digits_scenes_events"}
    crop = [{"name": "CenterCrop", "size": 8}]
    with pytest.raises(UserError, match=r"transforms\[0\] does not apply to detection: it may change events but not"):
        open_data(Config().with_values(scenes | {"data.events.transforms": crop}))
