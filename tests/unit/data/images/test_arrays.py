"""Images and labels in an .npz file."""

import zipfile

import numpy as np
import pytest
import torch

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import find_dataset, open_data
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.embedded.digits import ArrayImages as from_digits
from step_ahsar.data.images.arrays import ArrayImages, open_arrays
from step_ahsar.errors import UserError

RNG = np.random.default_rng(0)


def split_arrays(shape=(5, 6, 3), train=8, test=4):
    return {
        "x_train": RNG.integers(0, 256, (train, *shape), dtype=np.uint8),
        "y_train": np.arange(train) % 3,
        "x_test": RNG.integers(0, 256, (test, *shape), dtype=np.uint8),
        "y_test": np.arange(test) % 3,
    }


@pytest.fixture
def stored(tmp_path):
    """Writes arrays to a file and gives a function that opens it."""

    def write(arrays, **config):
        file = tmp_path / "set.npz"
        np.savez(file, **arrays)
        return open_arrays(DataConfig(name="images", root=str(file), **config))

    return write


@pytest.mark.parametrize(
    ("shape", "mode", "in_chans", "size"),
    [
        ((6, 6, 3), "RGB", 3, 6),
        ((5, 6, 3), "RGB", 3, (5, 6)),
        ((5, 6, 1), "L", 1, (5, 6)),
        ((7, 7), "L", 1, 7),
        ((3, 3), "L", 1, 3),
    ],
)
def test_published_splits(stored, shape, mode, in_chans, size):
    arrays = split_arrays(shape)
    splits = stored(arrays)
    assert (len(splits.train), len(splits.test), splits.classes) == (8, 4, ("0", "1", "2"))
    assert (splits.in_chans, splits.size) == (in_chans, size)
    image, label = splits.test[1]
    assert (image.mode, label) == (mode, 1)
    np.testing.assert_array_equal(np.asarray(image), arrays["x_test"][1].squeeze())


def test_one_array_with_its_own_split(stored):
    images, is_test = RNG.integers(0, 256, (10, 4, 4), dtype=np.uint8), np.arange(10) % 5 == 1
    for flags in (is_test, is_test.astype(np.uint8)):
        splits = stored({"images": images, "labels": np.arange(10) % 2, "is_test": flags})
        np.testing.assert_array_equal(splits.test.pixels, images[[1, 6]])
        assert splits.test.labels.tolist() == [1, 0]
        assert len(splits.train) == 8


def test_a_split_where_there_is_none(stored):
    images, labels = RNG.integers(0, 256, (50, 4, 4), dtype=np.uint8), np.arange(50) % 2
    splits = stored({"images": images, "labels": labels})
    assert np.bincount(splits.test.labels).tolist() == [5, 5]  # a fifth of each class
    assert len(splits.train) == 40
    assert splits.test_held_out
    test = [10, 12, 13, 25, 26, 27, 39, 42, 43, 46]  # the same everywhere
    np.testing.assert_array_equal(splits.test.pixels, images[test])
    np.testing.assert_array_equal(splits.train.pixels, np.delete(images, test, axis=0))
    half = stored({"images": images, "labels": labels}, test_share=0.5)
    assert np.bincount(half.test.labels).tolist() == [12, 12]
    other = stored({"images": images, "labels": labels}, split_seed=1)
    assert not np.array_equal(other.test.pixels, splits.test.pixels)


def test_names_of_classes(stored):
    assert stored({**split_arrays(), "classes": ["cat", "dog", "eel", "fox"]}).classes == ("cat", "dog", "eel", "fox")


def test_labels_out_of_range_are_skipped_and_listed_if_asked(stored):
    arrays = split_arrays()
    arrays["y_train"][3], arrays["y_test"][0] = -1, 7
    splits = stored(arrays, on_error="skip")
    assert [fault.partition("set.npz: ")[2] for fault in splits.skipped] == [
        "training image 3 has label -1, labels go from 0 to 2",
        "test image 0 has label 7, labels go from 0 to 2",
    ]
    assert splits.train.labels.tolist() == [0, 1, 2, 1, 2, 0, 1]
    np.testing.assert_array_equal(splits.train.pixels, np.delete(arrays["x_train"], 3, axis=0))
    np.testing.assert_array_equal(splits.test.pixels, arrays["x_test"][1:])
    with pytest.raises(DataFault, match="no test image has a label from 0 to 2"):
        stored({**arrays, "y_test": np.full(4, 9)}, on_error="skip")


@pytest.mark.parametrize("shape", [(5, 6, 3), (5, 6)])
def test_statistics_are_those_of_the_training_pixels(stored, shape):
    arrays = split_arrays(shape)
    splits = stored(arrays)
    values = arrays["x_train"].reshape(-1, splits.in_chans) / 255
    np.testing.assert_allclose(splits.mean, values.mean(0))
    np.testing.assert_allclose(splits.std, values.std(0))
    arrays["x_train"][:] = 51
    constant = stored(arrays)
    np.testing.assert_allclose(constant.mean + constant.std, (0.2,) * splits.in_chans + (1.0,) * splits.in_chans)


def test_images_are_normalised_by_them_unless_the_config_says_otherwise(tmp_path):
    np.savez(tmp_path / "set.npz", **split_arrays((4, 4, 3)))

    def train(**options):
        settings = DataConfig(name="images", root=str(tmp_path / "set.npz"), batch_size=8, validation=0, **options)
        return next(iter(open_data(Config(data=settings)).train_batches(0)(0)))[0]

    torch.testing.assert_close(train().mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(train().std((0, 2, 3), correction=0), torch.ones(3))
    plain = train(mean=(0.0,) * 3, std=(1.0,) * 3)
    assert 0 <= plain.min() < plain.max() <= 1


def test_fingerprint_follows_the_content(stored):
    arrays = split_arrays()
    before = stored(arrays).fingerprint
    assert stored(arrays).fingerprint == before
    arrays["x_train"][0, 0, 0, 0] += 1
    assert stored(arrays).fingerprint != before


def test_lzma_archives(tmp_path):
    np.savez(tmp_path / "plain.npz", **split_arrays())
    packed = zipfile.ZipFile(tmp_path / "lzma.npz", "w", zipfile.ZIP_LZMA)
    with zipfile.ZipFile(tmp_path / "plain.npz") as plain, packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    one, other = (open_arrays(DataConfig(root=str(tmp_path / f"{name}.npz"))) for name in ("plain", "lzma"))
    assert one.fingerprint == other.fingerprint


def test_it_is_registered_and_digits_still_has_the_class():
    spec = find_dataset("images/mycifar")
    assert (spec.name, spec.in_chans, spec.size, spec.mean, spec.num_classes) == ("images", None, None, (), None)
    assert from_digits is ArrayImages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": None}, r"looked for arrays x_train, y_train, x_test, y_test, or images and labels \(and is_test\);"
         r" found x_test, y_test, y_train"),
        ({"x_train": np.zeros((8, 5, 6, 3))}, r"x_train must be of type uint8 \(0 to 255\), is float64"),
        ({"x_test": np.zeros((4, 5, 6, 2), np.uint8)}, r"x_test must be of shape \[N, H, W\], .* is \(4, 5, 6, 2\)"),
        ({"x_test": np.zeros((4, 5), np.uint8)}, r"x_test must be of shape \[N, H, W\], .* is \(4, 5\)"),
        ({"x_test": np.zeros((4, 5, 7, 3), np.uint8)}, r"shape \(5, 6, 3\) in x_train, and of \(5, 7, 3\) in x_test"),
        ({"x_test": np.zeros((4, 5, 6), np.uint8)}, r"shape \(5, 6, 3\) in x_train, and of \(5, 6\) in x_test"),
        ({"y_train": np.arange(7)}, r"y_train must have one label for each .*, got shape \[7\]"),
        ({"y_train": np.zeros((8, 1), int)}, r"y_train must have one label for each .*, got shape \[8, 1\]"),
        ({"y_train": np.zeros(8)}, "y_train must be integers, is float64"),
        ({"y_test": np.array([0, 1, -2, 1])}, "test image 2 has label -2, labels go from 0 to 2"),
        ({"y_test": np.array([0, 1, 3, 1])}, "test image 2 has label 3, labels go from 0 to 2"),
        ({"y_train": np.array([0, 1, 2, 255] * 2)}, "labels go up to 255, but no training image has label 3; an array"),
        ({"classes": ["a", "b"]}, "training image 2 has label 2, labels go from 0 to 1"),
        ({"x_test": np.zeros((0, 5, 6, 3), np.uint8), "y_test": np.zeros(0, int)}, r"x_test has no images"),
        ({"x_train": np.array([None] * 8)}, "has an array of Python objects"),
    ],
)  # fmt: skip
def test_arrays_that_cannot_be_used(stored, tmp_path, changes, message):
    arrays = {key: value for key, value in {**split_arrays(), **changes}.items() if value is not None}
    with pytest.raises(DataFault, match=rf"set\.npz: .*{message}") as error:
        stored(arrays)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("is_test", "message"),
    [
        (np.zeros(9, bool), "is_test must be true or false for each of 10 images, is bool (9,)"),
        (np.arange(10), "is_test must be true or false for each of 10 images, is int64 (10,)"),
        (np.zeros(10, bool), "0 of 10 images are for testing: one of the splits is empty"),
        (np.ones(10, bool), "10 of 10 images are for testing"),
    ],
)
def test_splits_that_are_none(stored, is_test, message):
    with pytest.raises(DataFault) as error:
        stored({"images": np.zeros((10, 4, 4), np.uint8), "labels": np.zeros(10, int), "is_test": is_test})
    assert message in str(error.value)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match=r"data\.root is not set; set it to the place of dataset 'images': an \.npz"):
        open_arrays(DataConfig(name="images"))
    with pytest.raises(UserError, match=r"looked for an \.npz file of .*/nothing\.npz \(data\.root\), not found"):
        open_arrays(DataConfig(name="images", root=str(tmp_path / "nothing.npz")))
    with pytest.raises(UserError, match=r"\(data\.root\) is a folder; it must be an \.npz file of x_train, y_train"):
        open_arrays(DataConfig(name="images", root=str(tmp_path)))
    for content in (b"", b"images, labels", np.arange(9).tobytes()):
        (tmp_path / "text.npz").write_bytes(content)
        with pytest.raises(DataFault, match=r"text\.npz: is not a file of arrays"):
            open_arrays(DataConfig(name="images", root=str(tmp_path / "text.npz")))
    np.save(tmp_path / "one.npy", np.arange(9))
    with pytest.raises(DataFault, match=r"one\.npy: is not an \.npz file, which numpy.savez writes"):
        open_arrays(DataConfig(name="images", root=str(tmp_path / "one.npy")))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_and_damaged_files(tmp_path, save):
    file = tmp_path / "set.npz"
    save(file, **split_arrays())
    whole = file.read_bytes()
    for length in (4, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(DataFault, match=r"set\.npz: is (cut off or damaged|not a file of arrays)"):
            open_arrays(DataConfig(name="images", root=str(file)))
    middle = 200
    file.write_bytes(whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 40]) + whole[middle + 40 :])
    with pytest.raises(DataFault, match=r"set\.npz: "):
        open_arrays(DataConfig(name="images", root=str(file)))
