"""Recordings in folders by class, and packed in one file."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from step_ahsar.config import DataConfig
from step_ahsar.data import find_dataset
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.events.stored import open_events
from step_ahsar.errors import UserError


def events(seed, n=20, size=(5, 7)):
    rng = np.random.default_rng(seed)
    arrays = {"x": rng.integers(0, size[1], n), "y": rng.integers(0, size[0], n), "p": rng.integers(0, 2, n)}
    return arrays | {"t": np.sort(rng.integers(0, 1000, n))}


def write(path, seed=0, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **(events(seed) | changes))


def folder(root, places=("train/cat", "train/dog", "test/cat", "test/dog"), count=3):
    for number, place in enumerate(places):
        for i in range(count):
            write(root / place / f"{i}.npz", 10 * number + i)
    return root


def load(root, **options):
    return open_events(DataConfig(name="events", root=str(root), **options))


def packed(path, samples=20, classes=2, **changes):
    parts = [events(i) for i in range(samples)]
    arrays = {name: np.concatenate([part[name] for part in parts]).astype(np.uint8) for name in "xyp"}
    arrays["dt"] = np.concatenate([np.diff(part["t"], prepend=0) for part in parts]).astype(np.uint16)
    arrays["offsets"] = np.arange(samples + 1) * 20
    arrays["label"] = np.arange(samples) % classes
    arrays["is_test"] = (np.arange(samples) >= samples - 4).astype(np.uint8)
    arrays |= changes
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return path


def test_the_labels_may_be_called_labels(tmp_path):
    labels = np.arange(20) % 2
    splits = load(packed(tmp_path / "a.npz", label=None, labels=labels))
    assert splits.train.labels.tolist() == labels[:16].tolist()


def same(recording, seed):
    for name, values in events(seed).items():
        assert getattr(recording, name).tolist() == values.tolist()


def test_the_data_set_is_listed():
    spec = find_dataset("events/mygestures")
    assert (spec.modality, spec.in_chans, spec.size, spec.mean) == ("event", 2, None, ())


@pytest.mark.parametrize("test", ["test", "val", "Test"])
def test_a_folder_with_splits(tmp_path, test):
    splits = load(folder(tmp_path, ("train/cat", "train/dog", f"{test}/cat", f"{test}/dog")))
    assert splits.classes == ("cat", "dog")
    assert (len(splits.train), len(splits.test)) == (6, 6)
    assert [splits.train[i][1] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    same(splits.train[4][0], 11)
    same(splits.test[2][0], 22)
    assert (splits.in_chans, splits.size) == (2, (5, 7))
    assert not splits.skipped


def test_formats_may_be_mixed_and_hidden_files_are_passed_over(tmp_path):
    folder(tmp_path)
    (tmp_path / "train/cat/9.bin").write_bytes(bytes([20, 3, 128, 0, 1]))
    (tmp_path / "train/cat/.DS_Store").write_text("")
    (tmp_path / "README.txt").write_text("")
    splits = load(tmp_path)
    assert splits.size == (5, 21)
    assert splits.train[0][0].sensor == (5, 21)  # all on the same sensor
    assert splits.train[3][0].x.tolist() == [20]


def test_a_folder_without_splits_is_split_the_same_way_everywhere(tmp_path):
    splits = [load(folder(tmp_path / name, ("cat", "dog"), 10)) for name in "ab"]
    assert (len(splits[0].train), len(splits[0].test)) == (16, 4)
    names = [[(path.parent.name, path.name) for path, _ in split.test.items] for split in splits]
    assert names[0] == names[1]
    assert [name for name, _ in names[0]] == ["cat", "cat", "dog", "dog"]
    assert splits[0].fingerprint == splits[1].fingerprint


def test_how_a_set_without_a_test_part_is_split(tmp_path):
    folder(tmp_path, ("cat", "dog"), 10)
    whole = load(tmp_path)
    assert whole.test_held_out
    assert [len(load(tmp_path, test_share=share).test) for share in (0.2, 0.5, 0.01)] == [4, 10, 2]
    other = load(tmp_path, split_seed=1)
    assert [path for path, _ in other.test.items] != [path for path, _ in whole.test.items]
    assert not load(folder(tmp_path / "b")).test_held_out


def test_with_val_and_test_the_former_is_for_validation(tmp_path):
    places = [f"{part}/{name}" for part in ("train", "val", "test") for name in ("cat", "dog")]
    splits = load(folder(tmp_path, places))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 6, 6)
    same(splits.validation[0][0], 20)
    same(splits.test[0][0], 40)


def test_the_fingerprint_is_of_the_content(tmp_path):
    first = load(folder(tmp_path)).fingerprint
    assert load(tmp_path).fingerprint == first
    write(tmp_path / "train/cat/1.npz", 1, p=1 - events(1)["p"])  # of the same size
    assert load(tmp_path).fingerprint != first


def test_samples_go_to_other_processes(tmp_path):
    for root in (folder(tmp_path / "a"), packed(tmp_path / "b.npz")):
        samples = load(root).train
        copy = pickle.loads(pickle.dumps(samples))
        assert copy[0][0].t.tolist() == samples[0][0].t.tolist()


FOLDER_FAULTS = [
    ("train/cat/1.npz", {"t": np.arange(20)[::-1]}, r"1\.npz: timestamps run backwards at event 1"),
    ("train/cat/1.npz", {"p": np.full(20, 3)}, r"1\.npz: polarities must be"),
    ("train/cat/1.npz", {"x": np.full(20, -1)}, r"1\.npz: event 0 has x = -1"),
    ("train/cat/notes.txt", None, r"notes\.txt: unknown file type '\.txt'; known: .*\.bin"),
    ("train/cat/more/1.npz", {}, r"more: is a folder inside a class folder"),
    ("train/cow", None, r"train/cow: this class folder holds no recordings"),
    ("test/cow/1.npz", {}, r"test/cow: this class has no recordings in .*train"),
]


@pytest.mark.parametrize(("place", "changes", "message"), FOLDER_FAULTS)
def test_faults_in_folders_stop_or_are_listed(tmp_path, place, changes, message):
    folder(tmp_path)
    path = tmp_path / place
    if changes is not None:
        write(path, 1, **changes)
    elif path.suffix:
        path.write_text("")
    else:
        path.mkdir()
    with pytest.raises(DataFault, match=message):
        load(tmp_path)
    splits = load(tmp_path, on_error="skip")
    assert len(splits.skipped) == 1
    assert splits.classes == ("cat", "dog")
    assert len(splits.train) + len(splits.test) == (11 if place == "train/cat/1.npz" else 12)
    with pytest.raises(DataFault, match=re.escape(splits.skipped[0])):
        load(tmp_path)


def test_a_class_that_is_broken_altogether_is_none(tmp_path):
    folder(tmp_path, count=1)
    (tmp_path / "train/cat/0.npz").write_bytes(b"")
    splits = load(tmp_path, on_error="skip")
    assert splits.classes == ("dog",)
    assert splits.skipped[0].endswith("0.npz: is not a file of arrays, which numpy.save and numpy.savez write")
    assert splits.skipped[1].endswith("0.npz: no training recording of its class 'cat' can be used")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, r"looked for \{train,test\}/<class>/<recordings>, .* in .* \(data.root\), not found"),
        (lambda root: root.mkdir(), r"\(data.root\), which is empty"),
        (lambda root: write(root / "0.npz"), "no training recording in"),
        (
            lambda root: folder(root, ("train/cat",)),
            "looked for a folder val or valid or .* or test",
        ),
        (lambda root: folder(root, ("test/cat",)), "looked for a folder train or training in"),
        (lambda root: folder(root, ("cat",), 1), "no test recording in"),
    ],
)
def test_no_such_layout(tmp_path, make, message):
    make(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "set")


def test_no_root():
    with pytest.raises(UserError, match=r"data\.root is not set; set it to the place of dataset 'events': "):
        open_events(DataConfig(name="events"))


@pytest.mark.parametrize("time", ["dt", "t", "t_us"])
def test_packed(tmp_path, time):
    changes = {} if time == "dt" else {"dt": None, time: np.concatenate([events(i)["t"] for i in range(20)])}
    splits = load(packed(tmp_path / "a.npz", **changes))
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert splits.classes == ("0", "1")
    assert splits.size == (5, 7)
    for i in range(16):
        same(splits.train[i][0], i)
        assert splits.train[i][1] == i % 2
    same(splits.test[0][0], 16)


def test_packed_with_a_sensor_and_without_a_split(tmp_path):
    splits = load(packed(tmp_path / "a.npz", sensor=(9, 8), is_test=None))
    assert splits.size == splits.train[0][0].sensor == (9, 8)
    assert (len(splits.train), len(splits.test)) == (16, 4)
    assert load(tmp_path / "a.npz").test.indices.tolist() == splits.test.indices.tolist()


def test_packed_with_empty_recordings(tmp_path):
    offsets = np.arange(21) * 20
    offsets[3] = offsets[2]
    splits = load(packed(tmp_path / "a.npz", offsets=offsets))
    assert len(splits.train[2][0]) == 0
    assert len(splits.train[1][0]) == 20


def test_test_labels_that_training_lacks_are_skipped_if_asked(tmp_path):
    is_test = np.arange(20) % 5 == 0
    path = packed(tmp_path / "a.npz", label=label({5: 7}), is_test=is_test)
    with pytest.raises(DataFault, match="label 7 is out of range"):
        load(path)
    splits = load(path, on_error="skip")
    assert splits.skipped == (f"{path}: sample 5: label 7 is out of range: no training sample has it",)
    assert splits.test.indices.tolist() == [0, 10, 15]
    assert splits.classes == ("0", "1")


def label(values):
    labels = np.arange(20) % 2
    for i, value in values.items():
        labels[i] = value
    return labels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offsets": None}, "has no array 'offsets'; a packed data set has"),
        ({"dt": None}, "has no array 't'; a packed data set has"),
        ({"x": np.zeros(399, np.uint8)}, "fields of events differ in length: x 399, y 400"),
        ({"offsets": np.arange(20) * 20}, "there must be one offset more than labels, got 20 offsets and 20 labels"),
        ({"offsets": np.arange(21)[::-1] * 20}, "offsets must not fall: offset 1 is 380, the one before is 400"),
        ({"offsets": np.arange(21) * 19}, "offsets must go from 0 to 400, the number of events, got 0 to 380"),
        ({"offsets": np.arange(21) * 20 - 20}, "offsets must go from 0 to 400, the number of events, got -20 to 380"),
        ({"label": label({2: 7})}, "label 7 is out of range: every class .* but class 2 has none"),
        ({"label": label({2: -1})}, "sample 2: label -1 is out of range: classes count from 0"),
        ({"label": np.full(20, 0.5)}, "label must be whole numbers, got float64"),
        ({"is_test": np.zeros(3, bool)}, "is_test must be 0 or 1 for each of the 20 samples"),
        ({"sensor": (5,)}, "sensor must be"),
        ({"x": np.full(400, 9999)}, "event 0 has x = 9999, beyond any sensor"),
    ],
)
def test_faults_of_a_packed_file(tmp_path, changes, message):
    with pytest.raises(DataFault, match=rf"a\.npz: {message}"):
        load(packed(tmp_path / "a.npz", **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dt": np.full(400, -1)}, "sample 0: timestamps run backwards at event 1: -2 us after -1 us"),
        ({"sensor": (5, 6)}, "sample 0: event .* has x = 6, outside the sensor of 5 x 6"),
        ({"p": np.full(400, 2, np.uint8)}, "sample 0: polarities must be"),
    ],
)
def test_faults_of_a_packed_sample(tmp_path, changes, message):
    splits = load(packed(tmp_path / "a.npz", **changes))
    with pytest.raises(DataFault, match=rf"a\.npz: {message}"):
        splits.train[0]


def test_packed_samples_that_are_left_out(tmp_path):
    times = np.concatenate([events(i)["t"] for i in range(20)])
    times[65] = 5000
    path = packed(tmp_path / "a.npz", dt=None, t=times, label=label({5: -3}))
    splits = load(path, on_error="skip")
    assert splits.train.indices.tolist() == [i for i in range(16) if i not in (3, 5)]
    assert [fault.split(": ", 1)[1][:8] for fault in splits.skipped] == ["sample 3", "sample 5"]
    same(splits.train[3][0], 4)


@pytest.mark.parametrize("name", ["a.npz", "a.txt", "a.npy"])
def test_root_is_another_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00" * 50)
    with pytest.raises(DataFault, match=rf"a\{name[1:]}: is not a file of arrays"):
        load(tmp_path / name)


REAL = Path(os.environ.get("STEP_AHSAR_DATA", "/nonexistent"))


@pytest.mark.skipif(not (REAL / "nmnist_1000_100.npz").is_file(), reason="STEP_AHSAR_DATA has no N-MNIST")
def test_real_recordings():
    splits = load(REAL / "nmnist_1000_100.npz")
    assert (len(splits.train), len(splits.test), splits.size) == (1000, 100, (34, 34))
    assert splits.classes == tuple("0123456789")
    assert 4000 < np.mean([len(splits.train[i][0]) for i in range(1000)]) < 4200
