"""Preparing samples: the steps from a sample as it was read to tensors, for each kind of data.

The steps are objects and not nested functions, so that they can be pickled for a loading process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from step_ahsar.config import ColumnsConfig, Config, DataConfig, EventsConfig, SequenceConfig
from step_ahsar.data.common.corruptions import SEVERITIES
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import DatasetSpec, Size
from step_ahsar.data.encoders import DIRECT, ENCODERS, encode
from step_ahsar.data.events import augment as event_augment
from step_ahsar.data.events import corruptions as event_corruptions
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.representations import check_events, to_frames
from step_ahsar.data.events.tonic_sets import tonic_class
from step_ahsar.data.events.transforms import check_transforms
from step_ahsar.data.images import corruptions as image_corruptions
from step_ahsar.data.images.transforms import build_transform, is_augmented, statistics
from step_ahsar.data.scenes.scene import Scene
from step_ahsar.data.sequences import corruptions as series_corruptions
from step_ahsar.data.sequences.layout import fit_length, lay_out, positions
from step_ahsar.errors import UserError, unknown

Corrupt = Callable[[Any, np.random.Generator], Any]
OfScene = Callable[[Any, Scene], tuple[Tensor, dict[str, Tensor]]]
Part = Literal["train", "validation", "test"]

_IMAGE_KEYS = (
    "test_size",
    "interpolation",
    "crop_pct",
    "scale",
    "ratio",
    "hflip",
    "color_jitter",
    "auto_augment",
    "re_prob",
    "re_mode",
)
# Keys about finding and preparing samples, which those that are handed over need not be.
_PREPARING = (
    *("root", "download", "on_error", "test_share", "img_size", *_IMAGE_KEYS, "mean", "std", "encoder", "corruption"),
    *("shuffle_time", "events", "sequence"),
)
_DEFAULTS = DataConfig()


class Steps(Protocol):
    """Converts (input, target) as they were read to (tensor, target)."""

    def __call__(self, raw: Any, target: Any, rng: Any) -> tuple[Tensor, Any]:
        """``rng`` is a NumPy generator; it may be None if nothing is drawn."""


@dataclass(frozen=True)
class Pipeline:
    """The preparation of a sample.

    Args:
        run: the steps.
        random: whether the steps draw from the given generator or from the global ones.
        has_time: whether tensors are [T, C, *S], with a time axis, or [C, *S].
    """

    run: Steps
    random: bool
    has_time: bool


def check_options(config: Config, spec: DatasetSpec) -> None:
    """Raises UserError for options that do not apply to this kind of data."""
    data = config.data
    what = f"dataset {data.name!r}"
    encoder = ENCODERS[data.encoder]
    if config.task not in spec.tasks:
        raise UserError(
            f"task {config.task!r} does not go with {what}, which has targets for {' and '.join(spec.tasks)}"
        )
    if config.train.eventmix and spec.modality != "event":
        raise UserError(f"train.eventmix does not apply to {what}, whose modality is {spec.modality}")
    if spec.modality == "own":
        for key in _PREPARING:
            if getattr(data, key) != getattr(_DEFAULTS, key):
                raise UserError(f"data.{key} does not apply to {what}, whose samples are taken as they are handed over")
        return
    if spec.modality == "event":
        if spec.name == "tonic":
            tonic_class(data.name)
        check_events(data.events)
        check_transforms(data.events, spec, config.task)
        if data.events.hflip and not spec.mirrors:
            raise UserError(f"data.events.hflip must be 0 for {what}: a mirrored recording has another meaning")
        if config.task != "classification" and data.events.model_copy(update=_STILL) != data.events:
            moving = ", ".join(f"data.events.{key}" for key in _STILL)
            raise UserError(
                f"{moving} must be 0 for {config.task}: they change events but not the targets; use data.hflip and "
                "data.scale, which change both"
            )
    elif data.events != EventsConfig():
        raise UserError(f"data.events does not apply to {what}, whose modality is {spec.modality}")
    if data.columns != ColumnsConfig() and not spec.has_columns:
        raise UserError(f"data.columns does not apply to {what}: it is for hfds, hfds_audio and hfds_series")
    if spec.ndim == 2 and data.sequence != SequenceConfig():
        raise UserError(f"data.sequence does not apply to {what}, which is no series")
    if spec.modality != "static" and config.task == "classification":
        for key in _IMAGE_KEYS:
            if getattr(data, key) != getattr(_DEFAULTS, key):
                raise UserError(f"data.{key} does not apply to {what}: it is for images; events have data.events")
    if not spec.is_normalised and (data.mean or data.std):
        raise UserError(f"data.mean and data.std do not apply to {what}, whose values are not normalised by them")
    encodes = encoder is not ENCODERS[DIRECT]
    if encodes and (spec.modality == "event" or not spec.is_normalised or data.sequence.axis == "time"):
        raise UserError(f"data.encoder {data.encoder!r} does not apply to {what}: it is for images and pixel sequences")
    if spec.ndim == 2 and spec.modality == "sequence" and encodes:
        raise UserError(f"data.encoder {data.encoder!r} does not apply to {what}, which has a time axis already")
    if spec.ndim == 1 and data.img_size is not None:
        raise UserError(f"data.img_size does not apply to {what}, which is a series: see data.sequence.length and .fit")
    if data.sequence.fit == "resample" and data.sequence.length is None:
        raise UserError("data.sequence.fit 'resample' needs data.sequence.length")
    if data.corruption is not None:
        find_corruption(data.corruption, spec)
    if data.shuffle_time and (config.task != "classification" or not (spec.modality == "event" or spec.ndim == 1)):
        raise UserError(f"data.shuffle_time does not apply to {what}: it is for recordings and series with a class")


# Augmentation of events that leaves boxes and masks as they are, each option at the value that turns it off.
_STILL = {"hflip": 0.0, "roll": 0, "rotate": 0.0, "cutout": 0.0}


def model_input(config: Config, spec: DatasetSpec) -> tuple[int | None, Size | None]:
    """Channels and size of a model's input; None if they are known only when the data set is opened."""
    if spec.ndim == 2:
        return spec.in_chans, config.data.img_size or spec.size
    if spec.in_chans is None or spec.size is None:
        return None, None
    assert isinstance(spec.size, int)
    sequence = config.data.sequence
    return positions(spec.in_chans, sequence.length or spec.size, sequence.axis, config.model.time_steps)


def normalisation(data: DataConfig, spec: DatasetSpec) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of each channel by which values are normalised; None if they are not."""
    return statistics(data, spec) if spec.is_normalised else None


def find_corruption(name: str, spec: DatasetSpec) -> Corrupt:
    """The corruption ``name:severity`` for this kind of data. Raises UserError if there is none."""
    kind = _corruptions_of(spec)
    if kind is None:
        raise UserError(f"corruption {name!r} does not apply to dataset {spec.name!r}: there are none for its samples")
    title, _, severity = name.partition(":")
    if title not in kind.CORRUPTIONS:
        raise unknown(f"corruption of {spec.modality} data", title, kind.CORRUPTIONS)
    if severity not in map(str, SEVERITIES):
        raise UserError(f"a corruption is name:severity with a severity from 1 to 5, got {name!r}")
    return partial(_corrupt, kind.corrupt, title, int(severity))


def list_corruptions(spec: DatasetSpec) -> tuple[str, ...]:
    """Names of the corruptions for this kind of data."""
    kind = _corruptions_of(spec)
    return () if kind is None else tuple(kind.CORRUPTIONS)


def _corruptions_of(spec: DatasetSpec) -> Any:
    """The module of corruptions for this kind of data; None if there is none."""
    if spec.modality == "sequence":
        return series_corruptions if spec.ndim == 1 else None
    return {"static": image_corruptions, "event": event_corruptions}.get(spec.modality)


def build_pipeline(config: Config, spec: DatasetSpec, part: Part) -> Pipeline:
    """The pipeline for a part of the data. ``spec`` must have channels and size.

    Training data are augmented and test data corrupted if the config says so; validation data are neither.

    Raises:
        UserError: options that are wrong for the data set.
    """
    data, training = config.data, part == "train"
    if spec.modality == "own":
        return _own_pipeline(config, spec)
    shuffle = data.shuffle_time is not None and (part == "test" or data.shuffle_time == "both")
    corrupt = find_corruption(data.corruption, spec) if part == "test" and data.corruption is not None else None
    if spec.modality == "event":
        return _event_pipeline(config, spec, training, corrupt, shuffle)
    if spec.ndim == 1:
        return _series_pipeline(config, spec, corrupt, shuffle)
    random = (training and is_augmented(data)) or corrupt is not None or ENCODERS[data.encoder].random
    encoding = Encoding(data.encoder, config.model.time_steps)
    if config.task != "classification":
        from step_ahsar.data.scenes.transforms import build_scene_transform  # slow to import

        transform = build_scene_transform(data, spec, config.model.time_steps, training)
        has_time = encoding.adds_time or spec.modality == "sequence"
        return Pipeline(SceneSteps(corrupt, transform, encoding, config.task), random, has_time)
    return Pipeline(ImageSteps(corrupt, build_transform(data, spec, training), encoding), random, encoding.adds_time)


def frames_of(config: Config, spec: DatasetSpec) -> "partial[np.ndarray]":
    """The function from a recording to frames [T, P, H, W].

    For segmentation and detection the frames have the size of the sensor, because the targets are in its pixels.
    """
    size = config.data.img_size or spec.size
    wanted = (size, size) if isinstance(size, int) else size
    return partial(
        to_frames,
        config=config.data.events,
        time_steps=config.model.time_steps,
        size=wanted if config.task == "classification" else None,
    )


def _own_pipeline(config: Config, spec: DatasetSpec) -> Pipeline:
    """Nothing is done. What the samples' own transforms draw is seeded, in all parts."""
    if spec.time_steps not in (None, config.model.time_steps):
        raise UserError(
            f"dataset {config.data.name!r} has samples of {spec.time_steps} time steps; model.time_steps must be "
            f"{spec.time_steps}, got {config.model.time_steps}"
        )
    return Pipeline(_as_they_are, random=True, has_time=spec.time_steps is not None)


def _as_they_are(raw: Tensor, target: Any, rng: Any) -> tuple[Tensor, Any]:
    return raw, target


def _event_pipeline(
    config: Config, spec: DatasetSpec, training: bool, corrupt: Corrupt | None, shuffle: bool
) -> Pipeline:
    settings = config.data.events
    augmented = training and event_augment.is_augmented(settings)
    augment = partial(event_augment.augment, config=settings) if augmented else None
    finish = None
    if config.task != "classification":
        from step_ahsar.data.scenes.transforms import build_scene_transform

        finish = build_scene_transform(config.data, spec, config.model.time_steps, training)
    moved = finish is not None and training and is_augmented(config.data)
    steps = EventSteps(augment, corrupt, frames_of(config, spec), shuffle, finish, config.task)
    return Pipeline(steps, augmented or corrupt is not None or moved or shuffle, has_time=True)


def _series_pipeline(config: Config, spec: DatasetSpec, corrupt: Corrupt | None, shuffle: bool) -> Pipeline:
    data, encoding = config.data, Encoding(config.data.encoder, config.model.time_steps)
    mean, std = statistics(data, spec) if spec.mean else ((0.0,), (1.0,))
    shift, scale = (torch.tensor(values).unsqueeze(1) for values in (mean, std))
    steps = SeriesSteps(corrupt, shift, scale, data.sequence, shuffle, config.model.time_steps, encoding)
    random = ENCODERS[data.encoder].random or corrupt is not None or shuffle
    return Pipeline(steps, random, encoding.adds_time or data.sequence.axis == "time")


@dataclass(frozen=True)
class Encoding:
    """Encodes [C, *S] as [T, C, *S]. The encoder "direct" adds no time axis: the model repeats its input by itself.

    Args:
        name: name of the encoder.
        time_steps: T.
    """

    name: str
    time_steps: int

    @property
    def adds_time(self) -> bool:
        """Whether the output has a time axis."""
        return self.name != DIRECT

    def __call__(self, x: Tensor, rng: Any) -> Tensor:
        """The encoded tensor."""
        if not self.adds_time:
            return x
        generator = None
        if ENCODERS[self.name].random:
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return encode(x.clamp(0, 1), self.name, self.time_steps, generator)


@dataclass(frozen=True)
class ImageSteps:
    """The steps for an image with a class."""

    corrupt: Corrupt | None
    transform: Callable[[Any], Tensor]
    encoding: Encoding

    def __call__(self, raw: Any, target: Any, rng: Any) -> tuple[Tensor, Any]:
        """From a PIL image to [C, H, W] or [T, C, H, W]."""
        image = raw if self.corrupt is None else self.corrupt(raw, rng)
        return self.encoding(self.transform(image), rng), target


@dataclass(frozen=True)
class SceneSteps:
    """The steps for a still or moving picture with a scene."""

    corrupt: Corrupt | None
    transform: OfScene
    encoding: Encoding
    task: str

    def __call__(self, raw: Any, target: Any, rng: Any) -> tuple[Tensor, Any]:
        """From a PIL image or a moving picture to [C, H, W] or [T, C, H, W]."""
        picture = raw if self.corrupt is None else self.corrupt(raw, rng)
        x, objects = self.transform(picture, target)
        return self.encoding(x, rng), _of_task(self.task, objects, target)


@dataclass(frozen=True)
class SeriesSteps:
    """The steps for a series with a class: corrupt, normalise, cut or resample, shuffle, lay out, encode."""

    corrupt: Corrupt | None
    shift: Tensor
    scale: Tensor
    sequence: SequenceConfig
    shuffle: bool  # the order of the samples
    time_steps: int
    encoding: Encoding

    def __call__(self, raw: Any, target: Any, rng: Any) -> tuple[Tensor, Any]:
        """From [C, L] to [C', L'] or [T, C', L']."""
        series = raw if self.corrupt is None else self.corrupt(raw, rng)
        x = (torch.from_numpy(series) - self.shift) / self.scale
        x = fit_length(x, self.sequence.length, self.sequence.fit)
        if self.shuffle:
            x = x[:, torch.from_numpy(rng.permutation(x.shape[1]))]
        return self.encoding(lay_out(x, self.sequence.axis, self.time_steps), rng), target


@dataclass(frozen=True)
class EventSteps:
    """The steps for a recording, or for frames from the cache, with a class or a scene."""

    augment: Callable[..., Recording] | None
    corrupt: Corrupt | None
    to_frames: Callable[[Recording], Any]
    shuffle: bool  # the order of the frames
    transform: OfScene | None
    task: str

    def __call__(self, raw: Any, target: Any, rng: Any) -> tuple[Tensor, Any]:
        """From a recording to [T, P, H, W]."""
        if isinstance(raw, Recording):
            if self.augment is not None:
                raw = self.augment(raw, rng=rng)
            if self.corrupt is not None:
                raw = self.corrupt(raw, rng)
            raw = self.to_frames(raw)
        if self.shuffle:
            raw = raw[rng.permutation(len(raw))]
        if self.transform is None:
            return torch.from_numpy(raw).float(), target
        x, objects = self.transform(raw, target)
        return x, _of_task(self.task, objects, target)


def _of_task(task: str, target: dict[str, Tensor], scene: Scene) -> Any:
    if task == "detection":
        return {name: tensor for name, tensor in target.items() if name != "classes"}
    if "classes" not in target:
        raise DataFault(scene.name, "has no mask")
    return target["classes"]


def _corrupt(apply: Callable[..., Any], name: str, severity: int, x: Any, rng: np.random.Generator) -> Any:
    return apply(x, name, severity, rng)
