"""Series from .npz and from .ts files."""

import numpy as np
import pytest

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.data.sequences import series
from step_ahsar.data.sequences.arrays import standardise
from step_ahsar.errors import UserError

RNG = np.random.default_rng(0)
X, Y = RNG.normal([[[3], [-100]]], [[[2], [0.5]]], (10, 2, 6)), np.array([0, 1, 2, 1, 0, 2, 2, 1, 1, 0])
PAIR = {"x_train": X[:7], "y_train": Y[:7], "x_test": X[7:], "y_test": Y[7:]}

HEADER = """# What it is about: colons and @ signs
@problemName Motions
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength {equal}
@classLabel true walk Run
@data
"""
TRAIN = HEADER + "1,2,3:10,20,30:walk\n4.5,-5,6e0:40,50,60:Run\n\n7,8,9:70,80,90:Run\n"
TEST = HEADER.replace("walk Run", "Run walk") + "1,1,1:10,10,10:Run\n"


def opened(root, name="series", **config):
    return find_dataset("series").open(DataConfig(name=name, root=str(root), **config))


def save(path, arrays, **changes):
    np.savez(path, **{key: value for key, value in (arrays | changes).items() if value is not None})
    return path


def write(folder, train=TRAIN, test=TEST, equal="true", name="Motions"):
    for part, text in (("TRAIN", train), ("TEST", test)):
        if text is not None:
            (folder / f"{name}_{part}.ts").write_text(text.replace("{equal}", equal))
    return folder


def z(values, learnt):
    return (values - learnt.mean(axis=(0, 2))[:, None]) / learnt.std(axis=(0, 2))[:, None]


def test_npz(tmp_path):
    splits = opened(save(tmp_path / "a.npz", PAIR), name="series/mine")
    assert (len(splits.train), len(splits.test), splits.in_chans, splits.size) == (7, 3, 2, 6)
    assert splits.classes == ("0", "1", "2")
    for split, part in ((splits.train, slice(0, 7)), (splits.test, slice(7, 10))):
        for i, (values, label) in enumerate(zip(X[part], Y[part], strict=True)):
            assert (split[i][0].dtype, split[i][1]) == (np.float32, label)
            np.testing.assert_allclose(split[i][0], z(values, X[:7]), rtol=1e-5, atol=1e-6)


def test_the_statistics_are_the_training_splits(tmp_path):
    plain = opened(save(tmp_path / "a.npz", PAIR))
    other = opened(save(tmp_path / "b.npz", PAIR, x_test=PAIR["x_test"] * 1000))
    np.testing.assert_array_equal(plain.train[0][0], other.train[0][0])


def test_a_constant_channel_only_loses_its_mean():
    train, test = standardise([np.full((1, 3), 0.1, np.float32)] * 3, [np.full((1, 2), 1.1, np.float32)])
    np.testing.assert_allclose(train[0], 0, atol=1e-6)
    np.testing.assert_allclose(test[0], 1, atol=1e-6)


def test_one_channel_and_the_other_layout(tmp_path):
    single = {key: value[:, 0] if key[0] == "x" else value for key, value in PAIR.items()}
    pair = opened(save(tmp_path / "a.npz", single))
    assert pair.in_chans == 1
    order = np.array([9, 0, 8, 1, 2, 3, 4, 7, 5, 6])
    mixed = {"x": X[order, :1], "y": Y[order], "is_test": (order >= 7).astype(np.uint8)}
    splits = opened(save(tmp_path / "b.npz", mixed, classes=np.array(["a", "b", "c"])))
    assert splits.classes == ("a", "b", "c")
    assert (len(splits.train), len(splits.test)) == (7, 3)
    np.testing.assert_array_equal(splits.train[6][0], pair.train[6][0])
    np.testing.assert_array_equal(splits.test[0][0], pair.test[2][0])


def test_offsets(tmp_path):
    lengths = [2, 5, 3, 4]
    every = [X[i, :, :n] for i, n in enumerate(lengths)]
    arrays = {
        "x": np.concatenate(every, axis=1),
        "offsets": np.cumsum([0, *lengths]),
        "y": np.array([0, 1, 0, 1]),
        "is_test": np.array([False, False, False, True]),
    }
    splits = opened(save(tmp_path / "a.npz", arrays))
    learnt = np.concatenate(every[:3], axis=1)[None]
    assert splits.size == 5
    np.testing.assert_allclose(splits.train[2][0][:, :3], z(every[2], learnt), rtol=1e-5)
    assert not splits.train[2][0][:, 3:].any()
    np.testing.assert_allclose(splits.test[0][0][:, :4], z(every[3], learnt), rtol=1e-5)
    with pytest.raises(DataFault, match="offsets must increase from at least 0 to at most 14"):
        opened(save(tmp_path / "b.npz", arrays, offsets=np.array([0, 2, 7, 10, 15])))
    with pytest.raises(DataFault, match="y has 3 values for 4 samples"):
        opened(save(tmp_path / "b.npz", arrays, y=np.array([0, 1, 0])))
    for wrong in (np.zeros(3), np.array([0, 0.5, 7, 1])):
        with pytest.raises(DataFault, match="is_test must be true or false for each of 4 series, is float64"):
            opened(save(tmp_path / "b.npz", arrays, is_test=wrong))
    with pytest.raises(UserError, match="no usable test samples"):
        opened(save(tmp_path / "b.npz", arrays, is_test=np.zeros(4)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "has no array 'y_test'"),
        ({"x_train": X[:7, :, None]}, r"x_train must be numbers \[N, C, L\] or \[N, L\], got float64 \[7, 2, 1, 6\]"),
        ({"x_train": np.array([["a"]])}, "x_train must be numbers"),
        ({"x_test": X[7:, :1]}, "training series have 2 channels, test series have 1"),
        ({"y_train": Y[:6]}, "y_train has 6 values for 7 samples"),
        ({"y_test": np.array([0, 3, 1])}, r"x_test\[1\] has label 3, labels go from 0 to 2"),
        ({"y_test": np.array([0, -1, 1])}, r"x_test\[1\] has label -1, labels go from 0 to 2"),
        ({"y_train": Y[:7] * 2}, "labels go up to 4, but no training sample has label 1"),
        ({"classes": np.array(["a", "b"])}, r"x_train\[2\] has label 2, labels go from 0 to 1"),
        ({"x_test": np.where(np.arange(6) == 4, np.nan, X[7:])}, r"x_test\[0\] is not finite at channel 0, step 4"),
    ],
)
def test_wrong_arrays(tmp_path, changes, message):
    with pytest.raises(DataFault, match=message):
        opened(save(tmp_path / "a.npz", PAIR, **changes))


@pytest.mark.parametrize("name", ["y", "label", "labels"])
def test_names_of_the_labels(tmp_path, name):
    splits = opened(save(tmp_path / "a.npz", {"x": X, "is_test": np.arange(10) > 6, name: Y}))
    assert splits.train.labels.tolist() == Y[:7].tolist()


def test_object_arrays(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros(3), np.zeros(4)]
    with pytest.raises(DataFault, match="samples of different lengths and add an array `offsets`"):
        opened(save(tmp_path / "a.npz", PAIR, x_train=ragged))


def test_faults_can_be_skipped(tmp_path):
    x = X[:7].copy()
    x[2, 1, 3] = np.inf
    splits = opened(save(tmp_path / "a.npz", PAIR, x_train=x, y_test=np.array([0, 9, 1])), on_error="skip")
    assert (len(splits.train), len(splits.test)) == (6, 2)
    assert splits.test.labels.tolist() == [0, 1]
    assert [fault.partition(": ")[2] for fault in splits.skipped] == [
        "x_train[2] is not finite at channel 1, step 3",
        "x_test[1] has label 9, labels go from 0 to 2",
    ]


def test_ts(tmp_path):
    splits = opened(write(tmp_path))
    assert (len(splits.train), len(splits.test), splits.in_chans, splits.size) == (3, 1, 2, 3)
    assert splits.classes == ("walk", "Run")
    assert splits.train.labels.tolist() == [0, 1, 1]
    assert splits.test.labels.tolist() == [1]  # by the training file's order
    x = np.array([[[1, 2, 3], [10, 20, 30]], [[4.5, -5, 6], [40, 50, 60]], [[7, 8, 9], [70, 80, 90]]])
    for i in range(3):
        np.testing.assert_allclose(splits.train[i][0], z(x[i], x), rtol=1e-5)


def test_ts_by_prefix(tmp_path):
    write(tmp_path)
    assert opened(tmp_path / "Motions").fingerprint == opened(tmp_path).fingerprint
    write(tmp_path, name="Other")
    with pytest.raises(UserError, match=f"several sets: Motions, Other; choose one, .* data.root={tmp_path}/Motions"):
        opened(tmp_path)
    assert len(opened(tmp_path / "Other").train) == 3


def test_ts_of_one_dimension_and_several_lengths(tmp_path):
    header = "@univariate true\n@equalLength false\n@classLabel true 1 2\n@DATA\n"
    splits = opened(write(tmp_path, header + "1,2:1\n3,4,5:2", header + "1:2"))
    assert (splits.in_chans, splits.size, splits.classes) == (1, 3, ("1", "2"))
    assert splits.train[0][0][0, 2] == 0
    learnt = np.array([1, 2, 3, 4, 5])
    np.testing.assert_allclose(splits.train[1][0][0], (np.array([3, 4, 5]) - 3) / learnt.std(), rtol=1e-5)


def test_ts_without_dimensions_takes_them_from_the_first_case(tmp_path):
    splits = opened(write(tmp_path, TRAIN.replace("@dimensions 2\n", ""), TEST.replace("@dimensions 2\n", "")))
    assert splits.in_chans == 2


def values_of(tmp_path, lines, header=""):
    """What is read of cases of two classes, a and b."""
    (tmp_path / "a.ts").write_text(f"{header}\n@classLabel true a b\n@data\n{lines}", encoding="utf-8")
    return [values.tolist() for values, _ in series.read_ts(tmp_path / "a.ts", Faults(DataConfig()))[0]]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1,?,?,4:a", [1, 2, 3, 4]),
        ("?,nan,5,?,6,NaN:a", [5, 5, 5, 5.5, 6, 6]),
        ("-1, ? ,3:a", [-1, 1, 3]),
    ],
)
def test_missing_values_are_interpolated(tmp_path, written, read):
    assert values_of(tmp_path, written, "@missing true") == [[read]]


def test_what_a_file_may_have(tmp_path):
    """A byte order mark, comments of both kinds, tabs, upper case, unknown keys, a length that does not hold."""
    header = "\ufeff# one\n%two\n@FOO bar\n@Univariate\tTRUE\n@EQUALLENGTH False\n@SeriesLength 9"
    assert values_of(tmp_path, "# three\n1,2:a\n\n%four\n 3, 4 ,5 : b \n", header) == [[[1, 2]], [[3, 4, 5]]]


def test_times_are_left_out(tmp_path):
    dates = "(2007-01-01 23:58:00,1.5),(2007-01-01 23:59:00,?),(2007-01-02 00:00:00,2.5)"
    header = "@timestamps true\n@dimensions 2"
    lines = f"{dates}:(0.1,4), (0.2,5), (0.3,6):a\n(5,1):(7,2):b"
    assert values_of(tmp_path, lines, header) == [[[1.5, 2, 2.5], [4, 5, 6]], [[1], [2]]]
    for times, message in (
        ("(0,1),(1,2),(3,4)", "dimension 1: times are not evenly spaced at step 2"),
        ("(0,1),(0,2)", "dimension 1: times are not evenly spaced at step 1"),
        ("(noon,1),(2,3)", "dimension 1: a time must be a number or a date: .*noon"),
        ("(0,1),2", r"dimension 1 is not of the form \(time,value\)"),
    ):
        with pytest.raises(DataFault, match=rf"a\.ts:5: {message}"):
            values_of(tmp_path, f"(0,1),(1,2):{times}:a", header)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("4.5,-5,6e0:40,50,60:Run", "4.5,-5,6:Run", ":11: has 1 dimensions before its label, expected 2"),
        ("4.5,-5,6e0:40,50,60:Run", "4.5,-5:40,50,60:Run", ":11: dimensions differ in length: 2, 3"),
        ("4.5,-5,6e0:40,50,60:Run", "4.5,-5:40,50:Run", ":11: has 2 steps, expected 3"),
        ("40,50,60", "?,?,NaN", ":11: dimension 1 has no value, all 3 are missing"),
        ("50", "-inf", ":11: dimension 1, step 1: '-inf' is not finite"),
        ("50", "", ":11: dimension 1, step 1: '' is not a number"),
        ("50", "five", ":11: dimension 1, step 1: 'five' is not a number"),
        ("60:Run", "60:run", ":11: class 'run' is not in @classLabel: walk Run"),
        ("60:Run", "60", ":11: has 1 dimensions before its label"),
    ],
)
def test_cases_that_cannot_be_used(tmp_path, old, new, message):
    write(tmp_path, TRAIN.replace(old, new))
    with pytest.raises(DataFault, match=f"Motions_TRAIN.ts{message}"):
        opened(tmp_path)
    splits = opened(tmp_path, on_error="skip")
    assert (len(splits.train), len(splits.skipped)) == (2, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@data\n", "", r"Motions_TRAIN\.ts:9: expected a line of the header, starting with @, or @data"),
        ("@classLabel true walk Run", "@classLabel false", "no line '@classLabel true' followed by the classes"),
        ("@classLabel true walk Run", "@targetLabel true", "has @targetLabel true, numbers to be predicted"),
        ("@timeStamps false", "@timeStamps true", r":10: dimension 0 is not of the form \(time,value\)"),
        ("@dimensions 2", "@dimensions two", "@dimensions must be a number, got 'two'"),
    ],
)
def test_wrong_headers(tmp_path, old, new, message):
    with pytest.raises(DataFault, match=message):
        opened(write(tmp_path, TRAIN.replace(old, new)))


def test_no_data(tmp_path):
    with pytest.raises(DataFault, match=r"Motions_TRAIN\.ts: has no line @data"):
        opened(write(tmp_path, HEADER.replace("@data\n", "")))
    with pytest.raises(DataFault, match=r"Motions_TEST\.ts: has no cases after @data"):
        opened(write(tmp_path, test=HEADER))


def test_not_text(tmp_path):
    write(tmp_path)
    (tmp_path / "Motions_TEST.ts").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataFault, match=r"Motions_TEST\.ts: cannot be read as text"):
        opened(tmp_path)


def test_classes_that_only_the_test_file_has(tmp_path):
    write(tmp_path, test=TEST.replace("Run walk", "Run jump").replace("10:Run", "10:jump"))
    with pytest.raises(DataFault, match=r"TEST\.ts:10: class 'jump' is not one of the training file's: walk Run"):
        opened(tmp_path)


def test_missing(tmp_path):
    with pytest.raises(
        UserError, match=r"looked for <name>_TRAIN\.ts with <name>_TEST\.ts.* from https://www.timeseries"
    ):
        opened(tmp_path)
    with pytest.raises(UserError, match="not found; get it from"):
        opened(tmp_path / "gone")
    with pytest.raises(UserError, match="not found; get it from"):
        opened(tmp_path / "gone.npz")
    with pytest.raises(UserError, match=r"looked for Motions_TEST\.ts in"):
        opened(write(tmp_path, test=None))
    with pytest.raises(UserError, match=r"data\.root is not set"):
        find_dataset("series").open(DataConfig(name="series"))


def test_no_case_of_a_split_can_be_used(tmp_path):
    write(tmp_path, test=TEST.replace("1,1,1", "?,?,?"))
    with pytest.raises(UserError, match="no usable test samples"):
        opened(tmp_path, on_error="skip")
