"""Data sets that are handed over from Python."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from step_ahsar.config import Config
from step_ahsar.data import find_dataset, model_input, open_data
from step_ahsar.errors import UserError


class Drawn(Dataset):
    """Images whose pixels are drawn from a global generator at each reading, unless it is still."""

    classes = ("cat", "dog", "owl")

    def __init__(self, size, still=False, draw=torch.rand):
        self.targets, self.still, self.draw = [i % 3 for i in range(size)], still, draw

    def __getitem__(self, index):
        x = torch.full((1, 4, 4), float(index))
        return (x if self.still else x + self.draw(16).reshape(1, 4, 4)), self.targets[index]

    def __len__(self):
        return len(self.targets)


def by_python(n):
    return torch.tensor([random.random() for _ in range(n)])


def by_numpy(n):
    return torch.from_numpy(np.random.random(n)).float()  # noqa: NPY002  # as users do


def plain(size=12, shape=(1, 4, 4), labels=None):
    x = torch.arange(size).float().reshape(-1, *[1] * len(shape)).expand(size, *shape)
    return TensorDataset(x, torch.arange(size) % 3 if labels is None else torch.tensor(labels))


def opened(train, test=None, validation=None, **values):
    config = Config().with_values({"data.name": "own/mine", "data.batch_size": 4, "model.time_steps": 2} | values)
    datasets = {"train": train, "test": plain() if test is None else test}
    return open_data(config, datasets | ({} if validation is None else {"validation": validation}))


def epoch_of(data, epoch=1, seed=0):
    found = list(data.train_batches(seed)(epoch))
    return torch.cat([x for x, _ in found]), torch.cat([y for _, y in found])


@pytest.mark.parametrize(
    ("shape", "size", "ndim", "steps"),
    [((3, 4, 5), (4, 5), 2, None), ((2, 3, 4, 5), (4, 5), 2, 2), ((3, 8), 8, 1, None)],
)
def test_shapes(shape, size, ndim, steps):
    data = opened(plain(24, shape), plain(6, shape))
    assert (data.in_chans, data.size, data.spec.ndim, data.spec.time_steps) == (3, size, ndim, steps)
    assert data.classes == ("0", "1", "2")
    assert data.statistics is None
    ((x, y),) = data.test_batches()
    assert x.shape == ((2, 6, 3, 4, 5) if steps else (6, *shape))
    assert torch.equal(x.select(1 if steps else 0, 4), torch.full(shape, 4.0))
    assert y.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("draw", [torch.rand, by_numpy, by_python])
def test_random_transforms_depend_on_seed_epoch_and_sample_alone(draw):
    data = opened(Drawn(24, draw=draw), **{"data.validation": 0.25})
    x, _ = epoch_of(data)
    torch.manual_seed(7)
    again, _ = epoch_of(opened(Drawn(24, draw=draw), **{"data.validation": 0.25}))
    assert torch.equal(x, again)
    assert len({tuple(each.flatten().frac().tolist()) for each in x}) == len(x) > 12  # each has its own draws
    others = [epoch_of(data, epoch=2)[0], epoch_of(data, seed=1)[0]]
    for other in others:
        alike = [(a, b) for a in x for b in other if a[0, 0, 0].floor() == b[0, 0, 0].floor()]
        assert len(alike) > 6
        assert not any(torch.equal(a, b) for a, b in alike)
    (first, _), (second, _) = next(iter(data.validation_batches())), next(iter(data.validation_batches()))
    assert torch.equal(first, second)


def test_loading_processes_make_the_same_samples():
    alone = epoch_of(opened(Drawn(24), validation=plain(3)))
    several = epoch_of(opened(Drawn(24), validation=plain(3), **{"data.workers": 2}))
    assert all(map(torch.equal, alone, several))


def test_opening_leaves_the_generators_alone():
    before = torch.get_rng_state()
    opened(Drawn(24), **{"data.validation": 0.25})
    opened(Unlabelled(24))
    assert torch.equal(before, torch.get_rng_state())


class Unlabelled(Drawn):
    """It tells neither classes nor labels, and counts how often it is read."""

    classes = None

    def __init__(self, size):
        super().__init__(size)
        self.hidden, self.targets, self.reads = self.targets, None, 0

    def __getitem__(self, index):
        self.reads += 1
        return torch.rand(1, 4, 4), self.hidden[index]

    def __len__(self):
        return len(self.hidden)


def test_labels_that_are_not_told_are_read_once():
    dataset = Unlabelled(24)
    data = opened(dataset, **{"data.validation": 0.25})
    assert data.classes == ("0", "1", "2")
    assert dataset.reads == 24 + 1  # the first sample, once more, for the shape
    told = opened(Drawn(24), **{"data.validation": 0.25})
    for part in (data, told):
        assert np.bincount(part.splits.validation.labels).tolist() == [2, 2, 2]
        assert len(part.splits.train) == 18
    assert told.splits.validation.indices == data.splits.validation.indices


def test_the_classes_of_a_part_of_a_data_set():
    data = opened(Subset(Drawn(24), range(12, 24)))
    assert data.classes == ("cat", "dog", "owl")
    transformed = Drawn(24)
    transformed.target_transform = "something"  # what it tells are then not the targets that it yields
    transformed.targets, known = [2] * 24, transformed.targets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawn, "__getitem__", lambda self, i: (torch.zeros(1, 4, 4), known[i]))
        assert opened(transformed, **{"data.validation": 0}).splits.train.labels.tolist() == known


def test_names_of_classes():
    named = Drawn(24)
    named.classes = np.array(["a", "b", "c"])
    assert opened(named).classes == ("a", "b", "c")
    for wrong in ("abc", {"a": 0, "b": 1, "c": 2}):
        named.classes = wrong
        with pytest.raises(UserError, match=r"the attribute classes of datasets\['train'\] must be a list of names"):
            opened(named)
    with pytest.raises(UserError, match=r"datasets\['train'\] has one class, '0'; there must be two at least"):
        opened(plain(8, labels=[0] * 8))


def test_a_validation_set_of_its_own():
    data = opened(Drawn(24), validation=plain(5))
    assert len(data.splits.train) == 24
    assert torch.cat([y for _, y in data.validation_batches()]).tolist() == [0, 1, 2, 0, 1]
    assert opened(Drawn(24), validation=plain(5), **{"data.validation": 0}).splits.validation is None


def test_the_fingerprint_tells_lengths_classes_and_test_samples():
    def fingerprint(*args):
        return opened(*args).splits.fingerprint

    base = fingerprint(Drawn(24), Drawn(600, still=True))
    assert base == fingerprint(Drawn(24), Drawn(600, still=True))
    renamed = Drawn(24)
    renamed.classes = ("cat", "dog", "bat")
    changed = Drawn(600, still=True)
    changed.targets[599] = 1  # the last one is among those that are read
    others = [
        fingerprint(Drawn(25), Drawn(600, still=True)),
        fingerprint(Drawn(24), Drawn(599, still=True)),
        fingerprint(renamed, Drawn(600, still=True)),
        fingerprint(Drawn(24), changed),
        fingerprint(Drawn(24), Drawn(600, still=True), plain(4)),
    ]
    assert len({base, *others}) == 6


def test_few_of_many_test_samples_are_read_when_it_is_opened():
    reads = []
    test = [(torch.zeros(1, 4, 4), 0)] * 1000

    class Watched(list):
        def __getitem__(self, index):
            reads.append(index)
            return super().__getitem__(index)

    opened(plain(), Watched(test))
    assert len(reads) == 2 * len(set(reads)) == 512
    assert (min(reads), max(reads)) == (0, 999)


SAMPLE = torch.zeros(1, 4, 4)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((Image.new("L", (4, 4)), 0), r"train\[0\]: is Image, no float tensor; add ToTensor"),
        ((np.zeros((4, 4, 3), np.uint8), 0), r"train\[0\]: is ndarray of uint8, no float tensor; add ToTensor"),
        ((SAMPLE.byte(), 0), r"is Tensor of uint8, no float tensor; add ToTensor"),
        ((SAMPLE.long(), 0), r"its input must be a float tensor or array, got Tensor of int64"),
        (("a", 0), r"its input must be a float tensor or array, got str"),
        ((SAMPLE[0, 0], 0), r"has shape \[4\], which is none of \[C, H, W\], \[T, C, H, W\] and \[C, L\]"),
        ((SAMPLE, 0.5), r"its target must be a class index, an integer, got float"),
        ((SAMPLE, torch.zeros(4, 4).long()), r"its target must be a class index, an integer, got Tensor of int64"),
        (SAMPLE, r"must be a pair \(input, class index\), got Tensor of float32"),
        ((SAMPLE, 0, 1), r"must be a pair \(input, class index\), got tuple of 3"),
        ((SAMPLE, -1), r"train\[0\]: label -1 is out of range"),
    ],
)
def test_samples_of_another_kind(sample, message):
    with pytest.raises(UserError, match=message):
        opened([sample] * 8)


def test_samples_that_differ_from_the_others():
    crooked = [*[(SAMPLE, i % 3) for i in range(7)], (torch.zeros(1, 4, 5), 0)]
    data = opened(crooked, **{"data.validation": 0})
    with pytest.raises(UserError, match=r"train\[7\]: has shape \[1, 4, 5\], the first training sample \[1, 4, 4\]"):
        epoch_of(data)
    named = Drawn(24)
    named.targets[5] = 3
    with pytest.raises(UserError, match=r"train\[5\]: label 3 is out of range: there are classes 0 to 2"):
        opened(named)
    with pytest.raises(UserError, match=r"test\[2\]: label 2 is out of range: there are classes 0 to 1"):
        opened(plain(8, labels=[0, 1] * 4))
    with pytest.raises(UserError, match=r"test\[0\]: differs when it is read twice; .* no random transform"):
        opened(Drawn(24), Drawn(6))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(plain())

    def __len__(self):
        return 12


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"train": plain()}, "must have the parts 'train' and 'test', got train"),
        ({"train": plain(), "tset": plain()}, "unknown part of datasets: 'tset'; did you mean 'test'"),
        ({"train": plain(), "test": Stream()}, r"datasets\['test'\] must be a map-style Dataset"),
        ({"train": iter(()), "test": plain()}, r"datasets\['train'\] must be a map-style Dataset"),
        ({"train": plain(), "test": []}, r"datasets\['test'\] is empty"),
        (None, r"dataset 'own/mine' is handed over from Python: engine.train\(config, out, datasets=\.\.\.\)"),
    ],
)
def test_what_is_handed_over(datasets, message):
    with pytest.raises(UserError, match=message):
        open_data(Config().with_values({"data.name": "own/mine"}), datasets)


def test_other_data_sets_are_not_handed_over():
    with pytest.raises(UserError, match=r"datasets are handed over, but data\.name is 'digits'; set it to own"):
        open_data(Config(), {"train": plain(), "test": plain()})


@pytest.mark.parametrize(
    "values",
    [
        {"data.root": "/x"}, {"data.download": True}, {"data.on_error": "skip"}, {"data.test_share": 0.5},
        {"data.img_size": 8}, {"data.test_size": 8}, {"data.hflip": 0.5}, {"data.auto_augment": "rand-m9"},
        {"data.mean": [0.5]}, {"data.std": [0.5]}, {"data.encoder": "rate"}, {"data.corruption": "jpeg:1"},
        {"data.shuffle_time": "test"}, {"data.events.drop": 0.5}, {"data.sequence.length": 3},
    ],
)  # fmt: skip
def test_nothing_is_done_to_the_samples(values):
    (key,) = values
    with pytest.raises(UserError, match=f"{'.'.join(key.split('.')[:2])} does not apply to dataset 'own/mine', whose"):
        opened(plain(), **values)


def test_they_are_for_classification_and_have_one_number_of_time_steps():
    with pytest.raises(UserError, match="task 'segmentation' does not go with dataset 'own/mine'"):
        opened(plain(), task="segmentation")
    with pytest.raises(UserError, match=r"train\.eventmix does not apply"):
        opened(plain(), **{"train.eventmix": 0.5})
    data = opened(plain(12, (3, 1, 4, 4)), plain(3, (3, 1, 4, 4)))
    with pytest.raises(UserError, match=r"has samples of 3 time steps; model\.time_steps must be 3, got 2"):
        data.test_batches()
    same = replace(data, config=data.config.with_values({"model.time_steps": 3}))
    assert next(iter(same.test_batches()))[0].shape == (3, 3, 1, 4, 4)


def test_nothing_is_known_before_it_is_handed_over():
    spec = find_dataset("own")
    assert model_input(Config(), spec) == (None, None)
    assert spec.num_classes is None
