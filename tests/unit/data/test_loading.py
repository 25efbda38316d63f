"""Order and augmentation are functions of the seed alone."""

import random

import numpy as np
import pytest
import torch

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import derive_seed, open_data, seeded
from step_ahsar.errors import UserError

AUGMENTED = {"auto_augment": "rand-m9-n2-mstd0.5-inc1", "re_prob": 0.5, "re_mode": "pixel", "scale": (0.5, 1.0)}


def epoch_of(number=1, seed=0, **config):
    batches = open_data(Config(data=DataConfig(**config))).train_batches(seed)
    found = list(batches(number))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def test_the_number_of_workers_does_not_matter():
    config = AUGMENTED | {"batch_size": 250}
    alone, several = epoch_of(**config), epoch_of(**config, workers=2)
    assert torch.equal(alone[0], several[0])
    assert torch.equal(alone[1], several[1])


def test_persistent_workers_know_the_epoch():
    data = open_data(Config(data=DataConfig(batch_size=250, workers=1, **AUGMENTED)))
    batches = data.train_batches(0)
    _, second = [torch.cat([x for x, _ in batches(epoch)]) for epoch in (1, 2)]
    assert torch.equal(second, epoch_of(2, batch_size=250, **AUGMENTED)[0])


def test_what_else_draws_numbers_does_not_matter():
    first = epoch_of(batch_size=250, **AUGMENTED)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert torch.equal(first[0], epoch_of(batch_size=250, **AUGMENTED)[0])


def test_loading_leaves_the_generators_alone():
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    epoch_of(batch_size=250, **AUGMENTED)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert (before[2] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_seeds_and_epochs_differ():
    base = epoch_of(batch_size=250)
    for other in (epoch_of(2, batch_size=250), epoch_of(1, seed=1, batch_size=250)):
        assert not torch.equal(base[1], other[1])


def test_every_training_image_but_the_rest_of_the_last_batch_comes_once():
    plain = epoch_of(batch_size=100)
    assert len(plain[0]) == 1200
    assert len({x.numpy().tobytes() for x in plain[0]}) >= 1200 - 5  # some scans are alike


def test_test_images_come_in_order_and_completely():
    data = open_data(Config(data=DataConfig(batch_size=64, img_size=8)))
    labels = torch.cat([y for _, y in data.test_batches()])
    assert labels.tolist() == data.splits.test.labels.tolist()


def test_images_are_normalised_and_resized():
    images, _ = epoch_of(batch_size=1297, img_size=8)
    assert images.shape == (1297, 1, 8, 8)
    assert abs(images.mean()) < 2e-3
    assert abs(images.std() - 1) < 2e-3
    assert epoch_of(batch_size=64)[0].shape[-2:] == (16, 16)


def test_seeded_restores_after_an_error():
    state = torch.get_rng_state()

    def fail():
        with seeded(1, "x"):
            torch.rand(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(state, torch.get_rng_state())


def test_derived_seeds_depend_on_every_name():
    assert len({derive_seed(0, "a", 1), derive_seed(0, "a", 2), derive_seed(1, "a", 1), derive_seed(0, "b", 1)}) == 4
    assert derive_seed(0, "a", 11) != derive_seed(0, "a1", 1)


def test_a_batch_larger_than_the_data():
    with pytest.raises(UserError, match=r"data\.batch_size must be <= 1297"):
        epoch_of(batch_size=1298)


def test_describe_is_what_the_manifest_says():
    described = open_data(Config(data=DataConfig())).describe()
    assert described | {"fingerprint": ""} == {
        "name": "digits",
        "modality": "static",
        "fingerprint": "",
        "train": 1297,
        "test": 500,
        "classes": 10,
        "skipped": [],
    }
