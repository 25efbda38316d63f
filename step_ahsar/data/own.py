"""``own``: data sets of the user's own, which are handed over from Python as map-style Datasets of torch."""

import operator
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.common.seeding import seeded
from step_ahsar.data.common.splits import labels_of
from step_ahsar.errors import UserError, unknown
from step_ahsar.progress import followed

Datasets = Mapping[str, Any]  # map-style Datasets: "train", "test", perhaps "validation"

_PARTS = ("train", "validation", "test")
_COMPARED = 256  # most test samples that are read when the set is opened


class OwnSamples:
    """One of the data sets that were handed over, with its samples checked when they are read.

    Args:
        dataset: map-style, of pairs of an input and a class index.
        where: its name in messages.
        shape: of every input; None = any.
        classes: number of classes; None = any.
    """

    def __init__(
        self, dataset: Any, where: str, shape: tuple[int, ...] | None = None, classes: int | None = None
    ) -> None:
        self.dataset, self.where, self.shape, self.classes = dataset, where, shape, classes

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class indices, int64 [N]: those that the data set tells, or else all samples are read once for them."""
        labels = _told_labels(self.dataset)
        if labels is None:
            every = followed(f"reading the labels of {self.where}", range(len(self)))
            with seeded("own", "labels"):  # which leaves the generators as they were
                labels = np.array([self._read(i)[1] for i in every], dtype=np.int64)
        for i in np.flatnonzero((labels < 0) | (labels >= (self.classes or np.inf)))[:1].tolist():
            self._check_label(i, labels[i])
        return labels

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Input, float32 [C, H, W], [T, C, H, W] or [C, L], and class index. Raises DataFault if not so."""
        x, label = self._read(index)
        where = f"{self.where}[{index}]"
        x = _as_tensor(x, where)
        if self.shape is not None and tuple(x.shape) != self.shape:
            raise DataFault(
                where,
                f"has shape {list(x.shape)}, the first training sample {list(self.shape)}; all must have the same",
            )
        self._check_label(index, label)
        return x, label

    def __len__(self) -> int:
        return len(self.dataset)

    def _read(self, index: int) -> tuple[Any, int]:
        sample, where = self.dataset[index], f"{self.where}[{index}]"
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise DataFault(where, f"must be a pair (input, class index), got {_kind(sample)}")
        try:
            return sample[0], operator.index(sample[1])
        except TypeError:
            raise DataFault(where, f"its target must be a class index, an integer, got {_kind(sample[1])}") from None

    def _check_label(self, index: int, label: int) -> None:
        if label < 0 or (self.classes is not None and label >= self.classes):
            known = "classes count from 0" if self.classes is None else f"there are classes 0 to {self.classes - 1}"
            raise DataFault(f"{self.where}[{index}]", f"label {label} is out of range: {known}")


def open_own(config: DataConfig, spec: DatasetSpec, datasets: Datasets) -> tuple[DatasetSpec, Splits]:
    """Takes the data sets of a user's own.

    Args:
        config: the section `data` of a config.
        spec: what is known of the set that the config names.
        datasets: "train", "test" and perhaps "validation": map-style Datasets of pairs of an input and a class index.
            Inputs are float tensors or arrays [C, H, W], frames [T, C, H, W], or series [C, L], of one shape, as they
            enter the model. Random transforms may draw from the generators of Python, NumPy and torch, which are seeded
            before each sample. The classes are those of the attribute ``classes`` of "train", or else the numbers up to
            its largest label; labels are in its attribute ``targets`` or ``labels``, or else all samples are read once.

    Returns:
        What is known of it now, and its samples. The fingerprint is that of classes, numbers of samples, and of the
        content of up to 256 test samples.

    Raises:
        UserError: the config names another set, a part is missing or empty, or test samples that are random.
        DataFault: a sample that is not as above.
    """
    if spec.modality != "own":
        raise UserError(
            f"datasets are handed over, but data.name is {config.name!r}; set it to own, or to own/<a name for it>"
        )
    for part in datasets:
        if part not in _PARTS:
            raise unknown("part of datasets:", part, _PARTS)
    for part in ("train", "test"):
        if part not in datasets:
            raise UserError(f"datasets must have the parts 'train' and 'test', got {', '.join(datasets) or 'none'}")
    for part, dataset in datasets.items():
        if isinstance(dataset, IterableDataset) or not (
            hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        ):
            raise UserError(
                f"datasets[{part!r}] must be a map-style Dataset, with __len__ and __getitem__, got {_kind(dataset)}"
            )
        if not len(dataset):
            raise UserError(f"datasets[{part!r}] is empty")
    train = OwnSamples(datasets["train"], "train")
    with seeded("own", "shape"):
        shape = tuple(train[0][0].shape)
    names = _told(datasets["train"], "classes")
    if isinstance(names, str | Mapping):
        raise UserError(f"the attribute classes of datasets['train'] must be a list of names, got {_kind(names)}")
    classes = tuple(map(str, names if isinstance(names, Iterable) else range(1 + train.labels.max())))
    if len(classes) < 2:
        raise UserError(f"datasets['train'] has one class, {classes[0]!r}; there must be two at least")
    train.shape, train.classes = shape, len(classes)
    others = {part: OwnSamples(each, part, shape, len(classes)) for part, each in datasets.items() if part != "train"}
    parts = {"train": train} | others
    *time, channels, _, _ = shape if len(shape) > 2 else (*shape, 1)
    told = replace(
        spec,
        in_chans=channels,
        size=shape[1] if len(shape) == 2 else (shape[-2], shape[-1]),
        num_classes=len(classes),
        ndim=1 if len(shape) == 2 else 2,
        time_steps=time[0] if time else None,
    )
    lengths = [len(parts[part]) if part in parts else 0 for part in _PARTS]
    content = [np.frombuffer("\0".join(classes).encode(), np.uint8), lengths, *_content(parts["test"])]
    return told, Splits(
        parts["train"], parts["test"], classes, fingerprint_arrays(content), validation=parts.get("validation")
    )


def _content(test: OwnSamples) -> list[Any]:
    """Inputs and classes of the test samples, of evenly spaced ones if there are many. Each is read twice."""
    content: list[Any] = []
    for index in np.linspace(0, len(test) - 1, min(len(test), _COMPARED)).round().astype(int).tolist():
        read = []
        for state in (0, 1):
            with seeded("own", state):
                x, label = test[index]
                read.append((x.numpy(), label))
        (first, label), (second, again) = read
        if first.tobytes() != second.tobytes() or label != again:
            raise DataFault(
                f"{test.where}[{index}]", "differs when it is read twice; test samples must have no random transform"
            )
        content += [first, [label]]
    return content


def _as_tensor(x: Any, where: str) -> Tensor:
    if isinstance(x, Image.Image) or (isinstance(x, Tensor | np.ndarray) and str(x.dtype).endswith("uint8")):
        raise DataFault(where, f"is {_kind(x)}, no float tensor; add ToTensor to the transforms of the data set")
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        x = torch.from_numpy(np.array(x, dtype=np.float32))
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise DataFault(where, f"its input must be a float tensor or array, got {_kind(x)}")
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataFault(where, f"has shape {list(x.shape)}, which is none of [C, H, W], [T, C, H, W] and [C, L]")
    return x.detach().as_subclass(Tensor).to("cpu", torch.float32)


def _told_labels(dataset: Any) -> NDArray[np.int64] | None:
    """Class indices that a data set tells without being read, int64 [N]; None if it does not."""
    if isinstance(dataset, Subset):
        labels = _told_labels(dataset.dataset)
        return None if labels is None else labels[np.asarray(dataset.indices, dtype=int)]
    if getattr(dataset, "target_transform", None) is not None:  # what it tells are targets before that
        return None
    try:
        labels = labels_of(dataset)
    except (TypeError, ValueError):  # texts, for example
        return None
    return labels if labels is not None and len(labels) == len(dataset) else None


def _told(dataset: Any, name: str) -> Any:
    """An attribute of a data set, or of the one that it is a part of; None if there is none."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return getattr(dataset, name, None)


def _kind(value: Any) -> str:
    """What a value is, for messages."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{type(value).__name__} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _refuse(config: DataConfig) -> Splits:
    raise UserError(
        f"dataset {config.name!r} is handed over from Python: engine.train(config, out, datasets=...), and likewise to "
        "evaluate, look and export"
    )


register_dataset(DatasetSpec("own", None, None, (), (), None, _refuse, modality="own", titles=None))
