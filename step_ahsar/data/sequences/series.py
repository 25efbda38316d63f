"""Series with a class each: from ``.npz``, the UEA's ``.ts`` files, or tables of the package `datasets`."""

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, given_root, not_found, read_npz
from step_ahsar.data.common.hub import Rows, open_rows
from step_ahsar.data.common.labels import class_names, find_labels
from step_ahsar.data.common.registry import Splits, register_dataset
from step_ahsar.data.common.splits import check_split, chosen_for_test
from step_ahsar.data.sequences.arrays import (
    Found,
    check_integers,
    check_keys,
    check_offsets,
    found_in,
    parts_of,
    series_of_any_shape,
    take,
)
from step_ahsar.errors import UserError

_SOURCE = "https://www.timeseriesclassification.com"
_HOLDS = "<name>_TRAIN.ts with <name>_TEST.ts, or an .npz with x_train, y_train, x_test, y_test"
_COLON = re.compile(r":(?![^()]*\))")  # not those in times
_VALUE_AT = re.compile(r"\(([^(),]+),([^(),]+)\)")
_PAIRS = re.compile(rf"{_VALUE_AT.pattern}(\s*,\s*{_VALUE_AT.pattern})*")
_PAIR = ("x_train", "y_train", "x_test", "y_test")

Series = NDArray[Any]  # [C, L]


@dataclass(frozen=True)
class Header:
    """The header of a ``.ts`` file.

    Args:
        classes: names of the classes, in the file's order.
        dimensions: C; None if it is not stated.
        length: L of each series; None if it is not stated.
        same_length: whether all series have the same length.
        timestamps: whether each value is a pair (time,value).
    """

    classes: tuple[str, ...]
    dimensions: int | None
    length: int | None
    same_length: bool
    timestamps: bool


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith(("#", "%"))


def _read_header(lines: list[str], path: Path) -> tuple[Header, int]:
    """The header, and the number of lines up to and including ``@data``."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or _is_comment(line):
            continue
        if not words[0].startswith("@"):
            raise DataFault(f"{path}:{number}", "expected a line of the header, starting with @, or @data")
        key = words[0][1:].lower()
        if key == "data":
            break
        found[key] = words[1:]
    else:
        raise DataFault(path, "has no line @data")

    def says(key: str) -> bool:
        return [word.lower() for word in found.get(key, [])[:1]] == ["true"]

    def number_of(*keys: str) -> int | None:
        for key in keys:
            if key in found:
                if len(found[key]) != 1 or not found[key][0].isdecimal():
                    raise DataFault(path, f"@{key} must be a number, got {' '.join(found[key])!r}")
                return int(found[key][0])
        return None

    if says("targetlabel"):
        raise DataFault(path, "has @targetLabel true, numbers to be predicted; only series with a class can be read")
    if not says("classlabel") or len(found["classlabel"]) < 2:
        raise DataFault(path, "has no line '@classLabel true' followed by the classes")
    dimensions = 1 if says("univariate") else number_of("dimensions", "dimension")
    differ = [word.lower() for word in found.get("equallength", [])[:1]] == ["false"]
    length = None if differ else number_of("serieslength")
    classes = tuple(found["classlabel"][1:])
    return Header(classes, dimensions, length, says("equallength"), says("timestamps")), number


def _without_times(text: str, where: str, dimension: int) -> str:
    """The values of ``(time,value),(time,value)``. Raises DataFault unless the times are evenly spaced."""
    if not _PAIRS.fullmatch(text.strip()):
        raise DataFault(where, f"dimension {dimension} is not of the form (time,value),(time,value), as of @timestamps")
    pairs = _VALUE_AT.findall(text)
    try:
        times = np.array([_seconds(time.strip()) for time, _ in pairs])
    except ValueError as error:
        raise DataFault(where, f"dimension {dimension}: a time must be a number or a date: {error}") from None
    steps = np.diff(times)
    uneven = np.flatnonzero((steps <= 0) | (np.abs(steps - steps[:1]) > 1e-6 * steps[:1]))
    if len(uneven):
        raise DataFault(where, f"dimension {dimension}: times are not evenly spaced at step {uneven[0] + 1}")
    return ",".join(value for _, value in pairs)


def _seconds(time: str) -> float:
    try:
        return float(time)
    except ValueError:
        return datetime.fromisoformat(time).replace(tzinfo=timezone.utc).timestamp()


def _read_values(text: str, where: str, dimension: int) -> Series:
    """The values of a dimension. Missing ones (``?`` or NaN) are interpolated linearly, or are that of the nearest."""
    fields = [field.strip() for field in text.split(",")]
    values = np.empty(len(fields))
    for i, field in enumerate(fields):
        try:
            values[i] = np.nan if field == "?" else float(field)
        except ValueError:
            raise DataFault(where, f"dimension {dimension}, step {i}: {field!r} is not a number") from None
    if np.isinf(values).any():
        i = int(np.flatnonzero(np.isinf(values))[0])
        raise DataFault(where, f"dimension {dimension}, step {i}: {fields[i]!r} is not finite")
    missing = np.isnan(values)
    if missing.all():
        raise DataFault(where, f"dimension {dimension} has no value, all {len(values)} are missing")
    if missing.any():
        values[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), values[~missing])
    return values


def read_ts(
    path: Path, faults: Faults, classes: tuple[str, ...] | None = None
) -> tuple[list[tuple[Series, int]], tuple[str, ...]]:
    """A file of the UEA and UCR archive: a header of lines @..., then a line per case ``1,2,3:4,5,6:label``.

    Dimensions are separated by colons. All dimensions of a case have the same length. With ``@timestamps true`` each
    value is a pair ``(time,value)``; times must be evenly spaced within a case, and are not used. Missing values (``?``
    or NaN) are interpolated linearly within their dimension; those before its first and after its last value are set to
    that value. Messages count dimensions and steps from 0, and lines from 1.

    Args:
        path: the file.
        faults: records the faults of single cases.
        classes: the classes into which labels become indices; None = those of the header.

    Returns:
        Values float64 [C, L] and class of each case; the classes.

    Raises:
        DataFault: the header is wrong, or a case is wrong and ``on_error`` is not ``skip``.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataFault(path, f"cannot be read as text: {error}") from error
    header, start = _read_header(lines, path)
    cases = [
        (i, line) for i, line in enumerate(lines[start:], start=start + 1) if line.strip() and not _is_comment(line)
    ]
    if not cases:
        raise DataFault(path, "has no cases after @data")
    first = _COLON.split(cases[0][1])
    dimensions = header.dimensions or len(first) - 1
    values_of = _without_times if header.timestamps else (lambda text, where, dimension: text)
    known, seen = classes or header.classes, list[int]()

    def read(case: tuple[int, str]) -> tuple[Series, int]:
        where = f"{path}:{case[0]}"
        *texts, label = _COLON.split(case[1])
        if len(texts) != dimensions:
            raise DataFault(where, f"has {len(texts)} dimensions before its label, expected {dimensions}")
        rows = [_read_values(values_of(text, where, d), where, d) for d, text in enumerate(texts)]
        lengths = [len(row) for row in rows]
        if len(set(lengths)) > 1:
            raise DataFault(where, f"dimensions differ in length: {', '.join(map(str, lengths))}")
        expected = header.length or (seen[0] if header.same_length and seen else lengths[0])
        if lengths[0] != expected:
            raise DataFault(where, f"has {lengths[0]} steps, expected {expected}")
        seen.append(lengths[0])
        label = label.strip()
        if label not in header.classes:
            raise DataFault(where, f"class {label!r} is not in @classLabel: {' '.join(header.classes)}")
        if label not in known:
            raise DataFault(where, f"class {label!r} is not one of the training file's: {' '.join(known)}")
        return np.stack(rows), known.index(label)

    return faults.read(cases, read), known


def _find_pair(config: DataConfig, root: Path) -> list[Path]:
    """The training and the test file in ``root``, a folder, or with ``root`` as the beginning of their paths."""
    if root.is_dir():
        names = {path.name.rpartition("_")[0] for part in ("TRAIN", "TEST") for path in root.glob(f"*_{part}.ts")}
        if len(names) > 1:
            raise UserError(
                f"dataset {config.name!r}: {root} (data.root) holds several sets: {', '.join(sorted(names))}; choose "
                f"one, such as data.root={root / min(names)}"
            )
        if not names:
            raise not_found(config, _HOLDS, _SOURCE)
        root = root / names.pop()
    pair = [root.with_name(f"{root.name}_{part}.ts") for part in ("TRAIN", "TEST")]
    missing = [path.name for path in pair if not path.is_file()]
    if missing:
        raise not_found(config, missing[0] if len(missing) == 1 else _HOLDS, _SOURCE)
    return pair


def _from_ts(config: DataConfig, root: Path, faults: Faults) -> Found:
    train, test = _find_pair(config, root)
    learnt, classes = read_ts(train, faults)
    measured, _ = read_ts(test, faults, classes)
    series, labels = [values for values, _ in learnt + measured], np.array([label for _, label in learnt + measured])
    return Found(series, labels, parts_of(np.arange(len(series)) >= len(learnt)), classes)


def _series_of(values: NDArray[Any], name: str, path: Path, offsets: NDArray[Any] | None = None) -> list[Series]:
    """Series of an array [N, C, L] or [N, L]; with offsets [N + 1], of [C, S] or [S]."""
    if values.dtype.kind not in "fiu" or values.ndim not in ((2, 3) if offsets is None else (1, 2)) or not values.size:
        wanted = "[N, C, L] or [N, L]" if offsets is None else "[C, S] or [S], as there are offsets"
        raise DataFault(path, f"{name} must be numbers {wanted}, got {values.dtype} {list(values.shape)}")
    if offsets is None:
        return list(values if values.ndim == 3 else values[:, None])
    values = np.atleast_2d(values)
    return [values[:, part] for part in check_offsets(offsets, values.shape[1], path)]


def _from_npz(config: DataConfig, path: Path, faults: Faults) -> Found:
    arrays, divided = read_npz(path), False
    if "x" in arrays:
        name = find_labels(arrays, besides="y")
        x, labels = take(arrays, ("x", name), path)
        series = _series_of(x, "x", path, arrays.get("offsets"))
        names = [f"series {i}" for i in range(len(series))]
        check_integers(labels, name, path, len(series))
        divided = "is_test" not in arrays
        if divided:
            is_test = chosen_for_test(config, [f"series/{i}" for i in range(len(series))], labels)
        else:
            is_test = arrays["is_test"]
        if is_test.shape != (len(series),) or not np.isin(is_test, (0, 1)).all():
            raise DataFault(
                path,
                f"is_test must be true or false for each of {len(series)} series, is {is_test.dtype} {is_test.shape}",
            )
        is_test = is_test.astype(bool)
    else:
        take(arrays, _PAIR, path)
        parts = [_series_of(arrays[f"x_{part}"], f"x_{part}", path) for part in ("train", "test")]
        for part, split in zip(("train", "test"), parts, strict=True):
            check_integers(arrays[f"y_{part}"], f"y_{part}", path, len(split))
        series = parts[0] + parts[1]
        names = [
            f"x_{part}[{i}]" for part, split in zip(("train", "test"), parts, strict=True) for i in range(len(split))
        ]
        labels = np.concatenate([arrays[f"y_{part}"].astype(np.int64) for part in ("train", "test")])
        is_test = np.arange(len(series)) >= len(parts[0])
    check_split(parts_of(is_test), config, path)
    labels = labels.astype(np.int64)
    classes = class_names(arrays, labels[~is_test], path)
    wrong: dict[int, str] = {}
    for i, (values, label) in enumerate(zip(series, labels, strict=True)):
        missing = np.argwhere(~np.isfinite(values))
        if len(missing):
            wrong[i] = f"{names[i]} is not finite at channel {missing[0][0]}, step {missing[0][1]}"
        if not 0 <= label < len(classes):
            wrong[i] = f"{names[i]} has label {label}, labels go from 0 to {len(classes) - 1}"
    kept = faults.without(wrong, len(series), path)
    return Found([series[i] for i in kept], labels[kept], parts_of(is_test[kept]), classes, divided)


def _from_hub(rows: Rows, faults: Faults) -> Found:
    channels: list[int] = []

    def read(index: int) -> Series:
        cells = rows[index]
        if any(cell is None for cell in cells):
            raise DataFault(rows.where(index), f"{rows.inputs[[cell is None for cell in cells].index(True)]} is empty")
        try:
            values = np.array(cells, dtype=np.float64)
        except (ValueError, TypeError) as error:  # lists of several lengths
            raise DataFault(rows.where(index), "its channels differ in length") from error
        if values.ndim == 1:  # a number for each time step
            values = values[None]
        elif values.ndim == 3:  # a column of lists of lists
            values = values.reshape(-1, values.shape[2])
        if values.ndim != 2 or not values.size:
            raise DataFault(rows.where(index), f"must be a series [C, L] or [L], got {list(values.shape)}")
        if channels and len(values) != channels[0]:
            raise DataFault(rows.where(index), f"has {len(values)} channels, the rows before it have {channels[0]}")
        channels.append(len(values))
        missing = np.argwhere(~np.isfinite(values))
        if len(missing):
            raise DataFault(rows.where(index), f"is not finite at channel {missing[0][0]}, step {missing[0][1]}")
        return values

    return found_in(rows, read, faults)


def _normalised(config: DataConfig, root: Path, found: Found, faults: Faults) -> Splits:
    check_split(found.part, config, root)
    channels = [len(found.samples[np.flatnonzero(found.part == number)[0]]) for number in (0, 2)]
    if channels[0] != channels[1]:
        raise DataFault(root, f"training series have {channels[0]} channels, test series have {channels[1]}")
    return found.splits(found.samples, None, faults.found)


def open_series(config: DataConfig) -> Splits:
    """Series [C, L], normalised by mean and standard deviation of each channel over the training series.

    They are padded with zeros to the longest series of both splits.

    Args:
        config: ``root`` is one of

            - a folder with ``<name>_TRAIN.ts`` and ``<name>_TEST.ts``, or ``folder/<name>``, see :func:`read_ts`;
            - an ``.npz`` with ``x_train`` [N, C, L] or [N, L], ``y_train`` [N], ``x_test``, ``y_test``;
            - an ``.npz`` with ``x`` [N, C, L] or [N, L], ``y`` (or ``label``, ``labels``) and ``is_test`` [N]. Series
              of different lengths are concatenated in ``x`` [C, S]; series i is from ``offsets[i]`` up to ``offsets[i +
              1]``. Without ``is_test``, ``data.test_share`` of each class is held out for testing.

            An ``.npz`` may name its ``classes``.

    Raises:
        UserError: it is not found, or there is no training or no test series.
        DataFault: a file or series that cannot be used.
    """
    check_keys(config)
    faults = Faults(config)
    root = given_root(config, f"{_HOLDS}; from {_SOURCE}")
    if root.suffix == ".npz":
        found = _from_npz(config, existing_root(config, _HOLDS, _SOURCE), faults)
    else:  # a folder, or the beginning of the paths of the two files
        found = _from_ts(config, root, faults)
    return _normalised(config, root, found, faults)


def open_hub_series(config: DataConfig) -> Splits:
    """Series of the package `datasets`, prepared as by :func:`open_series`; see ``open_rows`` for where they are.

    The input is a column of lists [L], or of lists of lists [C, L]; or several columns of lists, a channel each; or
    columns of numbers, a time step each, of one channel.

    Raises:
        UserError: what ``open_rows`` raises; DataFault: a row that cannot be used.
    """
    check_keys(config)
    faults = Faults(config)
    rows = open_rows(config, "series", faults)
    return _normalised(config, rows.root, _from_hub(rows, faults), faults)


register_dataset(series_of_any_shape("series", open=open_series))
register_dataset(series_of_any_shape("hfds_series", open=open_hub_series, needs_title=True, has_columns=True))
