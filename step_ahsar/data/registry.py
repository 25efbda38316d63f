"""Which data sets there are: what is known of each before it is opened, and how it is opened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from step_ahsar.config import DataConfig
from step_ahsar.errors import UserError, unknown


class Samples(Protocol):
    """A random-access set of (PIL image, class index) pairs."""

    def __getitem__(self, index: int) -> tuple[Any, int]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Splits:
    """An opened data set.

    Args:
        train: samples to learn from.
        test: samples to measure on.
        classes: names, by class index.
        fingerprint: identifies the data's content, see :mod:`step_ahsar.data.fingerprint`.
    """

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set without opening it.

    Args:
        name: the name in configs.
        in_chans: channels of an image.
        img_size: height and width unless the config says otherwise.
        mean: per channel, of pixels in [0, 1].
        std: per channel.
        num_classes: None where only the data themselves tell.
        open: reads it, and raises UserError saying what was looked for if it is not there.
        mirrors: whether an image's mirror image is of the same class.
        modality: "static".
    """

    name: str
    in_chans: int
    img_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int | None
    open: Callable[[DataConfig], Splits]
    mirrors: bool = True
    modality: str = "static"


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
    """The data set of that name. Raises UserError if there is none."""
    spec = _datasets.get("folder" if name.startswith("folder/") else name)
    if spec is None:
        raise unknown("dataset", name, list_datasets())
    return spec
