"""Which samples are held out: the same ones as ever, the same everywhere, of each class its share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import DATASETS, open_data
from step_ahsar.data.common.registry import Splits
from step_ahsar.data.common.splits import (
    Subset,
    held_out,
    in_total,
    limited,
    names_for_test,
    share_of_each,
    share_that_leaves_some,
    with_validation,
)
from step_ahsar.errors import UserError


class Numbers:
    """Samples (i, class of i)."""

    def __init__(self, labels):
        self.labels = np.asarray(labels)

    def __getitem__(self, index):
        return index, int(self.labels[index])

    def __len__(self):
        return len(self.labels)


class Scenes:
    """Samples without a single class."""

    def __init__(self, count):
        self.count = count

    def __getitem__(self, index):
        return index, None

    def __len__(self):
        return self.count


def splits(train, **known):
    return Splits(train, Numbers([0]), ("0", "1"), "sha256:0", **known)


def indices(samples):
    return [samples[i][0] for i in range(len(samples))]


# -- splits of earlier releases stay -----------------------------------------------------------------------------------


def test_the_split_of_images_is_this_one():
    labels = np.arange(50) % 2
    chosen = held_out([f"images/{i}" for i in range(50)], labels, share_of_each(labels, 0.2))
    assert np.flatnonzero(chosen).tolist() == [10, 12, 13, 25, 26, 27, 39, 42, 43, 46]


def test_the_split_of_recordings_is_this_one():
    names = [f"cat/{i}.npz" for i in range(10)]
    chosen = held_out(names, [0] * 10, share_that_leaves_some([0] * 10, 0.2))
    assert np.flatnonzero(chosen).tolist() == [0, 5]


def test_the_validation_part_is_this_one():
    found = with_validation(splits(Numbers(np.arange(40) % 2)), DataConfig(validation=0.1))
    assert indices(found.validation) == [5, 28, 30, 31]


# -- quotas ------------------------------------------------------------------------------------------------------------

labels_lists = st.lists(st.integers(0, 4), min_size=1, max_size=60)


@given(labels_lists, st.floats(0.01, 0.99))
def test_a_share_leaves_some_on_either_side(labels, share):
    for label, quota in share_that_leaves_some(labels, share).items():
        count = labels.count(label)
        assert quota == (0 if count == 1 else min(max(1, round(share * count)), count - 1))


@given(labels_lists, st.integers(0, 60))
def test_a_total_is_met(labels, total):
    total = min(total, len(labels))
    quotas = in_total(labels, total)
    assert sum(quotas.values()) == total
    for label, quota in quotas.items():
        assert abs(quota - total * labels.count(label) / len(labels)) < 1


@given(labels_lists, st.floats(0.01, 0.99))
def test_quotas_are_met_and_order_does_not_matter(labels, share):
    names, quotas = [f"sample {i}" for i in range(len(labels))], share_that_leaves_some(labels, share)
    chosen = held_out(names, labels, quotas)
    assert {label: int(chosen[np.asarray(labels) == label].sum()) for label in quotas} == quotas
    backwards = held_out(names[::-1], labels[::-1], quotas)
    assert backwards[::-1].tolist() == chosen.tolist()


# -- test and validation parts -----------------------------------------------------------------------------------------


def test_a_validation_part_is_stratified_seeded_and_disjoint():
    labels = np.repeat([0, 1], [80, 20])
    parts = [with_validation(splits(Numbers(labels)), DataConfig(validation=0.1, split_seed=s)) for s in (0, 0, 1)]
    found = parts[0]
    assert np.bincount(found.validation.labels).tolist() == [8, 2]
    assert np.bincount(found.train.labels).tolist() == [72, 18]
    assert sorted(indices(found.train) + indices(found.validation)) == list(range(100))
    assert indices(parts[1].validation) == indices(found.validation)
    assert indices(parts[2].validation) != indices(found.validation)


def test_a_sets_own_validation_part_comes_first():
    own = Numbers([0, 1])
    given_splits = splits(Numbers([0, 1, 0, 1]), validation=own)
    found = with_validation(given_splits, DataConfig(validation=0.5))
    assert found.validation is own
    assert len(found.train) == 4
    assert with_validation(given_splits, DataConfig(validation=0)).validation is None


def test_scenes_have_no_single_class():
    found = with_validation(splits(Scenes(50)), DataConfig(validation=0.2))
    assert (len(found.train), len(found.validation)) == (40, 10)


def test_too_few_samples_to_hold_any_out():
    with pytest.raises(UserError, match=r"data.validation 0.1 of 2 training samples leaves none .*set it to 0"):
        with_validation(splits(Numbers([0, 1])), DataConfig(validation=0.1))


def test_limits_are_of_a_part_and_chosen_once():
    samples = Numbers(np.arange(30) % 3)
    few = limited(samples, 7, "train")
    assert len(few) == len(set(indices(few))) == 7
    assert indices(limited(samples, 7, "train")) == indices(few) != indices(limited(samples, 7, "test"))
    assert limited(samples, None, "train") is limited(samples, 99, "train") is samples
    part = Subset(samples, range(10, 30))
    assert set(indices(limited(part, 5, "train"))) <= set(range(10, 30))
    assert limited(part, 5, "train").samples is samples  # a part of a part is a part of the whole


def test_a_seed_gives_other_test_samples_and_0_those_of_earlier_releases():
    assert names_for_test(DataConfig(), ["a", "b"]) == ["a", "b"]
    assert names_for_test(DataConfig(split_seed=3), ["a", "b"]) == ["3/a", "3/b"]


@pytest.mark.parametrize("name", [name for name in DATASETS if name.startswith("digits")])
def test_embedded_sets_have_a_validation_part(name):
    task = DATASETS[name].tasks[0]
    data = open_data(Config().with_values({"data.name": name, "task": task}))
    whole = open_data(Config().with_values({"data.name": name, "task": task, "data.validation": 0}))
    assert whole.splits.validation is None
    assert len(data.splits.train) + len(data.splits.validation) == len(whole.splits.train)
    assert len(data.splits.validation) == pytest.approx(0.1 * len(whole.splits.train), rel=0.05)
    assert len(data.splits.test) == len(whole.splits.test)
    assert data.describe()["validation"] == len(data.splits.validation)
    assert data.splits.fingerprint == whole.splits.fingerprint  # it is of the whole set


def test_a_share_for_testing_is_refused_where_there_is_a_test_part():
    with pytest.raises(UserError, match=r"data.test_share does not apply to dataset 'digits', which has a test part"):
        open_data(Config().with_values({"data.test_share": 0.3}))
