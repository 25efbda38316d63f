"""Tables of the package `datasets` (Hugging Face), from a folder or from the hub: their parts, columns and labels."""

import importlib.util
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from step_ahsar import internals
from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import TRAIN_NAMES, cache_folder, find_parts, given_root
from step_ahsar.data.common.splits import check_split, chosen_for_test
from step_ahsar.errors import UserError, first_line, shortened

Kind = Literal["image", "audio", "series"]

_WANTED = "a data set of the package datasets (of save_to_disk, or parquet, csv, json, images or audio files)"
_LABELS = ("label", "labels", "target", "y")
# Columns that number the rows. In a table that is sorted by class they would tell it.
_NUMBERS = ("id", "idx", "index", "row", "unnamed: 0", "__index_level_0__")
_FITTING: dict[str, tuple[str, ...]] = {
    "image": ("Image",),
    "audio": ("Audio",),
    "series": ("list of numbers", "number", "integer"),
    "label": ("ClassLabel", "text", "integer"),
}
# Files by which a folder of data is told from the package's cache, which has arrow files, digests and metadata.
_TABLES = (".parquet", ".csv", ".tsv", ".json", ".jsonl", ".zip")
_MEDIA = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".wav", ".flac", ".mp3", ".ogg", ".opus")


@dataclass(frozen=True)
class Rows:
    """The usable rows of a set, of all parts, one after the other.

    Args:
        tables: the package's table of each split.
        places: split and row of each sample, N of them.
        labels: class indices, int64 [N].
        part: indices in ``PARTS``: 0 = training, 1 = validation, 2 = test; int64 [N].
        classes: names of the classes.
        inputs: names of the columns of the input.
        test_held_out: whether test samples were held out of training because there is no test part.
        root: the place of the set, for messages.
    """

    tables: Mapping[str, Any]
    places: Sequence[tuple[str, int]]
    labels: NDArray[np.int64]
    part: NDArray[np.int64]
    classes: tuple[str, ...]
    inputs: tuple[str, ...]
    test_held_out: bool
    root: Path

    def __getitem__(self, index: int) -> list[Any]:
        """The cells of the input."""
        split, row = self.places[index]
        cells = self.tables[split][row]
        return [cells[name] for name in self.inputs]

    def file(self, index: int) -> BytesIO | Path:
        """The encoded image or audio: its content in the table, or its place. Raises DataFault if there is none."""
        (cell,) = self[index]
        if cell is None or not (cell["bytes"] or cell["path"]):
            raise DataFault(self.where(index), f"{self.inputs[0]} is empty")
        return BytesIO(cell["bytes"]) if cell["bytes"] else Path(cell["path"])

    def __len__(self) -> int:
        return len(self.places)

    def where(self, index: int) -> str:
        """Place of a sample, for messages."""
        split, row = self.places[index]
        return _where(self.root, split, row)

    def take(self, kept: Sequence[int] | NDArray[Any]) -> "Rows":
        """Only these samples."""
        chosen = np.asarray(kept, dtype=int)
        places = [self.places[i] for i in chosen]
        return replace(self, places=places, labels=self.labels[chosen], part=self.part[chosen])


def open_rows(config: DataConfig, kind: Kind, faults: Faults) -> Rows:
    """The rows of a set of the package `datasets`, with their labels, divided into parts.

    A folder that holds data is read, whatever the title is. Otherwise the title is the name on the hub (perhaps with a
    slash and the name of a configuration behind it), and ``config.root`` is the package's cache.

    Args:
        config: the section `data` of a config.
        kind: what a sample is.
        faults: records rows without a label, or with one that no training row has.

    Raises:
        UserError: the package or the set is missing, a column is missing or ambiguous or of a wrong type, or a part is
            missing or empty; DataFault: a row's label cannot be used (unless ``on_error`` is ``skip``).
    """
    if importlib.util.find_spec("datasets") is None:
        raise UserError(f"dataset {config.name!r} needs the package datasets: pip install datasets")
    root = given_root(config, _WANTED)
    tables = _tables(config, root)
    alone = next(iter(tables)) if len(tables) == 1 else None
    learnt = alone or _split(tables, TRAIN_NAMES)
    if learnt is None:
        raise UserError(
            f"dataset {config.name!r} has no split {' or '.join(TRAIN_NAMES)}; it has {', '.join(sorted(tables))}"
        )
    features = tables[learnt].features
    label = _label_column(config, features)
    inputs = _input_columns(config, features, kind, label)
    for split, table in tables.items():
        for name in (*inputs, label):
            if name not in table.features or _type(table.features[name]) != _type(features[name]):
                raise UserError(
                    f"dataset {config.name!r}: column {name!r} of split {split} is missing or of another type than in "
                    f"split {learnt}"
                )
        if getattr(table.features[label], "names", None) != getattr(features[label], "names", None):
            raise UserError(f"dataset {config.name!r}: {label!r} has other classes in split {split} than in {learnt}")
    values = {split: table.with_format(None).select_columns([label])[:][label] for split, table in tables.items()}
    classes, index = _classes(features[label], values[learnt])
    # The labels of competitions' test parts are kept secret: none, or -1.
    used = {split for split, found in values.items() if split == learnt or any(map(index.__contains__, found))}
    parts = (alone, None, None) if alone else find_parts(lambda names: _split(used, names))
    places: list[tuple[str, int]] = []
    numbers = []
    for number, part in enumerate(parts):
        for row, value in enumerate(values[part] if part is not None else ()):
            if value in index:
                places.append((str(part), row))
                numbers.append(number)
            else:
                said = "has no label" if value in (None, -1) else f"has label {value!r}, which no training row has"
                faults.note(DataFault(_where(root, str(part), row), said))
    labels = np.array([index[values[split][row]] for split, row in places], dtype=np.int64)
    numbered = np.array(numbers, dtype=np.int64)
    if parts[2] is None:
        numbered[chosen_for_test(config, [f"{split}/{row}" for split, row in places], labels)] = 2
    check_split(numbered, config, root)
    shown = {part: _plain(tables[part], inputs, kind) for part in parts if part is not None}
    return Rows(shown, places, labels, numbered, classes, inputs, parts[2] is None, root)


def _where(root: Path, split: str, row: int) -> str:
    return f"{root}, split {split}, row {row}"


def _split(tables: Iterable[str], names: Sequence[str]) -> str | None:
    """The split with one of these names, in upper or lower case. The first name takes precedence."""
    found = {split.lower(): split for split in sorted(tables)}
    return next((found[name] for name in names if name in found), None)


def _tables(config: DataConfig, root: Path) -> dict[str, Any]:
    """The package's table of each split."""
    import datasets

    def read(load: Callable[[], Any]) -> dict[str, Any]:
        try:
            with internals.audio_files_as_paths():
                loaded = load()
        except Exception as error:  # whatever the package, or those that it reads files with, raise
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            raise UserError(f"dataset {config.name!r} in {root} (data.root): {first_line(cause)}") from error
        return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}

    if any((root / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return read(lambda: datasets.load_from_disk(str(root)))
    if root.is_dir() and _holds_data(root):
        return read(lambda: datasets.load_dataset(str(root), cache_dir=str(cache_folder(config) / "datasets")))
    owner, name, variant = (*config.name.split("/")[1:4], "", "")[:3]
    place = f"{owner}/{name}" if name else owner
    with internals.hub_offline(not config.download):
        try:
            return read(lambda: datasets.load_dataset(place, variant or None, cache_dir=str(root)))
        except UserError as error:
            if config.download:
                raise
            raise UserError(
                f"dataset {config.name!r}: looked for {_WANTED} in {root} (data.root), or for {place} in it "
                f"as the cache of that package, not found; set data.download=true to fetch it from the hub"
            ) from error


def _holds_data(root: Path) -> bool:
    """Whether a folder has files of data, so that it is not the package's cache."""
    for _, below, files in os.walk(root, followlinks=True):
        below[:] = [name for name in below if name[0] != "." and name != "downloads"]
        wanted = (name for name in files if name[0] != "." and name != "dataset_info.json")
        if any(Path(name).suffix.lower() in (*_TABLES, *_MEDIA) for name in wanted):
            return True
    return False


def _plain(table: Any, inputs: Sequence[str], kind: Kind) -> Any:
    """The table with these columns alone, as Python's values; images and audio as they are stored."""
    import datasets

    table = table.with_format(None).select_columns(list(inputs))
    if kind == "series":
        return table
    stored = datasets.Image(decode=False) if kind == "image" else datasets.Audio(decode=False)
    return table.cast_column(inputs[0], stored)


def _type(feature: Any) -> str:
    """What a column holds, as in messages."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is not None and not isinstance(inner, dict):
        deeper = _type(inner)
        return "list of numbers" if deeper in ("number", "integer", "list of numbers") else f"list of {deeper}"
    if type(feature).__name__ == "Array2D":
        return "list of numbers"
    if type(feature).__name__ != "Value":
        return type(feature).__name__
    if feature.dtype.startswith(("int", "uint", "bool")):
        return "integer"
    if feature.dtype.startswith(("float", "double", "decimal")):
        return "number"
    return "text" if "string" in feature.dtype else feature.dtype


def _checked(config: DataConfig, features: Mapping[str, Any], key: str, name: str, kind: str) -> str:
    """The column that the config names. Raises UserError unless it is there and of a type that fits."""
    types = {each: _type(feature) for each, feature in features.items()}
    if types.get(name) in _FITTING[kind]:
        return name
    fault = f"is of type {types[name]}" if name in types else "is not there"
    raise UserError(f"dataset {config.name!r}: column {name!r} of data.columns.{key} {fault}; {_there(types, kind)}")


def _there(types: Mapping[str, str], kind: str) -> str:
    """The columns that there are, and those that would fit."""
    fitting = [name for name, found in types.items() if found in _FITTING[kind]]
    listed = shortened((f"{name} ({found})" for name, found in types.items()), limit=12)
    what = "a label" if kind == "label" else f"the input ({' or '.join(_FITTING[kind])})"
    return f"the columns are {listed}; as {what} would fit: {shortened(fitting) or 'none'}"


def _label_column(config: DataConfig, features: Mapping[str, Any]) -> str:
    if config.columns.label is not None:
        return _checked(config, features, "label", config.columns.label, "label")
    types = {name: _type(feature) for name, feature in features.items()}
    usual = [name for name in _LABELS if types.get(name) in _FITTING["label"]]
    typed = [name for name, found in types.items() if found == "ClassLabel"]
    if usual or len(typed) == 1:
        return (usual or typed)[0]
    if wrong := [name for name in _LABELS if name in types]:
        fault = f"column {wrong[0]!r} is of type {types[wrong[0]]}, and no label"
        raise UserError(f"dataset {config.name!r}: {fault}; {_there(types, 'label')}")
    fault = "it is not clear which column is the label" if typed else f"no column is a ClassLabel or called {_LABELS}"
    raise UserError(f"dataset {config.name!r}: {fault}; set data.columns.label; {_there(types, 'label')}")


def _input_columns(config: DataConfig, features: Mapping[str, Any], kind: Kind, label: str) -> tuple[str, ...]:
    wanted, types = config.columns.input, {name: _type(feature) for name, feature in features.items()}
    if wanted is not None:
        if not isinstance(wanted, str) and kind != "series":
            raise UserError(f"dataset {config.name!r}: data.columns.input must be one column, got {list(wanted)}")
        names = _expanded((wanted,) if isinstance(wanted, str) else wanted, types, kind)
        for name in names:
            _checked(config, features, "input", name, kind)
        if len({types[name] == "list of numbers" for name in names}) > 1:
            raise UserError(
                f"dataset {config.name!r}: data.columns.input must be lists (a channel each) or numbers (a step each), "
                f"got {', '.join(f'{name} ({types[name]})' for name in names)}"
            )
        return names
    fitting = [name for name, found in types.items() if found in _FITTING[kind] and name != label]
    lists = [name for name in fitting if types[name] == "list of numbers"]
    if kind == "series" and not lists and fitting:
        return _steps(config, fitting)
    fitting = lists if kind == "series" else fitting
    if len(fitting) == 1:
        return tuple(fitting)
    fault = "it is not clear which column is the input" if fitting else "no column fits as the input"
    raise UserError(f"dataset {config.name!r}: {fault}; set data.columns.input; {_there(types, kind)}")


def _expanded(wanted: Sequence[str], types: Mapping[str, str], kind: Kind) -> tuple[str, ...]:
    """The names, of series with those that a pattern such as "t*" stands for, in the order of the table."""
    names: list[str] = []
    for each in wanted:
        fitting = [name for name, found in types.items() if found in _FITTING[kind] and fnmatchcase(name, each)]
        names += [each] if each in types or kind != "series" or not fitting else fitting
    return tuple(names)


def _steps(config: DataConfig, numbers: Sequence[str]) -> tuple[str, ...]:
    """The columns of numbers that are the time steps of a series, without those that number the rows.

    Raises:
        UserError: some are numbered (t0, t1, ...) and others are not.
    """
    steps = tuple(name for name in numbers if name.lower() not in _NUMBERS) or tuple(numbers)
    numbered = [name for name in steps if re.search(r"\d", name)]
    others = [name for name in steps if name not in numbered]
    if len(numbered) > 1 and others:
        raise UserError(
            f"dataset {config.name!r}: it is not clear whether {shortened(others)} are time steps as "
            f"{shortened(numbered)} are; set data.columns.input, to a pattern such as {numbered[0][0]}* or to names"
        )
    return steps


def _classes(feature: Any, labels: Sequence[Any]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names of the classes, and the index of each value: those of a ClassLabel, else the sorted training labels."""
    if hasattr(feature, "names"):
        return tuple(feature.names), {i: i for i in range(len(feature.names))}
    values = sorted({value for value in labels if value is not None})
    return tuple(map(str, values)), {value: i for i, value in enumerate(values)}
