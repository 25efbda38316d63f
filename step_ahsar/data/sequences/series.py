"""Series of any kind: several channels over time with a class each, from ``.npz`` or from the UEA's ``.ts`` files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, given_root, not_found, read_npz
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.labels import class_names, find_labels
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.splits import held_out, names_for_test, share_for_test, share_that_leaves_some
from step_ahsar.data.sequences.arrays import (
    PaddedSeries,
    check_integers,
    check_keys,
    check_offsets,
    check_split,
    standardise,
    take,
)
from step_ahsar.errors import UserError

_SOURCE = "https://www.timeseriesclassification.com"
_HOLDS = "<name>_TRAIN.ts with <name>_TEST.ts, or an .npz with x_train, y_train, x_test, y_test"
_PAIR = ("x_train", "y_train", "x_test", "y_test")

Series = NDArray[Any]  # [C, L]
# Every series, its class, whether it is of the test set; names of the classes; whether the test set was held out here.
Found = tuple[list[Series], NDArray[Any], NDArray[np.bool_], tuple[str, ...], bool]


@dataclass(frozen=True)
class Header:
    """The header of a ``.ts`` file.

    Args:
        classes: names of the classes, in the file's order.
        dimensions: C; None if it is not stated.
        length: L of each series; None if it is not stated.
        same_length: whether all series have the same length.
    """

    classes: tuple[str, ...]
    dimensions: int | None
    length: int | None
    same_length: bool


def _read_header(lines: list[str], path: Path) -> tuple[Header, int]:
    """The header, and the number of lines up to and including ``@data``."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or line.lstrip().startswith("#"):
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

    if says("timestamps"):
        raise DataFault(path, "has @timestamps true; only series sampled at equal intervals can be read")
    if not says("classlabel") or len(found["classlabel"]) < 2:
        raise DataFault(path, "has no line '@classLabel true' followed by the classes")
    dimensions = 1 if says("univariate") else number_of("dimensions", "dimension")
    return Header(tuple(found["classlabel"][1:]), dimensions, number_of("serieslength"), says("equallength")), number


def _read_values(text: str, where: str, dimension: int) -> Series:
    fields = text.split(",")
    try:
        values = np.array(fields, dtype=np.float64)
    except ValueError:
        values = np.full(len(fields), np.nan)
        for i, field in enumerate(fields):
            if field.strip() == "?":
                break
            try:
                values[i] = float(field)
            except ValueError:
                raise DataFault(where, f"dimension {dimension}, step {i}: {field.strip()!r} is not a number") from None
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        got = fields[bad[0]].strip()
        raise DataFault(where, f"dimension {dimension}, step {bad[0]}: a value is missing or not finite ({got})")
    return values


def read_ts(
    path: Path, faults: Faults, classes: tuple[str, ...] | None = None
) -> tuple[list[tuple[Series, int]], tuple[str, ...]]:
    """A file of the UEA and UCR archive: a header of lines @..., then a line per case ``1,2,3:4,5,6:label``.

    Dimensions are separated by colons. All dimensions of a case have the same length. Messages count dimensions and
    steps from 0, and lines from 1.

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
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataFault(path, f"cannot be read as text: {error}") from error
    header, start = _read_header(lines, path)
    cases = [(i, line) for i, line in enumerate(lines[start:], start=start + 1) if line.strip()]
    if not cases:
        raise DataFault(path, "has no cases after @data")
    first = cases[0][1].split(":")
    dimensions = header.dimensions or len(first) - 1
    length = header.length or (len(first[0].split(",")) if header.same_length else None)

    known = classes or header.classes

    def read(case: tuple[int, str]) -> tuple[Series, int]:
        where = f"{path}:{case[0]}"
        *texts, label = case[1].split(":")
        if len(texts) != dimensions:
            raise DataFault(where, f"has {len(texts)} dimensions before its label, expected {dimensions}")
        rows = [_read_values(text, where, d) for d, text in enumerate(texts)]
        lengths = [len(row) for row in rows]
        if len(set(lengths)) > 1:
            raise DataFault(where, f"dimensions differ in length: {', '.join(map(str, lengths))}")
        if length is not None and lengths[0] != length:
            raise DataFault(where, f"has {lengths[0]} steps, expected {length}")
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
    return series, labels, np.arange(len(series)) >= len(learnt), classes, False


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
            chosen = names_for_test(config, [f"series/{i}" for i in range(len(series))])
            is_test = held_out(chosen, labels, share_that_leaves_some(labels, share_for_test(config)))
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
    check_split(is_test, config, path)
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
    return [series[i] for i in kept], labels[kept], is_test[kept], classes, divided


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
        series, labels, is_test, classes, divided = _from_npz(config, existing_root(config, _HOLDS, _SOURCE), faults)
    else:  # a folder, or the beginning of the paths of the two files
        series, labels, is_test, classes, divided = _from_ts(config, root, faults)
    check_split(is_test, config, root)
    splits = [[series[i] for i in np.flatnonzero(is_test == part)] for part in (False, True)]
    channels = [len(split[0]) for split in splits]
    if channels[0] != channels[1]:
        raise DataFault(root, f"training series have {channels[0]} channels, test series have {channels[1]}")
    length = max(values.shape[1] for values in series)
    train, test = standardise(*splits)
    return Splits(
        train=PaddedSeries(train, labels[~is_test], length),
        test=PaddedSeries(test, labels[is_test], length),
        classes=classes,
        fingerprint=fingerprint_arrays([*series, labels, is_test]),
        test_held_out=divided,
        skipped=tuple(faults.found),
        in_chans=channels[0],
        size=length,
    )


register_dataset(
    DatasetSpec(
        "series", None, None, (), (), None, open_series, mirrors=False, modality="sequence", ndim=1, titles=None
    )
)
