"""Images from disk."""

import importlib.util
import pickle
import struct
import tarfile
from typing import ClassVar

import numpy as np
import pytest
import timm.data
import torch
import torchvision
from PIL import Image
from timm.data.readers import reader_image_in_tar

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import DATASETS, find_dataset, open_data, register_dataset
from step_ahsar.data.common.splits import labels_of
from step_ahsar.data.images import stored
from step_ahsar.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """train: 3 images of each of 2 classes; val: 2 of each. Class k is of brightness 100 k."""
    for split, count in (("train", 3), ("val", 2)):
        for k, name in enumerate(("cat", "dog")):
            for i in range(count):
                path = tmp_path / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (10, 12), (100 * k,) * 3).save(path)
    return tmp_path


def opened(root, **config):
    values = {"name": "folder", "root": str(root), "img_size": 8, "batch_size": 2, "validation": 0, **config}
    return open_data(Config(data=DataConfig(**values)))


def test_folder(folder):
    data = opened(folder)
    assert (len(data.splits.train), len(data.splits.test), data.splits.classes) == (6, 4, ("cat", "dog"))
    images = torch.cat([x for x, _ in data.test_batches()])
    labels = torch.cat([y for _, y in data.test_batches()])
    assert images.shape == (4, 3, 8, 8)
    brightness = images[:, 0, 0, 0] * 0.229 + 0.485
    torch.testing.assert_close(brightness, labels * 100 / 255)


def test_a_folder_may_carry_a_title(folder):
    data = open_data(Config(data=DataConfig(name="folder/pets", root=str(folder), batch_size=2)))
    assert data.describe()["name"] == "folder/pets"


def test_fingerprint_follows_the_files_and_not_where_they_are(folder, tmp_path_factory):
    before = opened(folder).splits.fingerprint
    moved = folder.rename(tmp_path_factory.mktemp("elsewhere") / "data")
    assert opened(moved).splits.fingerprint == before
    Image.new("RGB", (9, 9)).save(moved / "train" / "cat" / "new.png")
    assert opened(moved).splits.fingerprint != before


def test_test_images_of_a_class_without_training_images(folder):
    path = folder / "val" / "fish" / "0.png"
    path.parent.mkdir()
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(UserError, match=r"classes that .*train lacks: fish"):
        opened(folder)


@pytest.fixture
def damaged(folder):
    """An image that is cut off, a file that is none, and a class without images."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = folder / "train" / "cat" / "cut.jpg"
    Image.fromarray(noise).save(whole)
    whole.write_bytes(whole.read_bytes()[:300])
    (folder / "val" / "dog" / "text.png").write_text("no image")
    return folder


def test_a_damaged_image_is_named(damaged):
    with pytest.raises(UserError, match=r"cut\.jpg: not a readable image: .*[Tt]runcated"):
        list(opened(damaged).train_batches(0)(1))
    with pytest.raises(UserError, match=r"text\.png: not a readable image: cannot identify") as error:
        list(opened(damaged, workers=1).test_batches())
    assert "\n" not in str(error.value)  # not a worker's traceback


def test_damaged_images_are_skipped_and_listed_if_asked(damaged):
    (damaged / "train" / "bird").mkdir()
    data = opened(damaged, on_error="skip")
    assert (len(data.splits.train), len(data.splits.test)) == (6, 4)
    assert [fault.partition(": ")[0].rpartition("/")[2] for fault in data.splits.skipped] == [
        "bird",
        "cut.jpg",
        "text.png",
    ]
    assert data.describe()["skipped"] == list(data.splits.skipped)
    assert sum(len(y) for _, y in data.test_batches()) == 4


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_class_folder(folder, split):
    (folder / split / "bird").mkdir()
    with pytest.raises(UserError, match=rf"{split}/bird: this class folder holds no images"):
        opened(folder)


@pytest.mark.parametrize("split", ["train", "val"])
def test_files_of_unknown_types(folder, split):
    """Those that timm passes over, and images in formats that it does not list."""
    (folder / split / "cat" / ".hidden").write_text("")
    (folder / split / "labels.csv").write_text("")  # beside the classes
    opened(folder)
    Image.new("RGB", (8, 8)).save(folder / split / "cat" / "new.bmp")
    with pytest.raises(UserError, match=r"cat/new\.bmp: unknown file type '\.bmp'; known: \.png, "):
        opened(folder)
    skipped = opened(folder, on_error="skip").splits
    assert [fault.partition(": ")[0].rpartition("/")[2] for fault in skipped.skipped] == ["new.bmp"]
    assert (len(skipped.train), len(skipped.test)) == (6, 4)


def test_a_tar_file_is_a_folder(folder, tmp_path_factory):
    packed = tmp_path_factory.mktemp("packed")
    for split in ("train", "val"):
        with tarfile.open(packed / f"{split}.tar", "w") as tar:
            for image in sorted((folder / split).rglob("*.png")):
                tar.add(image, arcname=image.relative_to(folder / split))
    from_tar, from_folder = opened(packed), opened(folder)
    assert from_tar.splits.classes == from_folder.splits.classes
    for (a, x), (b, y) in zip(from_tar.test_batches(), from_folder.test_batches(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def test_a_class_without_test_images_is_allowed(folder):
    for file in (folder / "val" / "dog").iterdir():
        file.unlink()
    (folder / "val" / "dog").rmdir()
    assert opened(folder).splits.classes == ("cat", "dog")


@pytest.mark.parametrize(("split", "words"), [("train", "train or training"), ("val", "val or valid or validation")])
def test_a_split_that_is_missing_or_empty(folder, split, words):
    for file in folder.glob(f"{split}/*/*"):
        file.unlink()
    with pytest.raises(UserError, match=rf"{split}/cat: this class folder holds no images"):
        opened(folder)
    for path in sorted(folder.glob(f"{split}/**/"), reverse=True):
        path.rmdir()
    with pytest.raises(UserError) as error:
        opened(folder)
    assert words in str(error.value)
    assert str(folder) in str(error.value)


# The embedded sets need no files, `own` is handed over from Python, and tonic has words of its own for its sets.
@pytest.mark.parametrize("name", [name for name in DATASETS if "digits" not in name and name not in ("own", "tonic")])
def test_data_that_are_not_there(name, tmp_path):
    task = DATASETS[name].tasks[0]
    package = {"tfds": "tensorflow_datasets", "wds": "webdataset"}.get(name, "datasets" if "hf" in name else None)
    if DATASETS[name].needs_title:
        name = "torch/imagenet" if name == "torch" else f"{name}/mine"
    if package is not None and importlib.util.find_spec(package) is None:
        with pytest.raises(UserError, match=f"needs the package {package}: pip install {package}"):
            open_data(Config(task=task, data=DataConfig(name=name)))
        return
    with pytest.raises(UserError) as error:
        open_data(Config(task=task, data=DataConfig(name=name)))
    assert "data.root is not set" in str(error.value)
    root = tmp_path / "none.npz" if name == "images" else tmp_path
    with pytest.raises(UserError) as error:
        open_data(Config(task=task, data=DataConfig(name=name, root=str(root))))
    assert "looked for" in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_torchvision_sets(tmp_path):
    """MNIST's own format, two images."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    for split in ("train", "t10k"):
        (raw / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 2, 28, 28) + pixels.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 2) + bytes([3, 7]))
    data = open_data(Config(data=DataConfig(name="torch/mnist", root=str(tmp_path), batch_size=2, validation=0)))
    images, labels = next(iter(data.test_batches()))
    assert labels.tolist() == [3, 7]
    torch.testing.assert_close(images[:, 0] * 0.3081 + 0.1307, torch.from_numpy(pixels) / 255)
    assert len(data.classes) == 10


def test_unknown_and_duplicate_names():
    with pytest.raises(UserError, match="unknown dataset 'digit'; did you mean 'digits'"):
        find_dataset("digit")
    with pytest.raises(UserError, match="already registered"):
        register_dataset(find_dataset("digits"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch/cifra10", "unknown dataset 'torch/cifra10'; did you mean 'torch/cifar10'"),
        ("torch", "dataset 'torch' needs the name of a data set behind it: torch/<name>"),
        ("digits/typo", "dataset 'digits' takes no title, got 'digits/typo'; did you mean 'digits'"),
        ("shd/mine", "dataset 'shd' takes no title"),
        ("folder/", "dataset 'folder/' ends in a slash; give folder/<name>"),
        ("folders/mine", "unknown dataset 'folders/mine'"),
    ],
)
def test_titles_are_checked(name, message):
    """Fault: validate accepted torch/cifra10 and digits/typo."""
    with pytest.raises(UserError, match=message):
        find_dataset(name)
    assert find_dataset("folder/flowers").name == "folder"
    assert find_dataset("torch/imagenet").name == "torch"


@pytest.fixture
def streams(monkeypatch, tmp_path):
    """Timm's streaming sets, as far as they are used here: an iterable of (image, label), and a reader."""

    class Stream:
        reader = type("Reader", (), {"class_to_idx": {}})()

        def __init__(self, count):
            self.count = count

        def __iter__(self):
            return ((Image.new("L", (8, 8), 20 * i), i % 2) for i in range(self.count))

    def create(name, root, split, **options):
        if split not in ("train", "test"):
            raise ValueError(f"Unknown split {split!r}")
        return Stream({"train": 6, "test": 3}[split])

    monkeypatch.setattr(stored.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("timm.data.create_dataset", create)
    return lambda name: open_data(
        Config(data=DataConfig(name=name, root=str(tmp_path), img_size=8, batch_size=2, validation=0, download=True))
    )


@pytest.mark.parametrize("name", ["tfds/mine", "wds/mine", "hfids/me/mine"])
def test_streams_are_read_into_memory_and_shuffled_by_the_seed(name, streams):
    data = streams(name)
    assert (len(data.splits.train), len(data.splits.test), data.splits.classes) == (6, 3, ("0", "1"))
    assert torch.cat([y for _, y in data.test_batches()]).tolist() == [0, 1, 0]
    first, again, other = (torch.cat([x for x, _ in streams(name).train_batches(seed)(1)]) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (6, 3, 8, 8)


def test_a_stream_whose_labels_go_beyond_its_classes(streams, monkeypatch):
    created = timm.data.create_dataset

    def create(*arguments, **options):
        stream = created(*arguments, **options)
        stream.reader = type("Reader", (), {"class_to_idx": {"only": 0}})()
        return stream

    monkeypatch.setattr("timm.data.create_dataset", create)
    with pytest.raises(UserError, match="labels must be 0 to 0, got labels from 0 to 1"):
        streams("tfds/mine")


def test_the_images_of_a_tar_file_are_found_without_running_what_lies_beside_it(folder, tmp_path_factory, monkeypatch):
    """Fault: a foreign ``_train_tarinfos.pickle`` ended in a traceback. timm unpickles it beside tars of over 10 GB."""
    monkeypatch.setattr(reader_image_in_tar.os.path, "getsize", lambda path: 11 * 1024**3)
    packed = tmp_path_factory.mktemp("packed")
    for split in ("train", "val"):
        with tarfile.open(packed / f"{split}.tar", "w") as tar:
            tar.add(folder / split, arcname=".")
        (packed / f"_{split}_tarinfos.pickle").write_bytes(pickle.dumps(Trap()))
    assert len(opened(packed).splits.train) == 6


class Trap:
    def __reduce__(self):
        return exec, ("raise AssertionError('unpickled')",)


def test_qmnist_is_divided_by_class(tmp_path):
    """Fault: its targets are [N, 8], the class and facts about the writer, and were taken for classes."""
    raw = tmp_path / "QMNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        pixels, facts = rng.integers(256, size=(count, 28, 28)).astype("u1"), rng.integers(9, size=(count, 8))
        facts[:, 0] = np.arange(count) % 10
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, *pixels.shape)
        (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        head = struct.pack(">BBBBII", 0, 0, 12, 2, *facts.shape)
        (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(head + facts.astype(">i4").tobytes())
    splits = open_data(Config(data=DataConfig(name="torch/qmnist", root=str(tmp_path), validation=0.25))).splits
    assert splits.validation is not None
    assert np.bincount(labels_of(splits.validation)).tolist() == [1] * 10
    assert [splits.validation[i][1] for i in range(10)] == labels_of(splits.validation).tolist()


def test_places365(tmp_path, monkeypatch):
    """Fault: torchvision's Places365 has no attribute ``samples``."""
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.jpg")
    images = {"train-standard": ["a", "b"], "val": ["c"]}
    monkeypatch.setattr(torchvision.datasets.Places365, "load_categories", lambda *_: (["x", "y"], {"x": 0, "y": 1}))
    monkeypatch.setattr(
        torchvision.datasets.Places365,
        "load_file_list",
        lambda self, *_: ([(str(tmp_path / f"{name}.jpg"), 0) for name in images[self.split]], [0, 0]),
    )
    splits = open_data(Config(data=DataConfig(name="torch/places365", root=str(tmp_path), validation=0))).splits
    assert (len(splits.train), len(splits.test), splits.classes) == (2, 1, ("x", "y"))
    assert splits.train[0][0].size == (8, 8)


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ({"train": [0, 1, 0], "validation": [1, 0], "test": [0]}, [3, 2, 1]),  # fault: the test part was never used
        ({"train": [0, 1, 0], "validation": [1, 0], "test": [-1]}, [3, None, 2]),  # as is usual for competitions
        ({"train": [0, 1, 0], "validation": [1, 0], "test": [None]}, [3, None, 2]),
        ({"train": [0, 1, 0], "valid": [1, 0]}, [3, None, 2]),
        ({"training": [0, 1, 0], "test": [1]}, [3, None, 1]),
    ],
)
def test_the_parts_of_streams(labels, parts, monkeypatch, tmp_path):
    class Part:
        """Timm's data set of one part, and its reader."""

        class_to_idx: ClassVar = {"a": 0, "b": 1}

        def __init__(self, split):
            self.reader, self.split = self, split

        def __getitem__(self, index):
            if index >= len(self):
                raise IndexError
            return Image.new("RGB", (8, 8)), labels[self.split][index]

        def __len__(self):
            return len(labels[self.split])

    def create(name, root, split, **options):
        if split not in labels:
            raise RuntimeError(f"split {split} not found in info")  # of webdataset; others raise a ValueError
        return Part(split)

    monkeypatch.setattr(stored.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr("timm.data.create_dataset", create)
    splits = find_dataset("wds/mine").open(DataConfig(name="wds/mine", root=str(tmp_path)))
    found = [splits.train, splits.validation, splits.test]
    assert [None if part is None else len(part) for part in found] == parts
    assert splits.classes == ("a", "b")
