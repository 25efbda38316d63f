"""Recordings from disk: a folder of them by class, or one packed ``.npz`` file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.events.formats import (
    SUFFIXES,
    checked,
    extent,
    fields,
    load_numpy,
    read_recording,
    stated_sensor,
    whole,
)
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.faults import DataFault, screen
from step_ahsar.data.fingerprint import fingerprint_arrays
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.root import given_root
from step_ahsar.errors import UserError

TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("val", "valid", "validation", "test", "testing")
TEST_SHARE = 0.2  # of each class, where there is no split
WANTED = "{train,test}/<class>/<recordings>, <class>/<recordings>, or a packed .npz file"

Item = tuple[Path, int]


class FileEvents:
    """Recordings in files, read when they are needed: each with its class index."""

    def __init__(self, items: Sequence[Item], read: Callable[[Path], Recording]) -> None:
        self.items, self.read = list(items), read

    def __getitem__(self, index: int) -> tuple[Recording, int]:
        """Raises DataFault for a file that cannot be used."""
        path, label = self.items[index]
        return self.read(path), label

    def __len__(self) -> int:
        return len(self.items)


class PackedEvents:
    """Recordings held in memory as concatenated arrays.

    Args:
        arrays: x, y, p and t (or dt) of all events, [N] each.
        offsets: sample i is [offsets[i], offsets[i + 1]).
        labels: class index of each sample.
        sensor: (H, W) in pixels.
        path: the file, for messages.
        indices: which of the samples.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray],
        offsets: NDArray[np.int64],
        labels: NDArray[np.int64],
        sensor: tuple[int, int],
        path: Path,
        indices: NDArray[np.int64],
    ) -> None:
        self.arrays, self.offsets, self.labels = dict(arrays), offsets, labels
        self.sensor, self.path, self.indices = sensor, path, indices

    def __getitem__(self, index: int) -> tuple[Recording, int]:
        """Raises DataFault for a sample that cannot be used."""
        number = int(self.indices[index])
        where = f"{self.path}: sample {number}"
        label = int(self.labels[number])
        if label < 0:
            raise DataFault(where, f"label {label} is out of range: classes count from 0")
        part = slice(self.offsets[number], self.offsets[number + 1])
        events = fields({name: values[part] for name, values in self.arrays.items()}, where)
        return checked(events, self.sensor, where), label

    def __len__(self) -> int:
        return len(self.indices)


def seeded_split(names: Sequence[str], labels: Sequence[int], share: float) -> list[bool]:
    """Which samples are for testing, the same in every run and on every machine.

    Of each class its ``share`` (rounded, but never all), namely the samples whose names have the smallest SHA-256.
    """
    is_test = [False] * len(names)
    rank = [sha256(name.encode()).digest() for name in names]
    of_class: dict[int, list[int]] = {}
    for i, label in enumerate(labels):
        of_class.setdefault(label, []).append(i)
    for members in of_class.values():
        quota = min(max(1, round(share * len(members))), len(members) - 1)
        for i in sorted(members, key=rank.__getitem__)[:quota]:
            is_test[i] = True
    return is_test


class Faults:
    """What is wrong with a data set: raised, or with ``on_error: skip`` collected."""

    def __init__(self, config: DataConfig) -> None:
        self.raises, self.found = config.on_error == "raise", list[str]()

    def note(self, fault: DataFault) -> None:
        """Raises it, or adds it to those found."""
        if self.raises:
            raise fault
        self.found.append(str(fault))


def require_samples(splits: Splits, config: DataConfig) -> Splits:
    """The same splits. Raises UserError if there is nothing to train on, or nothing to test on."""
    for name, part in (("training", splits.train), ("test", splits.test)):
        if not len(part):
            reason = f": {splits.skipped[0]}" if splits.skipped else ""
            raise UserError(f"dataset {config.name!r}: no {name} recording in {config.root} (data.root){reason}")
    return splits


def open_events(config: DataConfig) -> Splits:
    """The recordings that ``config.root`` names.

    A folder holds train/<class>/ and test/<class>/ (or val), or <class>/ alone, of which a fifth of each class, chosen
    by :func:`seeded_split`, is for testing. Its files are as :func:`read_recording` takes them; the sensor is the
    smallest that all of them fit on. They are read once when the set is opened, which finds every fault. Hidden files
    are passed over.

    A packed file has x, y, p and t of all events one after the other (or dt, the time since the sample's previous
    event, the first one absolute), ``offsets`` [samples + 1], ``label`` [samples], and may have ``is_test`` [samples]
    and ``sensor`` (H, W).

    With ``on_error: skip``, recordings that cannot be used are left out and listed; so are class folders without any,
    which are no class then.

    Raises:
        UserError: nothing there, or nothing left.
        DataFault: see above.
    """
    root = given_root(config, WANTED)
    if root.is_file():
        return require_samples(_open_packed(root, config), config)
    if not root.is_dir():
        raise UserError(f"dataset {config.name!r}: looked for {WANTED} in {root} (data.root), not found")
    if not any(root.iterdir()):
        raise UserError(f"dataset {config.name!r}: looked for {WANTED} in {root} (data.root), which is empty")
    return require_samples(_open_folder(root, config), config)


def _open_folder(root: Path, config: DataConfig) -> Splits:
    faults = Faults(config)
    train_folder, test_folder = (_split_folder(root, names) for names in (TRAIN_FOLDERS, TEST_FOLDERS))
    if train_folder is not None or test_folder is not None:
        if train_folder is None or test_folder is None:
            missing = " or ".join(TEST_FOLDERS if test_folder is None else TRAIN_FOLDERS)
            raise UserError(f"dataset {config.name!r}: looked for a folder {missing} in {root} (data.root), found none")
        train, test = _class_files(train_folder, faults), _class_files(test_folder, faults)
        for name in sorted(set(test) - set(train)):
            faults.note(DataFault(test_folder / name, f"this class has no recordings in {train_folder}"))
            del test[name]
        files = [(path, name, part is test) for part in (train, test) for name in part for path in part[name]]
    else:
        every = [(path, name) for name, paths in _class_files(root, faults).items() for path in paths]
        number = {name: i for i, name in enumerate(sorted({name for _, name in every}))}
        is_test = seeded_split(
            [path.relative_to(root).as_posix() for path, _ in every], [number[name] for _, name in every], TEST_SHARE
        )
        files = [(path, name, chosen) for (path, name), chosen in zip(every, is_test, strict=True)]

    kept, height, width, content = [], 1, 1, sha256()
    for path, name, chosen in files:
        try:
            recording = read_recording(path)
        except DataFault as fault:
            faults.note(fault)
            continue
        kept.append((path, name, chosen))
        height, width = max(height, recording.sensor[0]), max(width, recording.sensor[1])
        content.update(f"{path.relative_to(root).as_posix()}\0{chosen}\0".encode())
        content.update(fingerprint_arrays((recording.x, recording.y, recording.t, recording.p)).encode())
    classes = sorted({name for _, name, chosen in kept if not chosen})
    items: tuple[list[Item], list[Item]] = ([], [])
    for path, name, chosen in kept:
        if name in classes:
            items[chosen].append((path, classes.index(name)))
        else:
            faults.note(DataFault(path, f"no training recording of its class {name!r} can be used"))
    read = partial(read_recording, sensor=(height, width))
    train_samples, test_samples = (FileEvents(part, read) for part in items)
    return Splits(
        train_samples,
        test_samples,
        tuple(classes),
        f"sha256:{content.hexdigest()}",
        tuple(faults.found),
        in_chans=2,
        size=(height, width),
    )


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    """The folder of one of these names, in small letters or capitals; the first name wins."""
    folders = {entry.name.lower(): entry for entry in sorted(root.iterdir(), reverse=True) if entry.is_dir()}
    return next((folders[name] for name in names if name in folders), None)


def _class_files(folder: Path, faults: Faults) -> dict[str, list[Path]]:
    """The recordings of each class folder in it, in the order of their names."""
    classes: dict[str, list[Path]] = {}
    for place in sorted(folder.iterdir()):
        if not place.is_dir() or place.name.startswith("."):
            continue
        files = []
        for path in sorted(place.iterdir()):
            if path.name.startswith("."):
                continue
            if path.is_dir():
                faults.note(DataFault(path, "is a folder inside a class folder, where recordings are expected"))
            elif path.suffix.lower() not in SUFFIXES:
                faults.note(DataFault(path, f"unknown file type {path.suffix!r}; known: {', '.join(SUFFIXES)}"))
            else:
                files.append(path)
        if files:
            classes[place.name] = files
        else:
            faults.note(DataFault(place, "this class folder holds no recordings; fill it or remove it"))
    return classes


def _open_packed(path: Path, config: DataConfig) -> Splits:
    loaded = load_numpy(path) if path.suffix.lower() == ".npz" else None
    if not isinstance(loaded, dict):
        raise DataFault(path, f"dataset {config.name!r} is {WANTED}")
    for name in ("offsets", "label"):
        if name not in loaded:
            raise DataFault(path, f"has no field {name!r}; a packed data set has x, y, p, t or dt, offsets, label")
    time = next((name for name in ("t", "t_us", "dt") if name in loaded), "t")
    if missing := [name for name in ("x", "y", time, "p") if name not in loaded]:
        raise DataFault(path, f"has no field {missing[0]!r}; a packed data set has x, y, p, t or dt, offsets, label")
    arrays = {name: whole(name, loaded[name], path) for name in ("x", "y", time, "p")}
    offsets, labels = (whole(name, loaded[name], path).astype(np.int64) for name in ("offsets", "label"))
    _check_offsets(offsets, arrays, len(labels), path)
    if "sensor" in loaded:
        sensor = stated_sensor(loaded["sensor"], path)
    else:
        sensor = (extent("y", arrays["y"], path), extent("x", arrays["x"], path))

    is_test = _test_samples(loaded, labels, path)
    kept, skipped = [], []
    for part in (~is_test, is_test):
        samples = PackedEvents(arrays, offsets, labels, sensor, path, np.flatnonzero(part))
        indices, faults = screen(range(len(samples)), samples.__getitem__, config)
        kept.append(samples.indices[indices])
        skipped += faults
    if config.on_error == "skip":
        strange = labels[kept[1]] >= len(np.unique(labels[kept[0]]))
        skipped += [
            f"{path}: sample {i}: label {labels[i]} is out of range: no training sample has it"
            for i in kept[1][strange]
        ]
        kept[1] = kept[1][~strange]
    classes = _check_labels(labels, kept[0], kept[1], path)
    train, test = (PackedEvents(arrays, offsets, labels, sensor, path, indices) for indices in kept)
    return Splits(
        train,
        test,
        tuple(map(str, range(classes))),
        fingerprint_arrays([*arrays.values(), offsets, labels, sensor, *kept]),
        tuple(skipped),
        in_chans=2,
        size=sensor,
    )


def _check_offsets(offsets: NDArray[np.int64], arrays: Mapping[str, NDArray], samples: int, path: Path) -> None:
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataFault(path, f"fields of events differ in length: {listed}")
    if len(offsets) != samples + 1:
        raise DataFault(path, f"{len(offsets)} offsets do not fit {samples} labels; there must be one more")
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if len(falls):
        i = int(falls[0]) + 1
        raise DataFault(path, f"offsets must not fall: offset {i} is {offsets[i]}, the one before is {offsets[i - 1]}")
    events = lengths["x"]
    if offsets[0] != 0 or offsets[-1] != events:
        raise DataFault(
            path, f"offsets must go from 0 to {events}, the number of events, got {offsets[0]} to {offsets[-1]}"
        )


def _test_samples(loaded: Mapping[str, Any], labels: NDArray[np.int64], path: Path) -> NDArray[np.bool_]:
    if "is_test" not in loaded:
        names = [f"sample/{i}" for i in range(len(labels))]
        return np.asarray(seeded_split(names, labels.tolist(), TEST_SHARE), bool)
    is_test = whole("is_test", loaded["is_test"], path)
    if len(is_test) != len(labels) or not np.isin(is_test, (0, 1)).all():
        raise DataFault(path, f"is_test must be 0 or 1 for each of the {len(labels)} samples")
    return is_test.astype(bool)


def _check_labels(labels: NDArray[np.int64], train: NDArray, test: NDArray, path: Path) -> int:
    """The number of classes. Raises DataFault for labels that are negative, or that leave a class without samples."""
    used = labels[np.concatenate((train, test))]
    if not len(used):
        return 0
    if used.min() < 0:
        i = int(np.argmax(labels < 0))
        raise DataFault(f"{path}: sample {i}", f"label {labels[i]} is out of range: classes count from 0")
    present = np.unique(labels[train])
    gaps = np.flatnonzero(present != np.arange(len(present)))
    if len(gaps) or used.max() >= len(present):
        absent = gaps[0] if len(gaps) else len(present)
        raise DataFault(
            path,
            f"label {used.max()} is out of range: every class from 0 on must have a training sample, but class "
            f"{absent} has none",
        )
    return len(present)


register_dataset(DatasetSpec("events", 2, None, (), (), None, open_events, modality="event"))
