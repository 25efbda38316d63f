"""The registry of data sets: what is known about each before it is opened, and how to open it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from step_ahsar.config import DataConfig
from step_ahsar.errors import UserError, unknown
from step_ahsar.registry import Registry

Size = int | tuple[int, int]  # pixels: a square's side, or (H, W); of a series its length


class Samples(Protocol):
    """A set of (input, target) pairs with random access.

    The input is a PIL image, a :class:`step_ahsar.data.events.recording.Recording`, a series (float32 array [C, L]) or
    a moving picture (uint8 array [T, H, W] or [T, H, W, 3]). The target is a class index, or for segmentation and
    detection a :class:`step_ahsar.data.scenes.scene.Scene`.

    It may have an attribute ``labels``, the class index of each sample, by which a validation part is stratified.
    """

    def __getitem__(self, index: int) -> tuple[Any, Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Splits:
    """An opened data set.

    Args:
        train: training samples.
        test: test samples.
        classes: names by class index; for scenes the classes of objects.
        fingerprint: identifies the content, see :mod:`step_ahsar.data.common.fingerprint`.
        validation: the data set's own validation samples, if it has a validation part.
        test_held_out: whether the data set has no test part, so that the test samples were held out of all.
        skipped: files that were left out because they could not be used (``on_error: skip``), each as "file: fault".
        in_chans: channels, if they are known only now.
        size: pixels or length, if they are known only now.
        pixel_classes: names of the classes of pixels, for scenes with a class for each pixel.
        mean: mean of each channel, of training values in [0, 1], if it is known only now; empty if it is not known.
        std: standard deviation of each channel, likewise.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    fingerprint: str
    validation: Samples | None = None
    test_held_out: bool = False
    skipped: tuple[str, ...] = ()
    in_chans: int | None = None
    size: Size | None = None
    pixel_classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class DatasetSpec:
    """What is known about a data set without opening it.

    Args:
        name: the name in configs.
        in_chans: channels of an image or series, 2 (polarities) for events; None = known when it is opened.
        size: default pixels of an image, pixels of the sensor, or length of a series; None = known when it is opened.
        mean: mean of each channel, of values in [0, 1]; empty if values are not normalised.
        std: standard deviation of each channel.
        num_classes: number of classes; None = known when it is opened.
        open: opens it. Raises UserError, which says what was looked for, if it is not there.
        mirrors: whether an image and its mirror image have the same class.
        modality: kind of data; ``own`` is whatever was handed over from Python.
        ndim: 2 for images, events and moving pictures, 1 for series.
        time_steps: T of samples that were handed over with a time axis, which cannot be chosen; None for others.
        tasks: tasks for which it has targets.
        titles: names that may follow the name and a slash; None = any name, as for formats ("images/flowers").
        needs_title: whether such a name has to follow.
        has_columns: whether it is a table whose columns ``data.columns`` may name.
    """

    name: str
    in_chans: int | None
    size: Size | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int | None
    open: Callable[[DataConfig], Splits]
    mirrors: bool = True
    modality: Literal["static", "event", "sequence", "own"] = "static"
    ndim: int = 2
    time_steps: int | None = None
    tasks: tuple[str, ...] = ("classification",)
    titles: Collection[str] | None = ()
    needs_title: bool = False
    has_columns: bool = False

    @property
    def is_normalised(self) -> bool:
        """Whether the values of each channel are normalised by mean and standard deviation, as those of images are."""
        return self.modality == "static" or bool(self.mean)


# A set of RGB photographs of any source: values are normalised by ImageNet's statistics.
photographs = partial(DatasetSpec, in_chans=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


DATASETS = Registry[DatasetSpec]("dataset")


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Adds a data set. Raises UserError if the name is taken."""
    return DATASETS.add(spec.name, spec)


def list_datasets() -> list[str]:
    """Names of the data sets. A name of your own may follow that of a format: ``folder/flowers``."""
    return list(DATASETS)


def find_dataset(name: str) -> DatasetSpec:
    """The data set with this name, which may be followed by a slash and a title. Raises UserError if there is none."""
    if name in DATASETS:
        spec = DATASETS[name]
        if spec.needs_title:
            raise UserError(f"dataset {name!r} needs the name of a data set behind it: {name}/<name>")
        return spec
    base, slash, title = name.partition("/")
    if not slash or base not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    spec = DATASETS[base]
    if spec.titles is None:
        if not title:
            raise UserError(f"dataset {name!r} ends in a slash; give {base}/<name>")
        return spec
    if title in spec.titles:
        return spec
    if not spec.titles:
        raise UserError(f"dataset {base!r} takes no title, got {name!r}; did you mean {base!r}?")
    raise unknown("dataset", name, [f"{base}/{each}" for each in spec.titles])
