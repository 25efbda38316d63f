"""``tonic/<class>``: the other data sets of the package tonic whose samples are recordings with a class."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

import numpy as np

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import given_root
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.splits import chosen_for_test
from step_ahsar.data.events.formats import EXTRA, Events, checked
from step_ahsar.data.events.published import PUBLISHED
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.stored import require_samples
from step_ahsar.errors import UserError, first_line, unknown

# Why tonic's other classes are no sets of recordings with a class, and names under which some of them are sets here.
_NO_CLASSES = ("DAVISDATA", "DSEC", "EBSSA", "MVSEC", "NERDD", "ThreeET_Eyetracking", "TUMVIE", "VPR")
_NO_ROWS = ("NTIDIGITS18", "SHD", "SMNIST", "SSC")
_HERE = {each.folders[0]: each.name for each in PUBLISHED} | {"SHD": "shd", "SSC": "ssc"}


class TonicEvents:
    """Samples of one of tonic's data sets as recordings with a class index.

    Args:
        dataset: with structured events x, y, t (microseconds) and p, and targets that are class indices or names.
        sensor: (H, W) in pixels.
        classes: names by class index; empty if targets are indices.
        where: its name in messages.
        indices: the chosen samples.
        labels: their classes.
    """

    def __init__(
        self,
        dataset: Any,
        sensor: tuple[int, int],
        classes: tuple[str, ...],
        where: str,
        indices: Sequence[int] = (),
        labels: Sequence[int] = (),
    ) -> None:
        self.dataset, self.sensor, self.classes, self.where = dataset, sensor, classes, where
        self.indices, self.labels = list(indices), list(labels)

    def chosen(self, items: Sequence[tuple[int, int]]) -> "TonicEvents":
        """Some samples, each given by its index in the data set and its class."""
        indices, labels = [index for index, _ in items], [label for _, label in items]
        return TonicEvents(self.dataset, self.sensor, self.classes, self.where, indices, labels)

    def __getitem__(self, index: int) -> tuple[Recording, int]:
        """Raises DataFault for a sample that cannot be used."""
        return self.read(self.indices[index])

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> tuple[Recording, int]:
        """The recording with this index in the data set, and its class. Raises DataFault if they cannot be used."""
        where = f"{self.where}[{index}]"
        try:
            events, target = self.dataset[index]
        except Exception as error:  # tonic and the libraries that it reads with raise many kinds
            raise DataFault(where, f"tonic cannot read it: {first_line(error)}") from error
        names = getattr(getattr(events, "dtype", None), "names", None) or ()
        if not set("xytp") <= set(names):
            raise DataFault(where, f"must be events with the fields x, y, t, p, got {', '.join(names) or type(events)}")
        label = self.classes.index(target) if isinstance(target, str) and target in self.classes else target
        if not isinstance(label, int | np.integer):
            raise DataFault(where, f"its target must be a class, got {target!r}")
        if label < 0 or (self.classes and label >= len(self.classes)):
            raise DataFault(where, f"label {label} is out of range: tonic names {len(self.classes)} classes")
        return checked(Events(*(events[name] for name in "xytp")), self.sensor, where), int(label)


def tonic_class(name: str) -> Any:
    """The class of ``tonic/<class>``. Raises UserError if there is none, or if its samples are something else."""
    title = name.partition("/")[2]
    if title in _HERE:
        raise UserError(f"dataset {name!r} is known by another name: set data.name to {_HERE[title]}")
    if title in _NO_CLASSES or title in _NO_ROWS:
        reason = "samples have no class" if title in _NO_CLASSES else "events have no rows (y)"
        raise UserError(f"dataset {name!r} cannot be used: its {reason}")
    try:
        import tonic.datasets
    except ImportError:
        raise UserError(f"dataset {name!r} needs the package tonic: {EXTRA}") from None
    known = {key: each for key, each in vars(tonic.datasets).items() if inspect.isclass(each)}
    fitting = [key for key in known if key not in (*_HERE, *_NO_CLASSES, *_NO_ROWS)]
    if title not in fitting:
        raise unknown("class of tonic.datasets:", title, fitting)
    return known[title]


def open_tonic(config: DataConfig) -> Splits:
    """The training and test recordings of one of tonic's data sets, kept below ``data.root`` as tonic keeps them.

    A class with an argument ``train`` has both parts; else ``data.test_share`` of each class is held out for testing.
    Its attribute ``sensor_size`` (W, H, polarities) is the sensor, ``classes`` names the classes. All recordings are
    read once when the set is opened. Their order is that of their content, because tonic's is that of the folder.

    Raises:
        UserError: tonic is not installed, the set is not there, or could not be fetched.
        DataFault: a recording that cannot be used.
    """
    make = tonic_class(config.name)
    root = given_root(config, "the folder that is tonic's save_to")
    size = getattr(make, "sensor_size", None)
    if not size:
        raise UserError(f"dataset {config.name!r} cannot be used: tonic does not say how large its sensor is")
    sensor, named = (int(size[1]), int(size[0])), _names(getattr(make, "classes", None))
    divided = "train" not in inspect.signature(make).parameters
    faults, content = Faults(config), sha256()
    parts: list[TonicEvents] = []
    options: dict[str, dict[str, bool]] = {"train": {"train": True}, "test": {"train": False}}
    for part, option in ({"all": {}} if divided else options).items():
        with _offline(make, config):
            try:
                dataset = make(save_to=str(root), **option)
            except Exception as error:  # tonic and the libraries that it reads with raise many kinds
                raise UserError(
                    f"dataset {config.name!r}: tonic cannot open it in {root} (data.root): {first_line(error)}"
                ) from error
        every = TonicEvents(dataset, sensor, named, f"{config.name} {part}")
        found = [
            (label, fingerprint_arrays((events.x, events.y, events.t, events.p)), index)
            for index, (events, label) in faults.tried(range(len(dataset)), every.read)
        ]
        found.sort()
        content.update(repr([(label, digest) for label, digest, _ in found]).encode())
        items = [(index, label) for label, _, index in found]
        if divided:
            is_test = chosen_for_test(config, [digest for _, digest, _ in found], [label for _, label in items])
            content.update(is_test.tobytes())
            parts = [every.chosen([each for each, c in zip(items, is_test, strict=True) if c == p]) for p in (0, 1)]
        else:
            parts.append(every.chosen(items))
    train, test = parts
    classes = named or tuple(map(str, range(1 + max([*train.labels, *test.labels], default=-1))))
    splits = Splits(
        train,
        test,
        classes,
        f"sha256:{content.hexdigest()}",
        test_held_out=divided,
        skipped=tuple(faults.found),
        in_chans=2,
        size=sensor,
    )
    return require_samples(splits, config)


@contextmanager
def _offline(make: Any, config: DataConfig) -> Iterator[None]:
    """Keeps a class of tonic's from downloading what it does not find, for the block, unless the config allows it."""

    def refuse(self: Any) -> None:
        raise FileNotFoundError("it is not there; set data.download=true to fetch it")

    own = vars(make).get("download")
    if not config.download:
        make.download = refuse
    try:
        yield
    finally:
        if not config.download:
            if own is None:
                del make.download
            else:
                make.download = own


def _names(classes: Any) -> tuple[str, ...]:
    """Names of classes, which tonic has as a list, or as a dict with the indices."""
    if isinstance(classes, dict):
        return tuple(map(str, sorted(classes, key=classes.__getitem__)))
    return tuple(map(str, classes or ()))


register_dataset(
    DatasetSpec("tonic", 2, None, (), (), None, open_tonic, modality="event", titles=None, needs_title=True)
)
