"""Every option of the data section reaches the tensors, or is refused for data that it does not apply to."""

import numpy as np
import pytest
import torch

from step_ahsar.config import Config
from step_ahsar.data import DATASETS, build_pipeline, open_data
from step_ahsar.errors import UserError

EMBEDDED = {
    "digits": ("classification", 2),
    "digits_events": ("classification", 2),
    "digits_sequence": ("classification", 1),
    "digits_scenes": ("segmentation", 2),
    "digits_scenes_events": ("detection", 2),
    "digits_scenes_sequence": ("segmentation", 2),
}


def config(name="digits", **values):
    base = {"task": EMBEDDED[name][0], "data.name": name, "data.batch_size": 4}
    limits = {"data.train_limit": 8, "data.test_limit": 8, "data.validation": 0}
    return Config().with_values(base | limits | {key.replace("__", "."): value for key, value in values.items()})


def batch(name="digits", training=False, epoch=1, **values):
    data = open_data(config(name, **values))
    return next(iter(data.train_batches(0)(epoch) if training else data.test_batches()))


def test_all_embedded_sets_are_here():
    assert set(EMBEDDED) == {name for name in DATASETS if name.startswith("digits")}


@pytest.mark.parametrize("name", EMBEDDED)
@pytest.mark.parametrize("steps", [1, 3])
def test_batches_have_the_model_s_shape_and_time_first(name, steps):
    data = open_data(config(name, model__time_steps=steps))
    test_size = 8 if data.config.task == "classification" else 4
    for batches, size in ((data.train_batches(0)(1), 4), (data.test_batches(), test_size)):
        x, targets = next(iter(batches))
        space = (
            (data.size,) if EMBEDDED[name][1] == 1 else (data.size,) * 2 if isinstance(data.size, int) else data.size
        )
        timed = name not in ("digits", "digits_sequence", "digits_scenes")
        assert x.shape == ((steps,) if timed else ()) + (size, data.in_chans, *space)
        assert x.dtype == torch.float32
        assert len(targets) == size


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_number_of_workers_does_not_matter(name):
    augmented = {"data.events.drop": 0.5} if "events" in name and "scenes" not in name else {}
    alone, several = (batch(name, training=True, data__workers=n, **augmented)[0] for n in (0, 2))
    assert torch.equal(alone, several)


@pytest.mark.parametrize("encoder", ["rate", "ttfs", "phase", "delta", "burst"])
@pytest.mark.parametrize("name", ["digits", "digits_sequence", "digits_scenes"])
def test_encoders_give_spikes_over_time(name, encoder):
    x = batch(name, data__encoder=encoder, model__time_steps=6)[0]
    assert x.shape[0] == 6
    assert set(x.unique().tolist()) <= {0.0, 1.0}
    assert 0 < x.mean() < 1
    assert torch.equal(x, batch(name, data__encoder=encoder, model__time_steps=6)[0])


def test_poisson_spikes_differ_from_epoch_to_epoch_and_not_from_batch_to_batch():
    first, second = (batch(training=True, epoch=n, data__encoder="rate", data__train_limit=4)[0] for n in (1, 2))
    assert not torch.equal(first.sum(1).sort(0)[0], second.sum(1).sort(0)[0])
    small, large = (batch(data__encoder="rate", data__batch_size=n)[0] for n in (1, 2))
    assert torch.equal(small, large[:, :4])


@pytest.mark.parametrize("name", ["digits_events", "digits"])
@pytest.mark.parametrize("severity", [1, 5])
def test_corruptions_change_test_data_alone(name, severity):
    corruption = f"{'background_noise' if 'events' in name else 'gaussian_noise'}:{severity}"
    plain, corrupted = batch(name)[0], batch(name, data__corruption=corruption)[0]
    assert not torch.equal(plain, corrupted)
    assert torch.equal(corrupted, batch(name, data__corruption=corruption)[0])
    assert torch.equal(batch(name, training=True)[0], batch(name, training=True, data__corruption=corruption)[0])


@pytest.mark.parametrize(
    "option",
    [
        {"events.representation": "count"},
        {"events.representation": "voxel_grid"},
        {"events.representation": "time_surface"},
        {"events.representation": "window", "events.window_ms": 20.0},
        {"events.roll": 9},
        {"events.rotate": 40.0},
        {"events.cutout": 0.5},
        {"events.drop": 1.0},
        {"events.jitter_us": 20000.0},
        {"img_size": 16},
        {"img_size": 40},
    ],
)
def test_every_option_of_events_changes_the_frames(option):
    changed = batch("digits_events", training=True, **{f"data.{key}": value for key, value in option.items()})[0]
    plain = batch("digits_events", training=True)[0]
    assert changed.shape != plain.shape or not torch.equal(changed, plain)


def test_sequences_are_permuted_and_laid_out_as_asked():
    plain, permuted = batch("digits_sequence")[0], batch("digits_sequence", data__sequence__permute=True)[0]
    assert not torch.equal(plain, permuted)
    torch.testing.assert_close(plain.sort()[0], permuted.sort()[0])
    rows = batch("digits_sequence", data__sequence__axis="time", model__time_steps=8)[0]
    assert rows.shape == (8, 8, 1, 8)
    assert torch.equal(rows.transpose(0, 1).reshape(8, 1, 64), plain)


@pytest.mark.parametrize("length", [29, 78, 200])
@pytest.mark.parametrize("fit", ["cut", "resample"])
def test_series_get_the_length_that_is_asked_for(length, fit):
    """Fault: a length of 29 or 78 was refused, and no setting helped."""
    x = batch("digits_sequence", data__sequence__length=length, data__sequence__fit=fit)[0]
    plain = batch("digits_sequence")[0]
    assert x.shape == (8, 1, length)
    if fit == "cut":
        common = min(length, 64)
        assert torch.equal(x[..., :common], plain[..., :common])
        assert not x[..., common:].any()
    else:
        assert x.mean() == pytest.approx(plain.mean().item(), abs=0.05)


def test_validation_data_are_neither_augmented_nor_corrupted():
    held_out = {"data.validation": 0.1}
    changes = {"data.corruption": "gaussian_noise:5", "data.re_prob": 1.0, "data.scale": (0.2, 0.5)}
    changed, plain = open_data(config(**held_out, **changes)), open_data(config(**held_out))
    for (x, labels), (expected, of_same) in zip(changed.validation_batches(), plain.validation_batches(), strict=True):
        assert torch.equal(x, expected)
        assert torch.equal(labels, of_same)
    assert not torch.equal(next(iter(changed.test_batches()))[0], next(iter(plain.test_batches()))[0])


@pytest.mark.parametrize("name", ["digits_events", "digits_sequence"])
@pytest.mark.parametrize("order", ["test", "both"])
def test_the_order_of_time_is_shuffled_where_it_is_said(name, order):
    """The frames or samples stay, in an order of their own for each sample, and in training for each epoch."""
    options = {"model__time_steps": 8, "data__validation": 0.1}
    axis = 0 if name == "digits_events" else 2
    for part in ("train", "validation", "test"):
        found = []
        for shuffle in (None, order):
            data = open_data(config(name, data__shuffle_time=shuffle, **options))
            runs = [data.train_batches(0)(1), data.train_batches(0)(2)] if part == "train" else []
            runs = runs or [data.validation_batches() if part == "validation" else data.test_batches()]
            found.append([next(iter(run))[0] for run in runs])
        for plain, shuffled in zip(*found, strict=True):
            changed = part == "test" or order == "both"
            assert torch.equal(plain, shuffled) != changed
            assert torch.equal(plain.sum(axis), shuffled.sum(axis)) or name == "digits_sequence"
            sums = (x.sort(axis).values for x in (plain, shuffled))
            assert torch.equal(*sums)


@pytest.mark.parametrize("name", ["digits_events", "digits_sequence"])
def test_whole_frames_and_whole_samples_are_shuffled(name):
    options = config(name, data__shuffle_time="test", model__time_steps=8)
    run = build_pipeline(options, DATASETS[name], "test").run
    size = (8, 2, 3, 3) if name == "digits_events" else (2, 8)
    raw = np.broadcast_to(np.arange(8, dtype=np.float32).reshape([8 if n == 8 else 1 for n in size]), size)
    orders = []
    for seed in range(3):
        x, _ = run(raw.copy(), 0, np.random.default_rng(seed))
        x = x.flatten(1) if name == "digits_events" else x.T
        assert (x == x[:, :1]).all()
        orders.append(tuple(x[:, 0].tolist()))
    assert len(set(orders)) == 3


def test_limits_choose_the_same_samples_for_every_seed():
    first = sorted(batch(training=True, data__train_limit=4, seed=0)[1].tolist())
    assert first == sorted(batch(training=True, data__train_limit=4, seed=1)[1].tolist())
    assert open_data(config(data__train_limit=99999)).describe()["train"] == 1297


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("digits", {"task": "detection"}, "task 'detection' does not go with dataset 'digits'"),
        ("digits", {"data.events.hflip": 0.5}, "data.events does not apply to dataset 'digits'"),
        ("digits", {"data.sequence.permute": True}, "data.sequence does not apply"),
        ("digits", {"train.eventmix": 0.5}, "train.eventmix does not apply"),
        ("digits", {"data.encoder": "rate", "data.mean": [0.5]}, "do not apply with data.encoder 'rate'"),
        ("digits", {"data.corruption": "gaussian_nose:1"}, "did you mean 'gaussian_noise'"),
        ("digits", {"data.corruption": "gaussian_noise:6"}, "severity from 1 to 5"),
        ("digits", {"data.corruption": "hot_pixels:1"}, "unknown corruption of static data"),
        ("digits_events", {"data.re_prob": 0.5}, "data.re_prob does not apply"),
        ("digits_events", {"data.re_mode": "rand"}, "data.re_mode does not apply"),
        ("digits_events", {"data.test_size": 16}, "data.test_size does not apply"),
        ("digits_events", {"data.encoder": "rate"}, "data.encoder 'rate' does not apply"),
        ("digits_events", {"data.mean": [0.1, 0.1]}, "data.mean and data.std do not apply"),
        ("digits_events", {"data.events.hflip": 0.5}, "data.events.hflip must be 0"),
        ("digits_events", {"data.events.window_ms": 5.0}, "window_ms"),
        ("digits_events", {"data.events.representation": "window"}, "window_ms"),
        (
            "digits_scenes_events",
            {"data.events.roll": 3},
            "must be 0 for detection: they change events but not the targets",
        ),
        ("digits_scenes_sequence", {"data.encoder": "ttfs"}, "has a time axis already"),
        ("digits_sequence", {"data.img_size": 8}, "which is a series: see data.sequence.length and .fit"),
        ("digits_sequence", {"data.sequence.fit": "resample"}, "needs data.sequence.length"),
        ("digits_sequence", {"data.corruption": "jpeg:1"}, "unknown corruption of sequence data 'jpeg'"),
        ("digits_scenes_sequence", {"data.corruption": "gaps:1"}, "there are none for its samples"),
        ("digits_sequence", {"data.hflip": 0.5}, "data.hflip does not apply"),
        ("digits_sequence", {"data.test_size": 32}, "data.test_size does not apply"),
        ("digits", {"data.shuffle_time": "test"}, "it is for recordings and series with a class"),
        ("digits_scenes_events", {"data.shuffle_time": "both"}, "it is for recordings and series with a class"),
    ],
)
def test_options_that_do_not_apply_are_refused(name, values, message):
    with pytest.raises(UserError) as error:
        open_data(config(name, **values)).test_batches()
    assert message in str(error.value)
