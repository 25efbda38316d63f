"""Published sets of event recordings, as tonic names and lays them out on disk.

Nothing is fetched unless ``data.download`` is true. tonic itself is needed for that alone: the files are read here,
because tonic wants the archive beside what was unpacked from it, and because its labels and shapes differ from set to
set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from step_ahsar.config import DataConfig
from step_ahsar.data.events.formats import DAMAGES, EXTRA, Events, checked, load_numpy, read_recording
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.stored import Faults, FileEvents, Item, require_samples, seeded_split
from step_ahsar.data.faults import DataFault, screen
from step_ahsar.data.fingerprint import fingerprint_files, stamp_files
from step_ahsar.data.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.root import given_root
from step_ahsar.errors import UserError, unknown

Reader = Callable[..., Recording]  # of a path and the sensor


@dataclass(frozen=True)
class PublishedSet:
    """Where the recordings of a set are, and how they are read.

    Args:
        name: the name in configs.
        folders: tonic's folders below its root; any number of the first ones may be left out.
        patterns: of the training and test recordings, or one of all, below these folders.
        page: where to get it.
        sensor: (H, W) in pixels.
        classes: names, by class index; None = the class folders'.
        label: class name of a recording.
        read: the recording in a file.
        share: of each class for testing, where no split was published.
        fetch: tonic's class that downloads it; None = there is none that can.
        mirrors: whether a recording's mirror image is of the same class.
    """

    name: str
    folders: tuple[str, ...]
    patterns: tuple[str, ...]
    page: str
    sensor: tuple[int, int]
    classes: tuple[str, ...] | None
    label: Callable[[Path], str]
    read: Reader
    share: float = 0.0
    fetch: str | None = None
    mirrors: bool = True


def open_published(config: DataConfig, published: PublishedSet) -> Splits:
    """The training and test recordings of a set.

    Where no split was published, its share of each class, chosen by :func:`seeded_split`, is for testing.

    Raises:
        UserError: it is not there, or could not be fetched.
        DataFault: a recording in a folder that is no class of the set.
    """
    wanted = " and ".join("/".join((*published.folders, pattern)) for pattern in published.patterns)
    advice = f"get it from {published.page}"
    root = given_root(config, f"{wanted}; {advice}")
    place = _find(root, published)
    if place is None and config.download:
        _fetch(root, published)
        place = _find(root, published)
    if place is None:
        raise UserError(f"dataset {config.name!r}: looked for {wanted} in {root} (data.root), not found; {advice}")
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
        parts = _divided(parts[0], place, published.share)

    read = partial(published.read, sensor=published.sensor)
    samples: list[FileEvents] = []
    for part in parts:
        kept, found = screen(part, lambda item: read(item[0]), config)
        samples.append(FileEvents(kept, read))
        faults.found += found
    train, test = samples
    kept_files = [path for path, _ in train.items + test.items]
    fingerprint, stamp = fingerprint_files(place, kept_files), stamp_files(kept_files)
    return require_samples(Splits(train, test, classes, fingerprint, tuple(faults.found), stamp=stamp), config)


def _files(place: Path, pattern: str, faults: Faults) -> list[Path]:
    """The recordings that a pattern matches, in order; a folder that ought to hold some and has none is a fault."""
    files = sorted(place.glob(pattern))
    if "**" not in pattern:
        filled = {path.parent for path in files}
        for folder in sorted(place.glob(pattern.rpartition("/")[0])):
            if folder.is_dir() and folder not in filled and not folder.name.startswith("."):
                faults.note(DataFault(folder, f"this folder holds no recordings ({pattern.rpartition('/')[2]})"))
    return files


def _find(root: Path, published: PublishedSet) -> Path | None:
    """The folder below which all patterns match something."""
    for skip in range(len(published.folders) + 1):
        place = root.joinpath(*published.folders[skip:])
        if all(next(place.glob(pattern), None) for pattern in published.patterns):
            return place
    return None


def _divided(items: list[Item], place: Path, share: float) -> list[list[Item]]:
    names = [path.relative_to(place).as_posix() for path, _ in items]
    is_test = seeded_split(names, [label for _, label in items], share)
    return [[item for item, chosen in zip(items, is_test, strict=True) if chosen == part] for part in (False, True)]


def _fetch(root: Path, published: PublishedSet) -> None:
    """Downloads through tonic. Raises UserError where tonic cannot, or where that fails."""
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
    except Exception as error:  # tonic and what it downloads with raise a dozen kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"dataset {published.name!r}: the download failed ({reason}); get it from {published.page}"
        ) from error
    inner = root / published.fetch / "Caltech101.zip"  # tonic leaves it packed
    if inner.is_file():
        import shutil

        shutil.unpack_archive(inner, inner.parent)


def _folder_name(path: Path) -> str:
    return path.parent.name


def _read_gesture(path: Path, sensor: tuple[int, int]) -> Recording:
    """Tonic's cut of the recordings: [N, 4] of x, y, p and milliseconds."""
    array = load_numpy(path)
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
    """Files are named by their class index."""
    return GESTURES[int(path.stem)] if path.stem.isdigit() and int(path.stem) < len(GESTURES) else path.name


def _asl_name(path: Path) -> str:
    """The folder of a letter ends in it."""
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
        share=0.2,
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
        share=0.2,
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
