"""Spike audio in the layout of SHD and SSC."""

import pickle
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.config import DataConfig, SequenceConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.data.sequences import spikes  # noqa: F401  # it registers its sets
from step_ahsar.data.sequences.spikes import bin_spikes
from step_ahsar.errors import UserError

h5py = pytest.importorskip("h5py")

TIMES = [[0.0, 0.35, 0.36, 0.7, 1.39, 1.4, 2.0], [], [0.1]]
UNITS = [[0, 0, 349, 350, 699, 699, 699], [], [5]]
LABELS = [3, 0, 19]


def write(path, times=TIMES, units=UNITS, labels=LABELS, keys=None):
    with h5py.File(path, "w") as file:
        for name, values, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            rows = file.create_dataset(f"spikes/{name}", (len(values),), h5py.vlen_dtype(dtype))
            for i, row in enumerate(values):
                rows[i] = np.array(row, dtype)
        file["labels"] = np.array(labels, np.uint16)
        if keys is not None:
            file["extra/keys"] = np.array(keys, "S")
    return path


def opened(root, name="shd", bins=4, channels=2, **config):
    sequence = SequenceConfig(bins=bins, channels=channels)
    return find_dataset(name).open(DataConfig(name=name, root=str(root), sequence=sequence, **config))


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "shd_train.h5")
    write(tmp_path / "shd_test.h5", TIMES[2:], UNITS[2:], LABELS[2:])
    return tmp_path


def test_counts_by_hand(root):
    splits = opened(root)
    assert (len(splits.train), len(splits.test), splits.in_chans, splits.size) == (3, 1, 2, 4)
    counts, label = splits.train[0]
    # Four bins of 0.35 s: 0 | 0.35 (in float16 0.3501), 0.36 | 0.7 (0.7002) | 1.39, and 1.4 and 2.0, which come late.
    assert counts.tolist() == [[1, 2, 0, 0], [0, 0, 1, 3]]
    assert (counts.dtype, label) == (np.float32, 3)
    assert splits.train[1][0].tolist() == [[0] * 4] * 2
    assert splits.test[0] == (pytest.approx(np.array([[1, 0, 0, 0], [0, 0, 0, 0]])), 19)


@given(
    events=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 699)), max_size=30),
    bins=st.integers(1, 20),
    channels=st.integers(1, 700),
)
def test_no_spike_is_dropped_and_each_is_where_it_belongs(events, bins, channels):
    times, units = np.array([t for t, _ in events]), np.array([u for _, u in events], dtype=int)
    counts = bin_spikes(times, units, bins, channels, 1.4)
    wanted = np.zeros((channels, bins))
    for time, unit in events:
        wanted[unit * channels // 700, min(int(time * (bins / 1.4)), bins - 1)] += 1
    np.testing.assert_array_equal(counts, wanted)


def test_all_channels_and_classes_by_name(tmp_path):
    names = [f"word {i}" for i in range(35)]
    for part in ("train", "test"):
        write(tmp_path / f"ssc_{part}.h5", keys=names)
    splits = opened(tmp_path, "ssc", bins=100, channels=700)
    counts, _ = splits.train[0]
    assert counts.shape == (700, 100)
    assert counts[349, 36] == 1  # of 1 s in all
    assert counts[699, 99] == 3
    assert splits.classes == tuple(names)


def test_classes_without_names(root):
    assert opened(root).classes == tuple(map(str, range(20)))


def test_can_be_sent_to_a_loading_process(root):
    train = pickle.loads(pickle.dumps(opened(root).train))
    np.testing.assert_array_equal(train[0][0], opened(root).train[0][0])


def test_agrees_with_tonic(root):
    hsd = pytest.importorskip("tonic.datasets.hsd")

    class Local(hsd.SHD):
        def _check_exists(self):
            return True

    (root / "Local").mkdir()  # where tonic looks
    with h5py.File(write(root / "Local" / "shd_train.h5"), "a") as file:
        file["extra/keys"], file["extra/speaker"] = np.array(["a"], "S"), [0]
    events, label = Local(str(root))[0]
    counts, wanted = opened(root, bins=14, channels=700).train[0]
    assert label == wanted
    wanted = np.zeros((700, 14))
    np.add.at(wanted, (events["x"], np.minimum(events["t"] // 100_000, 13)), 1)
    np.testing.assert_array_equal(counts, wanted)


def test_missing(tmp_path):
    with pytest.raises(UserError, match=r"looked for shd_train\.h5 and shd_test\.h5 in .* from https://zenkelab\.org"):
        opened(tmp_path)
    with pytest.raises(UserError, match=r"not found.*nothing is fetched for this set"):
        opened(tmp_path / "gone", download=True)
    with pytest.raises(UserError, match=r"data\.root is not set"):
        find_dataset("shd").open(DataConfig(name="shd"))
    (tmp_path / "shd_train.h5.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"shd_train\.h5\.gz is compressed: unpack it to shd_train\.h5"):
        opened(tmp_path)


def test_without_h5py(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'step-ahsar\[events\]'"):
        opened(root)


def test_too_many_channels(root):
    with pytest.raises(UserError, match=r"data\.sequence\.channels must be <= 700, got 701"):
        opened(root, channels=701)


def test_damaged_files(root):
    path = root / "shd_train.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataFault, match=r"shd_train\.h5: cannot be read as HDF5, it may be truncated"):
        opened(root)
    with h5py.File(path, "w") as file:
        file["labels"] = [1]
    with pytest.raises(DataFault, match="has no 'spikes/times'; spike audio has"):
        opened(root)
    write(path, labels=[1, 2])
    with pytest.raises(DataFault, match="arrays differ in length: spikes/times 3, spikes/units 3, labels 2"):
        opened(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [3, 20, 19]}, r"shd_train\.h5: labels\[1\] is 20, labels go from 0 to 19"),
        ({"units": [UNITS[0], [1], [5]]}, r"sample 1: must have one unit per spike time, got 0 times and 1 units"),
        ({"units": [UNITS[0], [], [700]]}, "sample 2: units must be from 0 to 699, got 700 to 700"),
        ({"times": [TIMES[0], [], [-0.1]]}, "sample 2: spike times must be numbers >= 0"),
        ({"times": [TIMES[0], [], [np.nan]]}, "sample 2: spike times must be numbers >= 0"),
    ],
)
def test_faults_of_recordings_show_when_they_are_read_or_are_skipped(root, changes, message):
    write(root / "shd_train.h5", **changes)
    splits = opened(root)
    with pytest.raises(DataFault, match=message):
        [splits.train[i] for i in range(3)]
    splits = opened(root, on_error="skip")
    assert (len(splits.train), len(splits.skipped)) == (2, 1)
    assert splits.train[0][1] == 3


def test_fingerprint_follows_the_files(root):
    before = opened(root).fingerprint
    assert opened(root, bins=7).fingerprint == before
    write(root / "shd_train.h5", [[0.1] * 5000], [[1] * 5000], [1])
    assert opened(root).fingerprint != before
