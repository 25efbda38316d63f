"""Published sets in their layout on disk, each with a few small recordings in its own format."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from step_ahsar.config import Config, DataConfig
from step_ahsar.data import find_dataset, open_data
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.events.published import PUBLISHED
from step_ahsar.errors import UserError

X, Y, T, P = [3, 0, 33, 3], [0, 4, 2, 1], [5000, 5000, 9000, 70_000], [1, 0, 0, 1]


def write_bin(path):
    words = [a << 32 | b << 24 | d << 23 | c for a, b, c, d in zip(X, Y, T, P, strict=True)]
    path.write_bytes(b"".join(word.to_bytes(5, "big") for word in words))


def write_dat(path):
    address = [a | b << 14 | c << 28 for a, b, c in zip(X, Y, P, strict=True)]
    events = np.stack((T, address), 1).astype("<u4").tobytes()
    path.write_bytes(b"% Data file containing CD events.\n% Version 2\n" + bytes([0, 8]) + events)


def write_gesture(path):
    np.save(path, np.stack((X, Y, P, np.asarray(T) // 1000), 1).astype(np.int64))


def write_lip(path):
    events = np.zeros(4, [("t", "<i4"), ("x", "<i2"), ("y", "<i2"), ("p", "i1")])
    for name, values in zip("xytp", (X, Y, T, P), strict=True):
        events[name] = values
    np.save(path, events)


def write_mat(path):
    from scipy.io import savemat

    columns = {"x": X, "y": 179 - np.asarray(Y), "ts": T, "pol": P}
    savemat(path, {name: np.reshape(values, (-1, 1)) for name, values in columns.items()})


def write_aedat(path):
    path.write_bytes(b"#!AER-DAT4.0\r\n")  # what is read is put in place by the test


LAYOUTS = {
    "nmnist": (
        [f"NMNIST/{part}/{c}/00{i}.bin" for part in ("Train", "Test") for c in (0, 7) for i in (1, 2)],
        write_bin,
    ),
    "cifar10dvs": ([f"CIFAR10DVS/{c}/cifar10_{c}_{i}.aedat4" for c in ("bird", "cat") for i in range(10)], write_aedat),
    "dvs_gesture": (
        [
            f"DVSGesture/ibmGesture{p}/user01_{light}/{c}.npy"
            for p in ("Train", "Test")
            for light in ("led", "lab")
            for c in (0, 10)
        ],
        write_gesture,
    ),
    "ncaltech101": (
        [f"NCALTECH101/Caltech101/{c}/image_000{i}.bin" for c in ("ant", "yin_yang") for i in range(5)],
        write_bin,
    ),
    "ncars": (
        [
            f"NCARS/Prophesee_Dataset_n_cars/n-cars_{p}/{c}/obj_{i}_td.dat"
            for p in ("train", "test")
            for c in ("cars", "background")
            for i in (1, 2)
        ],
        write_dat,
    ),
    "asl_dvs": ([f"ASLDVS/Yin1/{c}/{c}_{i}.mat" for c in "ay" for i in range(5)], write_mat),
    "dvs_lip": (
        [f"DVSLip/DVS-Lip/{p}/{c}/{i}.npy" for p in ("train", "test") for c in ("allow", "young") for i in (1, 2)],
        write_lip,
    ),
}
FOUND = {  # classes of the training samples, and samples in training and test
    "nmnist": ({0, 7}, 4, 4),
    "cifar10dvs": ({2, 3}, 18, 2),
    "dvs_gesture": ({0, 10}, 4, 4),
    "ncaltech101": ({0, 1}, 8, 2),
    "ncars": ({0, 1}, 4, 4),
    "asl_dvs": ({0, 23}, 8, 2),
    "dvs_lip": ({0, 1}, 4, 4),
}


def build(name, root):
    files, write = LAYOUTS[name]
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    return [root / file for file in files]


def load(name, root, **options):
    return find_dataset(name).open(DataConfig(name=name, root=str(root), **options))


def test_all_sets_are_listed():
    assert {published.name for published in PUBLISHED} == set(LAYOUTS)
    for published in PUBLISHED:
        spec = find_dataset(published.name)
        assert (spec.modality, spec.in_chans, spec.size, spec.mean) == ("event", 2, published.sensor, ())
    counts = {published.name: find_dataset(published.name).num_classes for published in PUBLISHED}
    assert counts == {
        "nmnist": 10,
        "cifar10dvs": 10,
        "dvs_gesture": 11,
        "ncaltech101": 101,
        "ncars": 2,
        "asl_dvs": 24,
        "dvs_lip": 100,
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_and_split(tmp_path, name):
    build(name, tmp_path)
    splits = load(name, tmp_path)
    classes, train, test = FOUND[name]
    assert {label for _, label in splits.train.items} == {label for _, label in splits.test.items} == classes
    assert (len(splits.train), len(splits.test)) == (train, test)
    assert len(splits.classes) == len(find_dataset(name).open.keywords["published"].classes or classes)
    assert not {path for path, _ in splits.train.items} & {path for path, _ in splits.test.items}
    assert splits.fingerprint == load(name, tmp_path).fingerprint


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "cifar10dvs"])
def test_events_are_the_ones_written(tmp_path, name):
    build(name, tmp_path)
    recording, _ = load(name, tmp_path).train[0]
    assert recording.sensor == find_dataset(name).size
    assert [getattr(recording, key).tolist() for key in "xytp"] == [X, Y, T, P]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_root_may_be_nearer(tmp_path, name):
    path = build(name, tmp_path)[0]
    expected = load(name, tmp_path)
    parts = len(find_dataset(name).open.keywords["published"].folders)
    for depth in range(1, parts + 1):
        root = tmp_path.joinpath(*path.relative_to(tmp_path).parts[:depth])
        assert load(name, root).train.items == expected.train.items


@pytest.mark.parametrize("name", LAYOUTS)
def test_not_there(tmp_path, name):
    spec = find_dataset(name)
    page = spec.open.keywords["published"].page
    with pytest.raises(UserError, match=rf"'{name}': looked for .* in .* \(data.root\), not found; get it from {page}"):
        load(name, tmp_path)
    with pytest.raises(UserError, match=f"data.root is not set; .* get it from {page}"):
        spec.open(DataConfig(name=name))


def test_half_a_set(tmp_path):
    for path in build("nmnist", tmp_path):
        if "Test" in path.parts:
            path.unlink()
    with pytest.raises(UserError, match=r"NMNIST/Train/\*/\*\.bin and NMNIST/Test/\*/\*\.bin in .*not found"):
        load("nmnist", tmp_path)


def test_tonic_reads_the_same(tmp_path):
    """Our layout is tonic's: its own class finds it, once told not to look for the archive."""
    datasets = pytest.importorskip("tonic.datasets")
    for name, maker in (
        ("nmnist", datasets.NMNIST),
        ("dvs_gesture", datasets.DVSGesture),
        ("dvs_lip", datasets.DVSLip),
    ):
        build(name, tmp_path)

        class Unchecked(maker):
            def _check_exists(self):
                self.location_on_system = os.path.join(
                    os.path.dirname(self.location_on_system), self.__class__.__base__.__name__
                )
                return True

        theirs = Unchecked(save_to=str(tmp_path), train=True)
        ours = load(name, tmp_path)
        assert set(map(Path, theirs.data)) == {path for path, _ in ours.train.items}
        for path, label in ours.train.items:
            index = list(map(Path, theirs.data)).index(path)
            events, target = theirs[index]
            assert target == label or name == "dvs_lip"  # of which only two classes are here
            recording = ours.train.read(path)
            assert all((getattr(recording, key) == events[key]).all() for key in "xytp")


def test_unknown_classes(tmp_path):
    path = build("nmnist", tmp_path)[0]
    (tmp_path / "NMNIST/Train/ten").mkdir()
    path.rename(tmp_path / "NMNIST/Train/ten/1.bin")
    with pytest.raises(DataFault, match=r"ten/1\.bin: unknown class of nmnist 'ten'"):
        load("nmnist", tmp_path)
    gesture = build("dvs_gesture", tmp_path)[0]
    gesture.rename(gesture.with_name("11.npy"))
    with pytest.raises(DataFault, match=r"11\.npy: unknown class of dvs_gesture '11\.npy'"):
        load("dvs_gesture", tmp_path)


def test_an_empty_class_folder(tmp_path):
    build("nmnist", tmp_path)
    (tmp_path / "NMNIST/Train/3").mkdir()
    with pytest.raises(DataFault, match=r"Train/3: this folder holds no recordings \(\*\.bin\)"):
        load("nmnist", tmp_path)
    splits = load("nmnist", tmp_path, on_error="skip")
    assert len(splits.skipped) == 1
    assert splits.classes == tuple("0123456789")


@pytest.mark.parametrize("name", ["nmnist", "ncars", "dvs_gesture", "asl_dvs", "dvs_lip"])
def test_cut_off(tmp_path, name):
    build(name, tmp_path)
    path = load(name, tmp_path).train.items[0][0]
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataFault, match=f"{path.name}: .*cut off"):
        load(name, tmp_path).train[0]
    splits = load(name, tmp_path, on_error="skip")
    assert len(splits.skipped) == 1
    assert len(splits.train) == FOUND[name][1] - 1


def test_other_arrays(tmp_path):
    build("dvs_gesture", tmp_path)
    np.save(load("dvs_gesture", tmp_path).train.items[0][0], np.zeros((3, 5)))
    with pytest.raises(DataFault, match=r"must hold an array \[N, 4\] of x, y, p and milliseconds"):
        load("dvs_gesture", tmp_path).train[0]
    from scipy.io import savemat

    build("asl_dvs", tmp_path)
    path = load("asl_dvs", tmp_path).train.items[0][0]
    savemat(path, {"x": X})
    with pytest.raises(DataFault, match="has no field 'y'; recordings of ASL-DVS have x, y, ts, pol"):
        load("asl_dvs", tmp_path).train[0]


def test_download_is_asked_of_tonic(tmp_path, monkeypatch):
    datasets = pytest.importorskip("tonic.datasets")
    asked = []

    def fake(save_to, train):
        asked.append(train)
        build("nmnist", Path(save_to))

    monkeypatch.setattr(datasets, "NMNIST", fake)
    assert len(load("nmnist", tmp_path, download=True).train) == 4
    assert asked == [True, False]
    load("nmnist", tmp_path, download=True)
    assert len(asked) == 2  # it is there now


def test_download_that_fails(tmp_path, monkeypatch):
    datasets = pytest.importorskip("tonic.datasets")

    def fake(save_to):
        raise OSError("no network\nat all")

    monkeypatch.setattr(datasets, "ASLDVS", fake)
    with pytest.raises(UserError, match=r"'asl_dvs': the download failed \(no network\); get it from https"):
        load("asl_dvs", tmp_path, download=True)


@pytest.mark.parametrize("name", ["ncars", "dvs_lip"])
def test_sets_that_no_one_can_download(tmp_path, name):
    with pytest.raises(UserError, match=r"cannot be fetched by data\.download; get it by hand from https"):
        load(name, tmp_path, download=True)


REAL = Path(os.environ.get("STEP_AHSAR_DATA", "/nonexistent")) / "nmnist_bin"


@pytest.mark.skipif(not REAL.is_dir(), reason="STEP_AHSAR_DATA has no N-MNIST")
def test_real_nmnist_is_tonics():
    tonic = pytest.importorskip("tonic.io")
    splits = load("nmnist", REAL)
    assert (len(splits.train), len(splits.test)) == (60, 20)
    for samples in (splits.train, splits.test):
        for i, (path, label) in enumerate(samples.items):
            recording, found = samples[i]
            theirs = tonic.read_mnist_file(path, np.dtype([(name, int) for name in "xytp"]))
            assert found == label == int(path.parent.name)
            assert all((getattr(recording, key) == theirs[key]).all() for key in "xytp")


def test_a_recording_that_was_replaced_is_not_taken_from_the_cache(tmp_path):
    """The fingerprint is of the content, and names the cache's folder."""
    files = build("nmnist", tmp_path / "sets")
    values = {"name": "nmnist", "root": str(tmp_path / "sets"), "cache": str(tmp_path / "cache"), "batch_size": 4}

    def frames():
        data = open_data(Config(data=DataConfig(**values)))
        return next(iter(data.test_batches()))[0], data.splits.fingerprint

    first, fingerprint = frames()
    path = next(file for file in files if "Test" in file.parts)
    path.write_bytes(path.read_bytes()[:5] * len(X))
    os.utime(path, ns=(1, 1))  # clocks may not have moved on
    second, other = frames()
    assert other != fingerprint
    assert not torch.equal(second[:, 0], first[:, 0])
    assert torch.equal(second[:, 1:], first[:, 1:])


@pytest.mark.parametrize("name", ["nmnist", "dvs_gesture"])
def test_recordings_whose_mirror_image_is_another_class_are_not_flipped(name):
    config = Config().with_values({"data.name": name, "data.events.hflip": 0.5})
    with pytest.raises(UserError, match=r"data\.events\.hflip must be 0"):
        open_data(config)


@pytest.mark.parametrize("share", [0.25, 0.5])  # 0.5: the parts are of one size
def test_another_split_is_not_served_the_frames_of_the_first(tmp_path, share):
    """Fault: the cache's key had neither the split nor the samples, so that training samples were in the test part."""
    for path in build("ncaltech101", tmp_path / "sets"):
        number = 4 * (path.parent.name == "yin_yang") + int(path.stem[-1])
        path.write_bytes(path.read_bytes()[:5] * (number + 1))  # the number of its events tells which one it is
        if path.stem[-1] == "4":
            path.unlink()
    values = {"name": "ncaltech101", "root": str(tmp_path / "sets"), "test_share": share, "validation": 0}

    def served(seed):
        data = open_data(Config(data=DataConfig(cache=str(tmp_path / "cache"), split_seed=seed, **values)))
        found = {}
        for part in ("train", "test"):
            kept, straight = data._cached(part), getattr(data.splits, part)
            found[part] = [int(kept[i][0].sum()) for i in range(len(kept))]
            assert found[part] == [len(straight[i][0].x) for i in range(len(straight))]
            assert [kept[i][1] for i in range(len(kept))] == straight.labels
        return found

    first, second = served(0), served(1)
    assert first["test"] != second["test"]
    for parts in (first, second, served(0)):
        assert sorted(parts["train"] + parts["test"]) == list(range(1, 9))


@pytest.mark.parametrize("name", ["ncaltech101", "asl_dvs"])
def test_the_fingerprint_tells_splits_apart(tmp_path, name):
    build(name, tmp_path)
    assert len({load(name, tmp_path, split_seed=seed).fingerprint for seed in range(3)}) == 3
