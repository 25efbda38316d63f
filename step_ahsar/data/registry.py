"""Which data sets there are: what is known of each before it is opened, and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from step_ahsar.config import DataConfig
from step_ahsar.errors import UserError, unknown

Size = int | tuple[int, int]  # pixels: a square's side, or (H, W); of a series its length


class Samples(Protocol):
    """A random-access set of (input, target) pairs.

    The input is a PIL image, a :class:`step_ahsar.data.events.Recording`, a series (float32 array [C, L]) or a moving
    picture (uint8 array [T, H, W] or [T, H, W, 3]). The target is a class index, or a
    :class:`step_ahsar.data.scenes.Scene` of what is to be segmented or detected.
    """

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Splits:
    """An opened data set.

    Args:
        train: samples to learn from.
        test: samples to measure on.
        classes: names, by class index; of objects, where the targets are scenes.
        fingerprint: identifies the data's content, see :mod:`step_ahsar.data.fingerprint`.
        skipped: files that could not be used and were left out (``on_error: skip``), each as "file: fault".
        in_chans: channels, where only the data tell.
        size: pixels or length, where only the data tell.
        pixel_classes: names of the classes of pixels, where the targets are scenes whose pixels have classes.
        mean: per channel, of training values in [0, 1], where only the data tell; empty where nobody knows.
        std: per channel.
        stamp: tells apart versions of the files that have one fingerprint, where that is of names and sizes; on this
            machine only, for caches.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    fingerprint: str
    skipped: tuple[str, ...] = ()
    in_chans: int | None = None
    size: Size | None = None
    pixel_classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    stamp: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set without opening it.

    Args:
        name: the name in configs.
        in_chans: channels of an image or series, 2 (polarities) of events; None where only the data tell.
        size: pixels of an image or of the sensor, or length of a series, unless the config says otherwise; None where
            only the data tell.
        mean: per channel, of values in [0, 1]; empty where values are not to be normalised.
        std: per channel.
        num_classes: None where only the data themselves tell.
        open: reads it, and raises UserError saying what was looked for if it is not there.
        mirrors: whether an image's mirror image is of the same class.
        modality: what kind of data it is.
        ndim: 2 for images, events and moving pictures, 1 for series.
        tasks: what its targets are good for.
    """

    name: str
    in_chans: int | None
    size: Size | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int | None
    open: Callable[[DataConfig], Splits]
    mirrors: bool = True
    modality: Literal["static", "event", "sequence"] = "static"
    ndim: int = 2
    tasks: tuple[str, ...] = ("classification",)


_datasets: dict[str, DatasetSpec] = {}


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Adds a data set. Raises UserError if the name is taken."""
    if spec.name in _datasets:
        raise UserError(f"dataset {spec.name!r} is already registered")
    _datasets[spec.name] = spec
    return spec


def list_datasets() -> list[str]:
    """Names that ``data.name`` takes. ``folder`` may carry a title of its own: ``folder/flowers``."""
    return sorted(_datasets)


def find_dataset(name: str) -> DatasetSpec:
    """The data set of that name; a title behind a slash is the user's own. Raises UserError if there is none."""
    spec = _datasets.get(name) or _datasets.get(name.partition("/")[0])
    if spec is None:
        raise unknown("dataset", name, list_datasets())
    return spec
