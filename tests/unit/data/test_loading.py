"""Order and augmentation are functions of the seed alone."""

import pickle
import random

import numpy as np
import pytest
import torch

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import DATASETS, FINGERPRINT_VERSION, derive_seed, open_data, seeded
from step_ahsar.errors import UserError
from step_ahsar.files import digest

AUGMENTED = {"auto_augment": "rand-m9-n2-mstd0.5-inc1", "re_prob": 0.5, "re_mode": "pixel", "scale": (0.5, 1.0)}


def epoch_of(number=1, seed=0, **config):
    batches = open_data(Config(data=DataConfig(**{"validation": 0, **config}))).train_batches(seed)
    found = list(batches(number))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


def test_the_number_of_workers_does_not_matter():
    config = AUGMENTED | {"batch_size": 250}
    alone, several = epoch_of(**config), epoch_of(**config, workers=2)
    assert torch.equal(alone[0], several[0])
    assert torch.equal(alone[1], several[1])


def test_persistent_workers_know_the_epoch():
    data = open_data(Config(data=DataConfig(batch_size=250, workers=1, validation=0, **AUGMENTED)))
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


def test_reference_samples_are_of_the_training_part_and_neither_augmented_nor_corrupted():
    def reference(**options):
        data = open_data(Config(data=DataConfig(batch_size=4, train_limit=30, **options)))
        found = list(data.reference_batches(10))
        return data, torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])

    _, expected, labels = reference()
    assert len(expected) == len(labels) == 10
    data, found, same = reference(corruption="jpeg:5", **AUGMENTED)
    assert torch.equal(found, expected)
    assert torch.equal(same, labels)
    training = {data.splits.train[i][0].tobytes() for i in range(30)}
    held_out = {data.splits.validation[i][0].tobytes() for i in range(len(data.splits.validation))}
    raw = [data.reference_batches(10)._loader.dataset.samples[i][0].tobytes() for i in range(10)]
    assert training.issuperset(raw)
    assert held_out.isdisjoint(raw)


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
    assert described.pop("fingerprint_version") == FINGERPRINT_VERSION
    assert described.pop("class_names") == digest("\0".join("0123456789").encode())
    assert described | {"fingerprint": ""} == {
        "name": "digits",
        "modality": "static",
        "fingerprint": "",
        "train": 1167,
        "validation": 130,
        "test": 500,
        "split_seed": 0,
        "classes": 10,
        "skipped": [],
    }


def test_validation_and_test_samples_come_once_and_in_order():
    data = open_data(Config(data=DataConfig(batch_size=16)))
    parts = {data.validation_batches(): data.splits.validation, data.test_batches(): data.splits.test}
    for batches, samples in parts.items():
        assert torch.cat([y for _, y in batches]).tolist() == list(samples.labels)
    assert open_data(Config(data=DataConfig(validation=0))).validation_batches() is None


EMBEDDED = [name for name in DATASETS if name.startswith("digits")]


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_a_loading_process_is_given_can_be_pickled(name):
    """Fault: pipelines held nested functions, so workers=1 raised where processes are not forked."""
    data = open_data(Config().with_values({"data.name": name, "task": DATASETS[name].tasks[0], "data.batch_size": 4}))
    for batches in (data.train_batches(0)(1), data.validation_batches(), data.test_batches()):
        loader = batches._loader
        twin = pickle.loads(pickle.dumps((loader.dataset, loader.sampler, loader.collate_fn)))
        assert len(twin[0]) == len(loader.dataset)
        for a, b in zip(tensors(twin[0][0]), tensors(loader.dataset[0]), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "corruption"), [("digits", "contrast:2"), ("digits_events", "hot_pixels:2")])
def test_corrupted_test_data_can_be_pickled(name, corruption):
    """So that they are loaded where processes are not forked."""
    data = open_data(Config().with_values({"data.name": name, "data.corruption": corruption, "data.batch_size": 4}))
    samples = data.test_batches()._loader.dataset
    for a, b in zip(tensors(pickle.loads(pickle.dumps(samples))[0]), tensors(samples[0]), strict=True):
        assert torch.equal(a, b)


def tensors(value):
    if isinstance(value, dict):
        return [t for each in value.values() for t in tensors(each)]
    return [t for each in value for t in tensors(each)] if isinstance(value, tuple) else [torch.as_tensor(value)]


def test_loading_processes_that_are_not_forked(in_new_process):
    """As on macOS and Windows (spawn), and under Linux from Python 3.14 on (forkserver)."""
    in_new_process("""
import multiprocessing
from step_ahsar.config import Config
from step_ahsar.data import open_data

def first(workers):
    values = {"data.auto_augment": "rand-m9-mstd0.5-inc1", "data.batch_size": 250, "data.train_limit": 300}
    return next(iter(open_data(Config().with_values(values | {"data.workers": workers})).train_batches(0)(1)))

def main():
    alone = first(0)
    for method in ("spawn", "forkserver"):
        multiprocessing.set_start_method(method, force=True)
        assert all((a == b).all() for a, b in zip(alone, first(1)))

if __name__ == "__main__":
    main()
""")
