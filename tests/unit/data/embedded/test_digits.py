"""The embedded data set."""

import numpy as np
from sklearn.datasets import load_digits

from step_ahsar.config import DataConfig
from step_ahsar.data.embedded.digits import digits_split, open_digits


def test_split_is_stratified_complete_and_the_one_that_was_published():
    labels = load_digits().target
    train, test = digits_split(labels)
    assert (len(train), len(test)) == (1297, 500)
    assert sorted([*train, *test]) == list(range(1797))
    shares = np.bincount(labels[test]) / np.bincount(labels)
    assert np.abs(shares - 500 / 1797).max() < 0.005
    assert test[:8].tolist() == [0, 1, 2, 4, 5, 8, 10, 11]


def test_pixels_are_the_scans():
    splits, bunch = open_digits(DataConfig()), load_digits()
    train, _ = digits_split(bunch.target)
    image, label = splits.train[7]
    assert image.size == (8, 8)
    assert label == bunch.target[train[7]]
    np.testing.assert_array_equal(np.rint(np.asarray(image) / 255 * 16), bunch.images[train[7]])


def test_statistics_are_those_of_the_training_images():
    from step_ahsar.data import find_dataset

    spec, pixels = find_dataset("digits"), open_digits(DataConfig()).train.pixels / 255
    np.testing.assert_allclose([spec.mean[0], spec.std[0]], [pixels.mean(), pixels.std()], atol=5e-5)


def test_fingerprint_is_stable():
    assert open_digits(DataConfig()).fingerprint.startswith("sha256:5a9e729b0eb29533")
