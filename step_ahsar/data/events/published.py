"""Published sets of event recordings, in the folders in which the package tonic stores them.

Nothing is downloaded unless ``data.download`` is true. Only downloading needs tonic. The files are read here, because
tonic requires the archives beside the files that were unpacked from them, and because its labels and shapes differ from
set to set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import DAMAGES, given_root, not_found, read_numpy
from step_ahsar.data.common.fingerprint import fingerprint_files
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.splits import TEST_SHARE, chosen_for_test
from step_ahsar.data.events.formats import EXTRA, Events, checked, read_recording
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.stored import FileEvents, Item, require_samples
from step_ahsar.errors import UserError, unknown

Reader = Callable[..., Recording]  # of a path and the sensor


@dataclass(frozen=True)
class PublishedSet:
    """Where the recordings of a set are, and how to read them.

    Args:
        name: the name in configs.
        folders: tonic's nested folders below its root. data.root may be that root or any of these folders.
        patterns: patterns of the training and of the test recordings below these folders, or one of all recordings.
        page: address where it can be got.
        sensor: (H, W) in pixels.
        classes: names by class index; None = the names of the class folders.
        label: function from a file to its class name.
        read: function from a file to the recording.
        share: default of data.test_share, for sets without a published split.
        fetch: tonic's class that downloads it; None if there is none.
        mirrors: whether a recording and its mirror image have the same class.
    """

    name: str
    folders: tuple[str, ...]
    patterns: tuple[str, ...]
    page: str
    sensor: tuple[int, int]
    classes: tuple[str, ...] | None
    label: Callable[[Path], str]
    read: Reader
    share: float = TEST_SHARE
    fetch: str | None = None
    mirrors: bool = True


def open_published(config: DataConfig, published: PublishedSet) -> Splits:
    """The training and test recordings of a set.

    If no split was published, ``data.test_share`` of each class is held out for testing, by default the share that is
    usual for the set.

    Raises:
        UserError: it is not there, or could not be fetched.
        DataFault: a recording in a folder that is not a class of the set.
    """
    wanted = " and ".join("/".join((*published.folders, pattern)) for pattern in published.patterns)
    advice = f"get it from {published.page}"
    root = given_root(config, f"{wanted}; {advice}")
    place = _find(root, published)
    if place is None and config.download:
        _fetch(root, published)
        place = _find(root, published)
    if place is None:
        raise not_found(config.model_copy(update={"download": False}), wanted, published.page)
    faults = Faults(config)
    files = [_files(place, pattern, faults) for pattern in published.patterns]
    classes = published.classes or tuple(sorted({published.label(path) for part in files for path in part}))
    number = {name: i for i, name in enumerate(classes)}
    parts: list[list[Item]] = [[], []]
    for part, paths in zip(parts, files, strict=False):
        for path in paths:
            name = published.label(path)
            if name not in number:
                raise DataFault(path, str(unknown(f"class of {config.name}", name, classes)))
            part.append((path, number[name]))
    if len(files) == 1:
        parts = _divided(parts[0], place, published, config)

    read = partial(published.read, sensor=published.sensor)
    train, test = (FileEvents(faults.readable(part, lambda item: read(item[0])), read) for part in parts)
    files_of = {name: [path for path, _ in samples.items] for name, samples in (("training", train), ("test", test))}
    fingerprint = fingerprint_files(place, files_of, config)
    splits = Splits(train, test, classes, fingerprint, test_held_out=len(files) == 1, skipped=tuple(faults.found))
    return require_samples(splits, config)


def _files(place: Path, pattern: str, faults: Faults) -> list[Path]:
    """The recordings that match a pattern, in order. A matching folder without recordings is a fault."""
    files = sorted(place.glob(pattern))
    if "**" not in pattern:
        filled = {path.parent for path in files}
        for folder in sorted(place.glob(pattern.rpartition("/")[0])):
            if folder.is_dir() and folder not in filled and not folder.name.startswith("."):
                faults.note(DataFault(folder, f"this folder holds no recordings ({pattern.rpartition('/')[2]})"))
    return files


def _find(root: Path, published: PublishedSet) -> Path | None:
    """The folder below which every pattern matches something; None if there is none."""
    for skip in range(len(published.folders) + 1):
        place = root.joinpath(*published.folders[skip:])
        if all(next(place.glob(pattern), None) for pattern in published.patterns):
            return place
    return None


def _divided(items: list[Item], place: Path, published: PublishedSet, config: DataConfig) -> list[list[Item]]:
    names = [path.relative_to(place).as_posix() for path, _ in items]
    is_test = chosen_for_test(config, names, [label for _, label in items], default=published.share)
    return [[item for item, chosen in zip(items, is_test, strict=True) if chosen == part] for part in (False, True)]


def _fetch(root: Path, published: PublishedSet) -> None:
    """Downloads the set through tonic. Raises UserError if that is not possible or fails."""
    if published.fetch is None:
        raise UserError(
            f"dataset {published.name!r} cannot be fetched by data.download; get it by hand from {published.page}"
        )
    try:
        import tonic.datasets
    except ImportError:
        raise UserError(f"data.download of dataset {published.name!r} needs the package tonic: {EXTRA}") from None
    make = getattr(tonic.datasets, published.fetch)
    try:
        for split in ({"train": True}, {"train": False}) if len(published.patterns) > 1 else ({},):
            make(save_to=str(root), **split)
    except Exception as error:  # tonic and the libraries that it downloads with raise many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"dataset {published.name!r}: the download failed ({reason}); get it from {published.page}"
        ) from error
    inner = root / published.fetch / "Caltech101.zip"  # tonic does not unpack it
    if inner.is_file():
        import shutil

        shutil.unpack_archive(inner, inner.parent)


def _folder_name(path: Path) -> str:
    return path.parent.name


def _read_gesture(path: Path, sensor: tuple[int, int]) -> Recording:
    """Tonic's cut of the recordings: [N, 4] of x, y, p and milliseconds."""
    array = read_numpy(path)
    if not isinstance(array, np.ndarray) or array.dtype.names or array.ndim != 2 or array.shape[1] != 4:
        raise DataFault(path, "must hold an array [N, 4] of x, y, p and milliseconds")
    x, y, p, ms = array.T
    return checked(Events(x, y, np.rint(ms.astype(np.float64) * 1000), p), sensor, path)


def _read_asl(path: Path, sensor: tuple[int, int]) -> Recording:
    """MATLAB arrays x, y, ts and pol, [N, 1] each, y counted from the bottom."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        arrays = loadmat(path)
    except (*DAMAGES, TypeError, MatReadError) as error:
        raise DataFault(path, f"damaged or cut off: {error or type(error).__name__}") from error
    if missing := [name for name in ("x", "y", "ts", "pol") if name not in arrays]:
        raise DataFault(path, f"has no field {missing[0]!r}; recordings of ASL-DVS have x, y, ts, pol")
    x, y, t, p = (arrays[name].reshape(-1) for name in ("x", "y", "ts", "pol"))
    return checked(Events(x, sensor[0] - 1 - y.astype(np.float64), t, p), sensor, path)


GESTURES = (
    "hand clapping",
    "right hand wave",
    "left hand wave",
    "right arm clockwise",
    "right arm counter-clockwise",
    "left arm clockwise",
    "left arm counter-clockwise",
    "arm roll",
    "air drums",
    "air guitar",
    "other",
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _gesture_name(path: Path) -> str:
    """The name of a file is its class index."""
    return GESTURES[int(path.stem)] if path.stem.isdigit() and int(path.stem) < len(GESTURES) else path.name


def _asl_name(path: Path) -> str:
    """The name of a class folder ends in its letter."""
    return path.parent.name[-1].lower()


PUBLISHED = (
    PublishedSet(
        name="nmnist",
        folders=("NMNIST",),
        patterns=("Train/*/*.bin", "Test/*/*.bin"),
        page="https://www.garrickorchard.com/datasets/n-mnist",
        sensor=(34, 34),
        classes=tuple("0123456789"),
        label=_folder_name,
        read=read_recording,
        fetch="NMNIST",
        mirrors=False,
    ),
    PublishedSet(
        name="cifar10dvs",
        folders=("CIFAR10DVS",),
        patterns=("*/*.aedat4",),
        page="https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671",
        sensor=(128, 128),
        classes=CIFAR10,
        label=_folder_name,
        read=read_recording,
        share=0.1,
        fetch="CIFAR10DVS",
    ),
    PublishedSet(
        name="dvs_gesture",
        folders=("DVSGesture",),
        patterns=("ibmGestureTrain/*/*.npy", "ibmGestureTest/*/*.npy"),
        page="https://research.ibm.com/interactive/dvsgesture/",
        sensor=(128, 128),
        classes=GESTURES,
        label=_gesture_name,
        read=_read_gesture,
        fetch="DVSGesture",
        mirrors=False,  # left hand, right hand
    ),
    PublishedSet(
        name="ncaltech101",
        folders=("NCALTECH101", "Caltech101"),
        patterns=("*/*.bin",),
        page="https://www.garrickorchard.com/datasets/n-caltech101",
        sensor=(180, 240),
        classes=None,
        label=_folder_name,
        read=read_recording,
        fetch="NCALTECH101",
    ),
    PublishedSet(
        name="ncars",
        folders=("NCARS", "Prophesee_Dataset_n_cars"),
        patterns=("n-cars_train/**/*.dat", "n-cars_test/**/*.dat"),
        page="https://www.prophesee.ai/dataset-n-cars-download/",
        sensor=(100, 120),
        classes=("background", "cars"),
        label=_folder_name,
        read=read_recording,
    ),
    PublishedSet(
        name="asl_dvs",
        folders=("ASLDVS",),
        patterns=("**/*.mat",),
        page="https://github.com/PIX2NVS/NVS2Graph",
        sensor=(180, 240),
        classes=tuple("abcdefghiklmnopqrstuvwxy"),  # j and z are motions
        label=_asl_name,
        read=_read_asl,
        fetch="ASLDVS",
    ),
    PublishedSet(
        name="dvs_lip",
        folders=("DVSLip", "DVS-Lip"),
        patterns=("train/*/*.npy", "test/*/*.npy"),
        page="https://sites.google.com/view/event-based-lipreading",
        sensor=(128, 128),
        classes=None,
        label=_folder_name,
        read=read_recording,
    ),
)

for _set in PUBLISHED:
    _count = {"ncaltech101": 101, "dvs_lip": 100}.get(_set.name) or len(_set.classes or ())
    _open = partial(open_published, published=_set)
    register_dataset(DatasetSpec(_set.name, 2, _set.sensor, (), (), _count, _open, _set.mirrors, modality="event"))
