"""Images pixel by pixel."""

import os
import struct
from hashlib import sha256

import numpy as np
import pytest

from step_ahsar.config import DataConfig, SequenceConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.data.embedded.digits import open_digits
from step_ahsar.data.sequences import audio, pixels, series, spikes  # noqa: F401  # they register their sets
from step_ahsar.data.sequences.pixels import permutation
from step_ahsar.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 0, 9, 1, 1, 7], dtype=np.uint8)


def opened(name, root, permute=False, **config):
    config = DataConfig(name=name, root=str(root), sequence=SequenceConfig(permute=permute), **config)
    return find_dataset(name).open(config)


def save(path, **changes):
    arrays = {"x_train": IMAGES[:4], "y_train": LABELS[:4], "x_test": IMAGES[4:], "y_test": LABELS[4:]}
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


@pytest.fixture
def npz(tmp_path):
    return save(tmp_path / "mnist.npz")


@pytest.fixture
def idx(tmp_path):
    """The same images as the files of MNIST."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, part in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
        x, y = IMAGES[part], LABELS[part]
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, *x.shape) + x.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, len(y)) + y.tobytes())
    return tmp_path


def test_the_permutation_is_the_published_one():
    order = permutation(784)
    assert sorted(order) == list(range(784))
    assert order[:10].tolist() == [319, 576, 323, 107, 355, 716, 197, 20, 625, 60]
    digest = sha256(order.astype("<i8").tobytes()).hexdigest()
    assert digest == "96240fe27409981c3ed3e92c20d995f7103a94c2282307bc776923030113be74"


def test_pixels_come_row_after_row(npz):
    splits = opened("smnist", npz)
    assert (len(splits.train), len(splits.test), splits.classes) == (4, 2, tuple("0123456789"))
    values, label = splits.test[1]
    assert (values.shape, values.dtype, label) == ((1, 784), np.float32, 7)
    np.testing.assert_array_equal(np.rint(values[0] * 255), IMAGES[5].flatten())
    assert values.min() >= 0
    assert values.max() <= 1


def test_permuted_by_name_and_by_key(npz):
    plain, permuted = opened("smnist", npz), opened("psmnist", npz)
    by_key, twice = opened("smnist", npz, permute=True), opened("psmnist", npz, permute=True)
    np.testing.assert_array_equal(permuted.train[2][0], plain.train[2][0][:, permutation(784)])
    for other in (by_key, twice):
        np.testing.assert_array_equal(other.train.pixels, permuted.train.pixels)
    assert by_key.fingerprint == permuted.fingerprint != plain.fingerprint


def test_a_folder_of_mnist_gives_what_the_npz_gives(npz, idx):
    for name in ("smnist", "psmnist"):
        assert opened(name, idx).fingerprint == opened(name, npz).fingerprint


def test_scifar10_has_three_channels(tmp_path):
    images = RNG.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    path = save(tmp_path / "c.npz", x_train=images, y_train=LABELS[:3], x_test=images[:2], y_test=LABELS[:2])
    plain, permuted = opened("scifar10", path), opened("scifar10", path, permute=True)
    values, _ = plain.train[1]
    assert values.shape == (3, 1024)
    assert np.rint(values[2, 32 + 5] * 255) == images[1, 1, 5, 2]
    np.testing.assert_array_equal(permuted.train[1][0], values[:, permutation(1024)])
    assert plain.classes[3] == "cat"


def test_digits_sequence_is_the_digits():
    splits, images = find_dataset("digits_sequence").open(DataConfig(name="digits_sequence")), open_digits(DataConfig())
    values, label = splits.test[11]
    image, wanted = images.test[11]
    np.testing.assert_array_equal(np.rint(values * 255), np.asarray(image).reshape(1, 64))
    assert (label, len(splits.train), len(splits.test)) == (wanted, 1297, 500)
    permuted = opened("digits_sequence", "", permute=True)
    np.testing.assert_array_equal(permuted.test[11][0], values[:, permutation(64)])


def test_specs():
    for name, chans, size in (
        ("smnist", 1, 784),
        ("psmnist", 1, 784),
        ("scifar10", 3, 1024),
        ("digits_sequence", 1, 64),
    ):
        spec = find_dataset(name)
        assert (spec.in_chans, spec.size, spec.num_classes, spec.ndim, spec.modality) == (
            chans,
            size,
            10,
            1,
            "sequence",
        )
        assert (len(spec.mean), len(spec.std), spec.mirrors, spec.tasks) == (chans, chans, False, ("classification",))


def test_statistics_of_the_digits():
    spec = find_dataset("digits_sequence")
    values = spec.open(DataConfig()).train.pixels / 255
    np.testing.assert_allclose([spec.mean[0], spec.std[0]], [values.mean(), values.std()], atol=5e-5)


@pytest.mark.parametrize("name", ["smnist", "scifar10"])
def test_missing(name, tmp_path):
    holds = {"smnist": "MNIST/raw", "scifar10": "cifar-10-batches-py"}[name]
    for root in (tmp_path, tmp_path / "gone", tmp_path / "gone.npz"):
        with pytest.raises(UserError, match=rf"looked for {holds} or an \.npz .* in {root}.*; get it from http"):
            opened(name, root)
    with pytest.raises(UserError, match=r"data\.root is not set"):
        find_dataset(name).open(DataConfig(name=name))
    with pytest.raises(UserError, match=r"data\.root is not set"):
        find_dataset(name).open(DataConfig(name=name, download=True))


def test_damaged_files_of_mnist(idx):
    path = idx / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataFault, match=r"MNIST/raw: "):
        opened("smnist", idx)


def test_damaged_files_of_cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"0")
    with pytest.raises(DataFault, match="cifar-10-batches-py: incomplete or damaged; get it from http"):
        opened("scifar10", tmp_path)


def test_damaged_npz(npz, tmp_path):
    npz.write_bytes(npz.read_bytes()[:500])
    with pytest.raises(DataFault, match=r"mnist\.npz: is cut off or damaged"):
        opened("smnist", npz)
    with pytest.raises(DataFault, match=r"no array 'y_test'; found x_test, x_train, y_train"):
        opened("smnist", save(npz, y_test=None))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataFault, match=r"text\.npz: is not a file of arrays"):
        opened("smnist", tmp_path / "text.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": IMAGES[:4, :27]}, r"x_train must be uint8 \[N, 28, 28\], got uint8 \[4, 27, 28\]"),
        ({"x_test": IMAGES[4:] / 255}, r"x_test must be uint8 \[N, 28, 28\], got float64"),
        ({"y_train": LABELS[:3]}, "y_train has 3 values for 4 samples"),
        ({"y_train": LABELS[:4] / 2}, r"y_train must be integers \[N\], got float64 \[4\]"),
        ({"y_test": np.array([1, 10])}, r"y_test\[1\] is 10, labels go from 0 to 9"),
        ({"y_test": np.array([-1, 1])}, r"y_test\[0\] is -1, labels go from 0 to 9"),
    ],
)
def test_wrong_arrays(tmp_path, changes, message):
    path = save(tmp_path / "a.npz", **changes)
    with pytest.raises(DataFault, match=f"{path}: {message}"):
        opened("smnist", path)


def test_labels_out_of_range_can_be_skipped(tmp_path):
    path = save(tmp_path / "a.npz", y_train=np.array([3, 10, 9, -1]))
    splits = opened("smnist", path, on_error="skip")
    assert splits.train.labels.tolist() == [3, 9]
    np.testing.assert_array_equal(np.rint(splits.train[1][0] * 255), IMAGES[2].reshape(1, -1))
    assert splits.skipped == (
        f"{path}: y_train[1] is 10, labels go from 0 to 9",
        f"{path}: y_train[3] is -1, labels go from 0 to 9",
    )


def test_keys_that_do_not_apply(npz):
    config = DataConfig(name="smnist", root=str(npz), sequence=SequenceConfig(mels=20))
    with pytest.raises(UserError, match=r"data\.sequence\.mels does not apply to dataset 'smnist'"):
        find_dataset("smnist").open(config)
    for name in ("shd", "ssc", "speech", "series"):
        with pytest.raises(UserError, match=f"data.sequence.permute does not apply to dataset '{name}'"):
            opened(name, npz, permute=True)


@pytest.mark.skipif("STEP_AHSAR_DATA" not in os.environ, reason="needs real data")
def test_real_mnist():
    splits = opened("smnist", f"{os.environ['STEP_AHSAR_DATA']}/mnist_20k_10k.npz")
    assert (len(splits.train), len(splits.test)) == (20000, 10000)
    values = splits.train.pixels / 255
    np.testing.assert_allclose([values.mean(), values.std()], [0.1307, 0.3081], atol=2e-3)
