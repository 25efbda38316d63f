"""Sets of the package `datasets`: where they are, their parts and columns; images, audio and series of them."""

import shutil
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from step_ahsar.config import ColumnsConfig, Config, DataConfig, SequenceConfig
from step_ahsar.data import open_data
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import find_dataset
from step_ahsar.errors import UserError

datasets = pytest.importorskip("datasets", reason="comes with the extra hf")
soundfile = pytest.importorskip("soundfile", reason="comes with the extra hf")
datasets.disable_progress_bars()

RNG = np.random.default_rng(0)
SERIES = [RNG.normal(1e7, 2, n).tolist() for n in (4, 6, 5, 3, 6, 4)]


def opened(name, root, columns=None, **config):
    columns = ColumnsConfig(**(columns or {}))
    return find_dataset(name).open(DataConfig(name=name, root=str(root), columns=columns, **config))


def table(**columns):
    return datasets.Dataset.from_dict(columns)


def classes(made, column, names):
    return made.cast_column(column, datasets.ClassLabel(names=names))


def save(path, parts):
    (datasets.DatasetDict(parts) if isinstance(parts, dict) else parts).save_to_disk(str(path))
    return path


def picture(shade):
    stream = BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 255 - shade)).save(stream, "png")
    return stream.getvalue()


def pictures(*shades, name="image"):
    return table(**{name: [{"bytes": picture(shade), "path": None} for shade in shades]}).cast_column(
        name, datasets.Image()
    )


def clip(i):
    tone = 6000 * np.sin(np.arange(700 + 90 * i) * (0.1 + 0.05 * (i % 2)))
    return (tone + np.random.default_rng(i).normal(0, 300, len(tone))).astype(np.int16)


def sound(i, rate=8000, **options):
    stream = BytesIO()
    soundfile.write(stream, clip(i), rate, **{"format": "WAV"} | options)
    return stream.getvalue()


# -- parts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "counts", "held_out"),
    [
        ({"train": [0, 1, 0], "validation": [1, 0], "test": [0]}, [3, 2, 1], False),
        ({"train": [0, 1, 0], "validation": [1, 0], "test": [-1]}, [3, None, 2], False),  # as in competitions
        ({"train": [0, 1, 0], "validation": [1, 0], "test": [None]}, [3, None, 2], False),
        ({"train": [0, 1, 0], "valid": [1, 0]}, [3, None, 2], False),
        ({"Training": [0, 1, 0], "test": [1]}, [3, None, 1], False),
        ({"train": [0, 0, 0, 0, 1, 1], "test": [-1, -1]}, [4, None, 2], True),
        ({"everything": [0, 0, 0, 0, 1, 1]}, [4, None, 2], True),
    ],
)
def test_parts(labels, counts, held_out, tmp_path):
    made = {
        part: classes(pictures(*range(len(found))).add_column("label", found), "label", ["a", "b"])
        for part, found in labels.items()
    }
    splits = opened("hfds/mine", save(tmp_path, made))
    found = [splits.train, splits.validation, splits.test]
    assert [None if part is None else len(part) for part in found] == counts
    assert (splits.classes, splits.test_held_out) == (("a", "b"), held_out)
    assert [splits.train[i][1] for i in range(counts[0])] == splits.train.labels


def test_a_table_alone_is_divided_as_other_sets_are(tmp_path):
    root = save(tmp_path, table(x=SERIES, label=["u", "v", "u", "v", "u", "v"]))
    tested = {seed: opened("hfds_series/a", root, split_seed=seed).test.series for seed in range(6)}
    assert len({repr(found) for found in tested.values()}) > 1
    config = Config().with_values({"data.name": "hfds_series/a", "data.root": str(root), "data.test_share": 0.4})
    assert len(open_data(config.with_values({"data.validation": 0})).splits.test) == 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"a": ["u"], "b": ["u"]}, "has no split train or training; it has a, b"),
        ({"train": ["u", None], "test": ["u"]}, "split train, row 1: has no label"),
        ({"train": ["u", "v"], "test": ["u", "w"]}, "split test, row 1: has label 'w', which no training row has"),
        ({"train": ["u"], "test": [1]}, "column 'label' of split test is missing or of another type than in split tr"),
        ({"train": ["u"]}, "has no usable test samples"),
    ],
)
def test_parts_that_cannot_be_used(parts, message, tmp_path):
    made = {part: table(x=SERIES[: len(labels)], label=labels) for part, labels in parts.items()}
    with pytest.raises(UserError, match=message) as error:
        opened("hfds_series/mine", save(tmp_path, made))
    assert "\n" not in str(error.value)


def test_rows_can_be_skipped(tmp_path):
    made = {"train": table(x=SERIES[:3], label=["u", None, "v"]), "test": table(x=[[1.0], [None]], label=["u", "v"])}
    splits = opened("hfds_series/mine", save(tmp_path, made), on_error="skip")
    assert (len(splits.train), len(splits.test)) == (2, 1)
    assert [fault.partition(", ")[2] for fault in splits.skipped] == [
        "split train, row 1: has no label",
        "split test, row 1: is not finite at channel 0, step 0",
    ]


# -- columns -----------------------------------------------------------------------------------------------------------


def columns_of(name, made, tmp_path, **columns):
    return opened(name, save(tmp_path / str(len(list(tmp_path.iterdir()))), made), columns)


def test_columns_are_found_or_named(tmp_path):
    made = table(wave=SERIES, other=SERIES[::-1], id=list("abcdef"), fine=[0, 1, 2] * 2, coarse=[0, 1] * 3)
    made = classes(classes(made, "fine", list("xyz")), "coarse", list("pq"))
    with pytest.raises(UserError, match=r"not clear which column is the label; set data.columns.label") as error:
        columns_of("hfds_series/a", made, tmp_path)
    listed = "wave (list of numbers), other (list of numbers), id (text), fine (ClassLabel), coarse (ClassLabel)"
    assert f"the columns are {listed}; as a label would fit: id, fine, coarse" in str(error.value)
    with pytest.raises(UserError, match=r"not clear which column is the input; set data.columns.input"):
        columns_of("hfds_series/a", made, tmp_path, label="fine")
    fine, coarse = (columns_of("hfds_series/a", made, tmp_path, label=n, input="wave") for n in ("fine", "coarse"))
    assert (fine.classes, coarse.classes) == (("x", "y", "z"), ("p", "q"))
    other = columns_of("hfds_series/a", made, tmp_path, label="coarse", input="other")
    assert {len({a.fingerprint, b.fingerprint}) for a, b in ((fine, coarse), (coarse, other))} == {2}
    assert columns_of(
        "hfds_series/a", made.rename_column("coarse", "Y").rename_column("fine", "y"), tmp_path, input="wave"
    ).classes == ("x", "y", "z")


def test_a_column_called_label_is_the_label(tmp_path):
    made = classes(table(x=SERIES, speaker=[0, 1] * 3, label=list("uvwuvw")), "speaker", ["ann", "bob"])
    assert columns_of("hfds_series/a", made, tmp_path).classes == ("u", "v", "w")
    assert columns_of("hfds_series/a", made.remove_columns("label"), tmp_path).classes == ("ann", "bob")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "genre"}, "column 'genre' of data.columns.label is not there; the columns are .* would fit: y, n"),
        ({"label": "x"}, "column 'x' of data.columns.label is of type list of numbers; .* as a label would fit: y, n"),
        ({"input": "y"}, r"column 'y' of data.columns.input is of type text; .* as the input .* would fit: x, n, f"),
        ({"input": ["x", "f"]}, r"must be lists .* or numbers .*, got x \(list of numbers\), f \(number\)"),
    ],
)
def test_columns_that_cannot_be_used(columns, message, tmp_path):
    made = table(x=SERIES, y=list("uvuvuv"), n=[0, 1] * 3, f=[0.5, 1] * 3)
    with pytest.raises(UserError, match=message) as error:
        opened("hfds_series/mine", save(tmp_path, made), columns)
    assert "\n" not in str(error.value)


def test_no_column_fits(tmp_path):
    made = table(x=SERIES, label=list("uvuvuv"))
    for name in ("hfds/a", "hfds_audio/a"):
        with pytest.raises(UserError, match=r"no column fits as the input; .* would fit: none"):
            columns_of(name, made, tmp_path)
    with pytest.raises(UserError, match=r"no column is a ClassLabel or called"):
        columns_of("hfds_series/a", made.rename_column("label", "kind"), tmp_path)
    with pytest.raises(UserError, match=r"data.columns.input must be one column, got"):
        columns_of("hfds/a", made, tmp_path, input=["x", "label"])


def test_columns_that_number_the_rows_are_no_input_unless_named(tmp_path):
    """Fault: in a table that is sorted by class, the number of a row tells the class."""
    made = table(
        **{"Unnamed: 0": list(range(6))}, id=list(range(6)), a=[0.5] * 6, b=[1.5, 2.5] * 3, label=list("uvuvuv")
    )
    assert columns_of("hfds_series/a", made, tmp_path).size == 2
    assert columns_of("hfds_series/a", made, tmp_path, input=["id", "a", "b"]).size == 3


def test_numbered_columns_are_not_mixed_with_others_silently(tmp_path):
    """Fault: whoever was recorded became a time step."""
    made = table(t0=[0.5] * 6, t1=[1.5, 2.5] * 3, t2=[3.5] * 6, subject=[1, 1, 2, 2, 3, 3], label=list("uvuvuv"))
    with pytest.raises(UserError, match=r"not clear whether subject are time steps as t0, t1, t2 are; .* such as t\*"):
        columns_of("hfds_series/a", made, tmp_path)
    assert columns_of("hfds_series/a", made, tmp_path, input="t*").size == 3
    assert columns_of("hfds_series/a", made, tmp_path, input=["subject", "t[01]"]).size == 3
    with pytest.raises(UserError, match=r"column 'z\*' of data.columns.input is not there"):
        columns_of("hfds_series/a", made, tmp_path, input="z*")


def test_a_label_of_numbers_is_said_to_be_none(tmp_path):
    """As pandas makes them of integers of which one is missing."""
    with pytest.raises(UserError, match=r"column 'label' is of type number, and no label; the columns are"):
        columns_of("hfds_series/a", table(x=SERIES, label=[0.0, 1.0] * 3), tmp_path)


def test_other_sets_have_no_columns():
    config = Config(data=DataConfig(columns=ColumnsConfig(label="y")))
    with pytest.raises(UserError, match=r"data.columns does not apply to dataset 'digits'"):
        open_data(config)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["b", "a"] * 2, ("a", "b")),
        ([1, -1] * 2, ("-1", "1")),
        ([10, 9] * 2, ("9", "10")),
        ([True, False] * 2, ("False", "True")),
    ],
)
def test_labels_without_names(labels, names, tmp_path):
    splits = opened(
        "hfds_series/a", save(tmp_path, {"train": table(x=SERIES[:4], y=labels), "test": table(x=SERIES[:4], y=labels)})
    )
    assert (splits.classes, splits.train.labels.tolist()) == (names, [1, 0, 1, 0])


# -- series ------------------------------------------------------------------------------------------------------------


def normalised(series):
    """Each [C, L_i], by mean and deviation of each channel over all."""
    whole = np.concatenate(series, axis=1)
    return [(x - whole.mean(axis=1, keepdims=True)) / whole.std(axis=1, keepdims=True) for x in series]


@pytest.mark.parametrize("layout", ["one", "columns", "nested"])
def test_series(layout, tmp_path):
    series = [np.array([x, np.cumsum(x)][: 1 if layout == "one" else 2]) for x in SERIES]
    columns, names = {"x": SERIES}, None
    if layout == "columns":
        columns, names = (
            {"b": [x[1].tolist() for x in series], "c": SERIES, "a": [x[0].tolist() for x in series]},
            ["a", "b"],
        )
    elif layout == "nested":
        columns = {"x": [x.tolist() for x in series]}
    made = table(**columns, label=list("uvuvuv"))
    made.set_format("numpy")  # which would round to float32
    splits = opened("hfds_series/mine", save(tmp_path, {"train": made, "test": made.select([4])}), {"input": names})
    assert (splits.in_chans, splits.size, len(splits.train)) == (len(series[0]), 6, 6)
    for i, wanted in enumerate(normalised(series)):
        np.testing.assert_allclose(splits.train[i][0][:, : wanted.shape[1]], wanted, rtol=1e-5)
        assert not splits.train[i][0][:, wanted.shape[1] :].any()
    np.testing.assert_array_equal(splits.test[0][0], splits.train[4][0])


def test_a_table_with_a_column_for_each_step(tmp_path):
    """As csv files often are."""
    rows = ["t0,t1,t2,label", "1,2,3.5,u", "4,5,6,v", "7,8,9,u"]
    for part in ("train", "test"):
        (tmp_path / f"{part}.csv").write_text("\n".join(rows))
    splits = opened("hfds_series/mine", tmp_path)
    x = np.array([[1, 2, 3.5], [4, 5, 6], [7, 8, 9]])
    assert (splits.in_chans, splits.size, splits.classes) == (1, 3, ("u", "v"))
    np.testing.assert_allclose([splits.train[i][0][0] for i in range(3)], (x - x.mean()) / x.std(), rtol=1e-5)
    turned = opened("hfds_series/mine", tmp_path, {"input": ["t2", "t0"]})
    assert np.argsort(turned.train[0][0][0]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [[1.0, 2], [1.0]], "b": [[1.0, 2], [3.0, 4]]}, "row 1: its channels differ in length"),
        ({"a": [[1.0, 2], None], "b": [[1.0, 2], [3.0, 4]]}, "row 1: a is empty"),
        ({"a": [[1.0, 2], [1.0, None]], "b": [[1.0, 2], [3.0, 4]]}, "row 1: is not finite at channel 0, step 1"),
        ({"a": [[1.0], []]}, r"row 1: must be a series \[C, L\] or \[L\], got \[1, 0\]"),
        ({"a": [[[1.0]], [[1.0], [2.0]]]}, "row 1: has 2 channels, the rows before it have 1"),
    ],
)
def test_series_that_cannot_be_used(columns, message, tmp_path):
    made = table(**columns, label=["u", "u"])
    with pytest.raises(DataFault, match=message):
        opened("hfds_series/mine", save(tmp_path, {"train": made, "test": made}), {"input": list(columns)})


# -- images ------------------------------------------------------------------------------------------------------------


def test_images_of_a_table_and_of_a_folder_of_files(tmp_path):
    made = classes(pictures(10, 200, 90).add_column("label", [1, 0, 1]), "label", ["cat", "dog"])
    stored = opened("hfds/a", save(tmp_path / "a", {"train": made, "test": made.select([1])}))
    folder = tmp_path / "b"
    for part, name, shade in (
        ("train", "dog/1", 10),
        ("train", "cat/2", 200),
        ("train", "dog/3", 90),
        ("test", "cat/4", 200),
    ):
        (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / part / f"{name}.png").write_bytes(picture(shade))
    found = opened("hfds/anything", folder, cache=str(tmp_path / "cache"))
    assert stored.classes == found.classes == ("cat", "dog")

    def content(part):
        return sorted((x.getpixel((0, 0)), x.mode, x.size, y) for x, y in (part[i] for i in range(len(part))))

    assert content(stored.train) == content(found.train)
    assert content(stored.train)[0] == ((10, 0, 245), "RGB", (8, 6), 1)
    assert content(stored.test) == content(found.test) == [((200, 0, 55), "RGB", (8, 6), 0)]


def test_a_damaged_image(tmp_path):
    made = table(image=[{"bytes": b, "path": None} for b in (picture(1), b"no image")], label=list("uv"))
    root = save(
        tmp_path, {"train": made.cast_column("image", datasets.Image()), "test": pictures(3).add_column("label", ["u"])}
    )
    splits = opened("hfds/a", root)
    with pytest.raises(DataFault, match="split train, row 1: not a readable image"):
        splits.train[1]
    skipped = opened("hfds/a", root, on_error="skip")
    assert (len(skipped.train), len(skipped.skipped)) == (1, 1)


def test_the_fingerprint_is_of_the_content(tmp_path):
    """The package's own one is of paths and times."""
    made = pictures(10, 20).add_column("label", ["u", "v"])
    made.to_parquet(str(tmp_path / "a" / "train.parquet"))
    made.to_parquet(str(tmp_path / "a" / "test.parquet"))
    shutil.copytree(tmp_path / "a", tmp_path / "copy")
    first, copied = (opened("hfds/x", tmp_path / name, cache=str(tmp_path / f"cache-{name}")) for name in ("a", "copy"))
    again = opened("hfds/y", save(tmp_path / "b", {"train": made, "test": made}))
    assert first.fingerprint == copied.fingerprint == again.fingerprint
    others = [
        {"train": pictures(10, 21).add_column("label", ["u", "v"]), "test": made},
        {"train": pictures(10, 20).add_column("label", ["v", "u"]), "test": made},
        {"train": made, "validation": made, "test": made},
        {"train": made, "test": made.select([0])},
    ]
    found = [opened("hfds/x", save(tmp_path / str(i), parts)).fingerprint for i, parts in enumerate(others)]
    assert len({first.fingerprint, *found}) == 5
    made, found = pictures(1, 2, 3, 4).add_column("label", ["u"] * 4), set()
    for learnt in (1, 2):  # the same rows in the same order, in other parts
        parts = {"train": range(learnt), "validation": range(learnt, 3), "test": range(3, 4)}
        root = save(tmp_path / f"c{learnt}", {part: made.select(rows) for part, rows in parts.items()})
        found.add(opened("hfds/x", root).fingerprint)
    assert len(found) == 2


# -- audio -------------------------------------------------------------------------------------------------------------


def test_audio_is_prepared_as_by_speech(tmp_path):
    """A table of bytes, and a folder of files, against the same clips in class folders of `speech`."""
    for part, numbers in (("train", range(4)), ("test", range(4, 6))):
        for i in numbers:
            path = tmp_path / "files" / part / ("no", "yes")[i % 2] / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(sound(i))
    order = [0, 2, 1, 3, 4, 5]  # of class folders
    made = table(
        clip=[{"bytes": sound(i, format="FLAC") if i else sound(i), "path": None} for i in order],
        target=[("no", "yes")[i % 2] for i in order],
    ).cast_column("clip", datasets.Audio())
    root = save(tmp_path / "table", {"train": made.select(range(4)), "test": made.select([4, 5])})
    config = {"sequence": SequenceConfig(mels=8), "cache": str(tmp_path / "cache")}
    wanted = opened("speech", tmp_path / "files", **config)
    for splits in (opened("hfds_audio/a", root, **config), opened("hfds_audio/a", tmp_path / "files", **config)):
        assert (splits.classes, splits.in_chans, splits.size) == (("no", "yes"), 8, 96)
        assert splits.fingerprint == wanted.fingerprint
        for part, other in ((splits.train, wanted.train), (splits.test, wanted.test)):
            assert part.labels.tolist() == other.labels.tolist()
            assert all(np.array_equal(part[i][0], other[i][0]) for i in range(len(other)))


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (lambda: sound(1)[:20], "row 1: cannot be read as audio"),
        (lambda: sound(1, rate=16000), "row 1: has 16000 samples per second, those before it have 8000; resample"),
        (lambda: None, "row 1: audio is empty"),
    ],
)
def test_audio_that_cannot_be_used(damaged, message, tmp_path):
    data = damaged()
    cells = [{"bytes": sound(0), "path": None}, None if data is None else {"bytes": data, "path": None}]
    made = table(audio=cells, label=["u", "u"]).cast_column("audio", datasets.Audio())
    with pytest.raises(DataFault, match=message):
        opened("hfds_audio/a", save(tmp_path, {"train": made, "test": made}))


# -- where -------------------------------------------------------------------------------------------------------------


def test_the_cache_of_the_package(tmp_path):
    """A set of the hub is found in the cache, without the network."""
    made = pictures(1, 2).add_column("label", ["u", "v"])
    (tmp_path / "files").mkdir()
    for part in ("train", "test"):
        made.to_parquet(str(tmp_path / "files" / f"{part}.parquet"))
    datasets.load_dataset(str(tmp_path / "files"), cache_dir=str(tmp_path / "cache"))
    (tmp_path / "cache" / "downloads").mkdir(exist_ok=True)
    (tmp_path / "cache" / "downloads" / "0a1b.json").write_text("{}")
    (tmp_path / "cache" / "files").rename(tmp_path / "cache" / "me___mine")
    for file in tmp_path.glob("cache/*/*/*/*/files-*.arrow"):
        file.rename(file.with_name(file.name.replace("files", "mine")))
    splits = opened("hfds/me/mine", tmp_path / "cache")
    assert splits.fingerprint == opened("hfds/any", tmp_path / "files").fingerprint
    assert len(opened("hfds/me/mine/default", tmp_path / "cache").train) == 2
    for name in ("hfds/me/other", "hfds/me/mine/other"):
        with pytest.raises(UserError, match=r"looked for .* in .*cache .*not found; set data.download=true") as error:
            opened(name, tmp_path / "cache")
        assert "\n" not in str(error.value)


def test_a_file_that_the_package_cannot_read(tmp_path):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"dataset 'hfds/a' in .*: ArrowInvalid: ") as error:
        opened("hfds/a", tmp_path)
    assert "\n" not in str(error.value)
