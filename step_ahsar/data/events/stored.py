"""Recordings from disk: a folder for each class, or one packed ``.npz`` file."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import (
    PARTS,
    TEST_NAMES,
    TRAIN_NAMES,
    VALIDATION_NAMES,
    class_files,
    existing_root,
    find_parts,
    part_folder,
    read_npz,
)
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.labels import find_labels
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.splits import chosen_for_test
from step_ahsar.data.events.formats import SUFFIXES, checked, extent, fields, read_recording, stated_sensor, whole
from step_ahsar.data.events.recording import Recording
from step_ahsar.errors import UserError

WANTED = "{train,test}/<class>/<recordings>, <class>/<recordings>, or a packed .npz file"

_PACKED = "a packed data set has x, y, p, t or dt, offsets, label: see docs/data.md"

Item = tuple[Path, int]


class FileEvents:
    """Recordings in files with their class indices. A file is read when its sample is needed."""

    def __init__(self, items: Sequence[Item], read: Callable[[Path], Recording]) -> None:
        self.items, self.read = list(items), read

    @property
    def labels(self) -> list[int]:
        """Class indices."""
        return [label for _, label in self.items]

    def __getitem__(self, index: int) -> tuple[Recording, int]:
        """Raises DataFault for a file that cannot be used."""
        path, label = self.items[index]
        return self.read(path), label

    def __len__(self) -> int:
        return len(self.items)


class PackedEvents:
    """Recordings in memory, as concatenated arrays.

    Args:
        arrays: x, y, p and t (or dt) of all events, [N] each.
        offsets: sample i has the events from offsets[i] up to offsets[i + 1].
        classes: class index of each sample.
        sensor: (H, W) in pixels.
        path: the file, for messages.
        indices: the chosen samples.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray],
        offsets: NDArray[np.int64],
        classes: NDArray[np.int64],
        sensor: tuple[int, int],
        path: Path,
        indices: NDArray[np.int64],
    ) -> None:
        self.arrays, self.offsets, self.classes = dict(arrays), offsets, classes
        self.sensor, self.path, self.indices = sensor, path, indices

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class indices of the chosen samples."""
        return self.classes[self.indices]

    def __getitem__(self, index: int) -> tuple[Recording, int]:
        """Raises DataFault for a sample that cannot be used."""
        number = int(self.indices[index])
        where = f"{self.path}: sample {number}"
        label = int(self.classes[number])
        if label < 0:
            raise DataFault(where, f"label {label} is out of range: classes count from 0")
        part = slice(self.offsets[number], self.offsets[number + 1])
        events = fields({name: values[part] for name, values in self.arrays.items()}, where)
        return checked(events, self.sensor, where), label

    def __len__(self) -> int:
        return len(self.indices)


def require_samples(splits: Splits, config: DataConfig) -> Splits:
    """Returns the splits. Raises UserError if there is no training sample or no test sample."""
    for name, part in (("training", splits.train), ("test", splits.test)):
        if not len(part):
            reason = f": {splits.skipped[0]}" if splits.skipped else ""
            raise UserError(f"dataset {config.name!r}: no {name} recording in {config.root} (data.root){reason}")
    return splits


def open_events(config: DataConfig) -> Splits:
    """The recordings in ``config.root``, which is a folder or a packed file.

    A folder has the folders train/<class>/ and test/<class>/ (or val, or both, see
    :func:`step_ahsar.data.common.files.find_parts`). Or it has folders <class>/ alone; then ``data.test_share`` of each
    class is held out for testing. Files are in the formats of :func:`read_recording`, hidden files are ignored. The
    sensor is the smallest that has room for all recordings. All files are read once when the set is opened, which finds
    every fault.

    A packed file has the arrays x, y, p and t of all events of all samples, one sample after the other (or dt, the time
    since the sample's previous event, for its first event the time itself), ``offsets`` [samples + 1] and ``label``
    [samples] (or ``labels``). It may have ``is_test`` [samples] (else ``data.test_share`` of each class is held out)
    and ``sensor`` (H, W).

    With ``on_error: skip`` recordings that cannot be used, and class folders without recordings, are left out and
    listed.

    Raises:
        UserError: nothing is there, or nothing is left.
        DataFault: a file or sample that cannot be used.
    """
    root = existing_root(config, WANTED)
    if root.is_file():
        return require_samples(_open_packed(root, config), config)
    if not any(root.iterdir()):
        raise UserError(f"dataset {config.name!r}: looked for {WANTED} in {root} (data.root), which is empty")
    return require_samples(_open_folder(root, config), config)


def _open_folder(root: Path, config: DataConfig) -> Splits:
    faults = Faults(config)
    folders = dict(zip(PARTS, find_parts(partial(part_folder, root)), strict=True))
    divided = not any(folders.values())
    files: list[tuple[Path, str, str]]  # recording, name of its class, its part
    if divided:
        every = [(path, name) for name, paths in class_files(root, SUFFIXES, faults).items() for path in paths]
        number = {name: i for i, name in enumerate(sorted({name for _, name in every}))}
        labels = [number[name] for _, name in every]
        is_test = chosen_for_test(config, [path.relative_to(root).as_posix() for path, _ in every], labels)
        files = [
            (path, name, "test" if chosen else "training") for (path, name), chosen in zip(every, is_test, strict=True)
        ]
    else:
        for part, wanted in (("training", TRAIN_NAMES), ("test", (*VALIDATION_NAMES, *TEST_NAMES))):
            if folders[part] is None:
                raise UserError(
                    f"dataset {config.name!r}: looked for a folder {' or '.join(wanted)} in {root} (data.root), "
                    "found none"
                )
        present = {part: folder for part, folder in folders.items() if folder is not None}
        found = {part: class_files(folder, SUFFIXES, faults) for part, folder in present.items()}
        for part, classes_of in found.items():
            for name in sorted(set(classes_of) - set(found["training"])):
                faults.note(DataFault(present[part] / name, f"this class has no recordings in {present['training']}"))
                del classes_of[name]
        files = [(path, name, part) for part, of in found.items() for name in of for path in of[name]]

    kept, height, width, content = [], 1, 1, sha256()
    for (path, name, part), recording in faults.tried(files, lambda file: read_recording(file[0])):
        kept.append((path, name, part))
        height, width = max(height, recording.sensor[0]), max(width, recording.sensor[1])
        content.update(f"{path.relative_to(root).as_posix()}\0{part}\0".encode())
        content.update(fingerprint_arrays((recording.x, recording.y, recording.t, recording.p)).encode())
    classes = sorted({name for _, name, part in kept if part == "training"})
    items: dict[str, list[Item]] = {part: [] for part in PARTS}
    for path, name, part in kept:
        if name in classes:
            items[part].append((path, classes.index(name)))
        else:
            faults.note(DataFault(path, f"no training recording of its class {name!r} can be used"))
    samples = {part: FileEvents(each, partial(read_recording, sensor=(height, width))) for part, each in items.items()}
    return Splits(
        samples["training"],
        samples["test"],
        tuple(classes),
        f"sha256:{content.hexdigest()}",
        validation=samples["validation"] if items["validation"] else None,
        test_held_out=divided,
        skipped=tuple(faults.found),
        in_chans=2,
        size=(height, width),
    )


def _open_packed(path: Path, config: DataConfig) -> Splits:
    loaded, faults = read_npz(path), Faults(config)
    for name in ("offsets", find_labels(loaded)):
        if name not in loaded:
            raise DataFault(path, f"has no array {name!r}; {_PACKED}")
    time = next((name for name in ("t", "t_us", "dt") if name in loaded), "t")
    if missing := [name for name in ("x", "y", time, "p") if name not in loaded]:
        raise DataFault(path, f"has no array {missing[0]!r}; {_PACKED}")
    arrays = {name: whole(name, loaded[name], path) for name in ("x", "y", time, "p")}
    offsets, labels = (whole(name, loaded[name], path).astype(np.int64) for name in ("offsets", find_labels(loaded)))
    _check_offsets(offsets, arrays, len(labels), path)
    if "sensor" in loaded:
        sensor = stated_sensor(loaded["sensor"], path)
    else:
        sensor = (extent("y", arrays["y"], path), extent("x", arrays["x"], path))

    is_test = _test_samples(loaded, labels, path, config)
    kept = []
    for part in (~is_test, is_test):
        samples = PackedEvents(arrays, offsets, labels, sensor, path, np.flatnonzero(part))
        kept.append(samples.indices[faults.readable(range(len(samples)), samples.__getitem__)])
    if faults.skips:
        strange = labels[kept[1]] >= len(np.unique(labels[kept[0]]))
        for i in kept[1][strange]:
            faults.note(
                DataFault(f"{path}: sample {i}", f"label {labels[i]} is out of range: no training sample has it")
            )
        kept[1] = kept[1][~strange]
    classes = _check_labels(labels, kept[0], kept[1], path)
    train, test = (PackedEvents(arrays, offsets, labels, sensor, path, indices) for indices in kept)
    return Splits(
        train,
        test,
        tuple(map(str, range(classes))),
        fingerprint_arrays([*arrays.values(), offsets, labels, sensor, *kept]),
        test_held_out="is_test" not in loaded,
        skipped=tuple(faults.found),
        in_chans=2,
        size=sensor,
    )


def _check_offsets(offsets: NDArray[np.int64], arrays: Mapping[str, NDArray], samples: int, path: Path) -> None:
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataFault(path, f"fields of events differ in length: {listed}")
    if len(offsets) != samples + 1:
        raise DataFault(
            path, f"there must be one offset more than labels, got {len(offsets)} offsets and {samples} labels"
        )
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if len(falls):
        i = int(falls[0]) + 1
        raise DataFault(path, f"offsets must not fall: offset {i} is {offsets[i]}, the one before is {offsets[i - 1]}")
    events = lengths["x"]
    if offsets[0] != 0 or offsets[-1] != events:
        raise DataFault(
            path, f"offsets must go from 0 to {events}, the number of events, got {offsets[0]} to {offsets[-1]}"
        )


def _test_samples(
    loaded: Mapping[str, Any], labels: NDArray[np.int64], path: Path, config: DataConfig
) -> NDArray[np.bool_]:
    if "is_test" not in loaded:
        return chosen_for_test(config, [f"sample/{i}" for i in range(len(labels))], labels)
    is_test = whole("is_test", loaded["is_test"], path)
    if len(is_test) != len(labels) or not np.isin(is_test, (0, 1)).all():
        raise DataFault(path, f"is_test must be 0 or 1 for each of the {len(labels)} samples")
    return is_test.astype(bool)


def _check_labels(labels: NDArray[np.int64], train: NDArray, test: NDArray, path: Path) -> int:
    """The number of classes. Raises DataFault for a negative label, or for a class without training samples."""
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


register_dataset(DatasetSpec("events", 2, None, (), (), None, open_events, modality="event", titles=None))
