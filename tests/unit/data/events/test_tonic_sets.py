"""The data sets of tonic that have no name of their own here."""

from pathlib import Path

import numpy as np
import pytest

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import check_options, find_dataset, open_data
from step_ahsar.errors import UserError

datasets = pytest.importorskip("tonic.datasets", reason="comes with the extra events")


def events(seed, size=20, sensor=(35, 35)):
    """[N, 4] of t, x, y, p, as POKERDVS keeps them."""
    draw = np.random.default_rng(seed).integers
    t = np.sort(draw(0, 9000, size))
    return np.stack([t, draw(0, sensor[0], size), draw(0, sensor[1], size), draw(0, 2, size)], 1)


def poker(root: Path):
    """Files as tonic's POKERDVS unpacks them: 20 for training and 20 for testing."""
    for part, first in (("train", 0), ("test", 100)):
        folder = root / "POKERDVS" / f"pips_{part}"
        for i in range(20):
            place = folder / ("cl", "he", "di", "sp")[i % 4] / f"{i:02d}.npy"
            place.parent.mkdir(parents=True, exist_ok=True)
            np.save(place, events(first + i))
        (root / "POKERDVS" / f"pips_{part}.tar.gz").write_bytes(b"")
    return root


def load(name, root, **more):
    return find_dataset(name).open(DataConfig(name=name, root=str(root), **more))


class Recordings:
    """Stands in for a class of tonic's without a training part: 5 recordings of each of two classes."""

    sensor_size = (40, 30, 2)
    classes = {"wave": 1, "clap": 0}  # noqa: RUF012  # as tonic has them
    order = tuple(range(10))
    dtype = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "?")])

    def __init__(self, save_to):
        if not Path(save_to, "here").exists():
            self.download()

    def download(self):
        raise AssertionError("downloads")

    def __getitem__(self, index):
        number = self.order[index]
        rows = events(number, sensor=(40, 30))
        return np.array([tuple(row) for row in rows], self.dtype), ("clap", "wave")[number % 2]

    def __len__(self):
        return len(self.order)


@pytest.fixture
def standin(monkeypatch, tmp_path):
    (tmp_path / "here").touch()
    monkeypatch.setattr(datasets, "Recordings", type("Recordings", (Recordings,), {}), raising=False)
    return datasets.Recordings


def test_recordings_are_tonics(tmp_path):
    splits = load("tonic/POKERDVS", poker(tmp_path))
    assert splits.classes == ("cl", "he", "di", "sp")
    assert (len(splits.train), len(splits.test), splits.size) == (20, 20, (35, 35))
    assert not splits.test_held_out
    theirs = datasets.POKERDVS(str(tmp_path), train=False)
    found = {
        (tuple(e.t), tuple(e.x), tuple(e.y), tuple(e.p), label) for e, label in map(splits.test.__getitem__, range(20))
    }
    assert found == {
        (*(tuple(e[name].tolist()) for name in "txyp"), label) for e, label in map(theirs.__getitem__, range(20))
    }
    assert [splits.train[i][1] for i in range(20)] == list(splits.train.labels) == sorted(splits.train.labels)


def test_a_set_without_a_test_part(standin, tmp_path):
    splits = load("tonic/Recordings", tmp_path, test_share=0.4)
    assert splits.test_held_out
    assert splits.classes == ("clap", "wave")
    assert splits.size == (30, 40)
    assert (sorted(splits.train.labels), sorted(splits.test.labels)) == ([0] * 3 + [1] * 3, [0] * 2 + [1] * 2)
    seen = {tuple(part[i][0].t) for part in (splits.train, splits.test) for i in range(len(part))}
    assert len(seen) == 10
    other = load("tonic/Recordings", tmp_path, test_share=0.4, split_seed=1)
    assert other.fingerprint != splits.fingerprint


def test_the_order_of_the_files_does_not_matter(standin, tmp_path):
    found = []
    for order in (range(10), reversed(range(10))):
        standin.order = tuple(order)
        splits = load("tonic/Recordings", tmp_path)
        found.append((splits.fingerprint, [splits.train[i][0].t.tolist() for i in range(len(splits.train))]))
    assert found[0] == found[1]
    standin.order = (*range(9), 11)
    assert load("tonic/Recordings", tmp_path).fingerprint != found[0][0]


def test_frames(standin, tmp_path):
    values = {"data.name": "tonic/Recordings", "data.root": str(tmp_path), "data.batch_size": 4, "model.time_steps": 3}
    data = open_data(Config().with_values(values | {"data.validation": 0, "data.cache": str(tmp_path / "cache")}))
    x, _ = next(iter(data.test_batches()))
    assert x.shape == (3, 2, 2, 30, 40)
    assert x.sum() == 2 * 20
    crop = [{"name": "CenterCrop", "size": [20, 10]}]
    data = open_data(data.config.with_values({"data.events.transforms": crop, "data.img_size": [10, 20]}))
    assert next(iter(data.test_batches()))[0].shape == (3, 2, 2, 10, 20)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            (events(0), 0),
            r"tonic/Recordings all\[3\]: must be events with the fields x, y, t",
        ),
        ((None, 0), r"all\[3\]: must be events with the fields x, y, t, p"),
        ("target", r"all\[3\]: its target must be a class, got 'jump'"),
        ("label", r"all\[3\]: label 2 is out of range: tonic names 2 classes"),
        ("outside", r"all\[3\]: event 0 has x = 40, outside the sensor of 30 x 40"),
        (OSError("cut off"), r"all\[3\]: tonic cannot read it: OSError: cut off"),
    ],
)
def test_recordings_that_cannot_be_used(standin, tmp_path, monkeypatch, broken, message):
    honest = Recordings.__getitem__

    def read(self, index):
        found, target = honest(self, index)
        if index != 3:
            return found, target
        if isinstance(broken, Exception):
            raise broken
        if broken == "outside":
            found["x"][0] = 40
        return {"target": (found, "jump"), "label": (found, 2), "outside": (found, target)}.get(str(broken), broken)

    monkeypatch.setattr(standin, "__getitem__", read, raising=False)
    with pytest.raises(UserError, match=message):
        load("tonic/Recordings", tmp_path)
    splits = load("tonic/Recordings", tmp_path, on_error="skip")
    assert len(splits.train) + len(splits.test) == 9
    assert "all[3]: " in splits.skipped[0]


def test_nothing_is_downloaded_unless_it_is_wanted(standin, tmp_path):
    (tmp_path / "here").unlink()
    with pytest.raises(UserError, match=r"tonic cannot open it in .*: it is not there; set data\.download=true"):
        load("tonic/Recordings", tmp_path)
    assert "download" not in vars(standin)
    with pytest.raises(UserError, match="AssertionError: downloads"):
        load("tonic/Recordings", tmp_path, download=True)
    with pytest.raises(UserError, match=r"data\.root is not set; .* the folder that is tonic's save_to"):
        find_dataset("tonic/Recordings").open(DataConfig(name="tonic/Recordings"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tonic", "needs the name of a data set behind it: tonic/<name>"),
        ("tonic/POKER", "unknown class of tonic.datasets: 'POKER'; did you mean 'POKERDVS'"),
        ("tonic/NMNIST", "'tonic/NMNIST' is known by another name: set data.name to nmnist"),
        ("tonic/SHD", "is known by another name: set data.name to shd"),
        ("tonic/DSEC", "'tonic/DSEC' cannot be used: its samples have no class"),
        ("tonic/SMNIST", r"'tonic/SMNIST' cannot be used: its events have no rows \(y\)"),
    ],
)
def test_classes_that_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        check_options(Config().with_values({"data.name": name}), find_dataset(name))


def test_every_class_of_tonic_is_known_to_fit_or_not():
    """A class of a later release is offered; this test says that it has to be looked at."""
    from step_ahsar.data.events import tonic_sets as ours

    known = {"POKERDVS", *ours._HERE, *ours._NO_CLASSES, *ours._NO_ROWS}
    assert {name for name, each in vars(datasets).items() if isinstance(each, type)} <= known
    for name in ours._NO_ROWS:
        assert "y" not in getattr(datasets, name).dtype.names
