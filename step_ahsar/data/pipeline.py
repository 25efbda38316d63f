"""From a sample as it was read to tensors: which steps a config asks for, for each kind of data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from step_ahsar.config import Config, DataConfig, EventsConfig, SequenceConfig
from step_ahsar.data.encoders import encode
from step_ahsar.data.events import augment as event_augment
from step_ahsar.data.events import corruptions as event_corruptions
from step_ahsar.data.events.recording import Recording
from step_ahsar.data.events.representations import check_events, to_frames
from step_ahsar.data.faults import DataFault
from step_ahsar.data.images import corruptions as image_corruptions
from step_ahsar.data.images.transforms import build_transform, is_augmented, statistics
from step_ahsar.data.registry import DatasetSpec, Size
from step_ahsar.data.scenes.scene import Scene
from step_ahsar.data.scenes.transforms import build_scene_transform
from step_ahsar.data.sequences.layout import lay_out, positions
from step_ahsar.errors import UserError, unknown

Corrupt = Callable[[Any, np.random.Generator], Any]

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
_DEFAULTS = DataConfig()


@dataclass(frozen=True)
class Pipeline:
    """Turns (input, target) as read into (tensor, target).

    Args:
        run: the steps, given the input, the target and a generator; None will do where nothing is drawn.
        random: whether anything is drawn, from that generator or from the global ones.
        has_time: whether tensors are [T, C, *S] rather than [C, *S].
    """

    run: Callable[[Any, Any, Any], tuple[Tensor, Any]]
    random: bool
    has_time: bool


def check_options(config: Config, spec: DatasetSpec) -> None:
    """Raises UserError for options that do not apply to this kind of data."""
    data = config.data
    what = f"dataset {data.name!r}"
    if config.task not in spec.tasks:
        raise UserError(
            f"task {config.task!r} does not go with {what}, whose targets are for {' and '.join(spec.tasks)}"
        )
    if config.train.eventmix and spec.modality != "event":
        raise UserError(f"train.eventmix does not apply to {what}, whose modality is {spec.modality}")
    if spec.modality == "event":
        check_events(data.events)
        if data.events.hflip and not spec.mirrors:
            raise UserError(f"data.events.hflip must be 0 for {what}, whose mirrored recordings mean something else")
        if config.task != "classification" and data.events.model_copy(update=_STILL) != data.events:
            moving = ", ".join(f"data.events.{key}" for key in _STILL)
            raise UserError(f"{moving} move events and not the targets of {config.task}; use data.hflip and data.scale")
    elif data.events != EventsConfig():
        raise UserError(f"data.events does not apply to {what}, whose modality is {spec.modality}")
    if spec.ndim == 2 and data.sequence != SequenceConfig():
        raise UserError(f"data.sequence does not apply to {what}, which is no series")
    if spec.modality != "static" and config.task == "classification":
        for key in _IMAGE_KEYS:
            if getattr(data, key) != getattr(_DEFAULTS, key):
                raise UserError(f"data.{key} does not apply to {what}: it is for images; events have data.events")
    normalised = spec.modality == "static" or bool(spec.mean)
    if not normalised and (data.mean or data.std):
        raise UserError(f"data.mean and data.std do not apply to {what}, whose values are not normalised by them")
    if data.encoder != "direct" and (spec.modality == "event" or not normalised or data.sequence.axis == "time"):
        raise UserError(f"data.encoder {data.encoder!r} does not apply to {what}: it is for images and pixel sequences")
    if spec.ndim == 2 and spec.modality == "sequence" and data.encoder != "direct":
        raise UserError(f"data.encoder {data.encoder!r} does not apply to {what}, which moves in time already")
    if spec.ndim == 1:
        _length(data)
    if data.corruption is not None:
        find_corruption(data.corruption, spec)


_STILL = {"hflip": 0.0, "roll": 0, "rotate": 0.0, "cutout": 0.0}


def model_input(config: Config, spec: DatasetSpec) -> tuple[int | None, Size | None]:
    """Channels and size of what a model is given; None where only the data tell."""
    if spec.ndim == 2:
        return spec.in_chans, config.data.img_size or spec.size
    if spec.in_chans is None or spec.size is None:
        return None, None
    assert isinstance(spec.size, int)
    return positions(spec.in_chans, spec.size, config.data.sequence.axis, config.model.time_steps, _length(config.data))


def find_corruption(name: str, spec: DatasetSpec) -> Corrupt:
    """The corruption ``name:severity`` for this kind of data. Raises UserError if there is none."""
    kinds: dict[str, Any] = {"static": image_corruptions, "event": event_corruptions}
    if spec.modality not in kinds:
        raise UserError(f"corruption {name!r} does not apply to dataset {spec.name!r}: there are none for sequences")
    kind = kinds[spec.modality]
    title, _, severity = name.partition(":")
    if title not in kind.CORRUPTIONS:
        raise unknown(f"corruption of {spec.modality} data", title, sorted(kind.CORRUPTIONS))
    if severity not in tuple("12345"):
        raise UserError(f"a corruption is name:severity with a severity from 1 to 5, got {name!r}")
    return partial(_corrupt, kind.corrupt, title, int(severity))


def build_pipeline(config: Config, spec: DatasetSpec, training: bool) -> Pipeline:
    """The pipeline of training data, or of test data; ``spec`` has channels and size. See :func:`check_options`.

    Raises:
        UserError: options that are wrong for the data set, see the parts' own functions.
    """
    data = config.data
    corrupt = None if training or data.corruption is None else find_corruption(data.corruption, spec)
    if spec.modality == "event":
        return _events(config, spec, training, corrupt)
    if spec.ndim == 1:
        return _series(config, spec)
    if config.task != "classification":
        return _scenes(config, spec, training, corrupt)
    transform, encoding = build_transform(data, spec, training), _encoding(config)

    def run(image: Any, label: Any, rng: np.random.Generator) -> tuple[Tensor, Any]:
        if corrupt is not None:
            image = corrupt(image, rng)
        return encoding(transform(image), rng), label

    random = (training and is_augmented(data)) or corrupt is not None or data.encoder == "rate"
    return Pipeline(run, random, data.encoder != "direct")


def frames_of(config: Config, spec: DatasetSpec) -> "partial[np.ndarray]":
    """From a recording to frames [T, P, H, W]; of scenes at the sensor's size, so that targets fit."""
    size = config.data.img_size or spec.size
    wanted = (size, size) if isinstance(size, int) else size
    return partial(
        to_frames,
        config=config.data.events,
        time_steps=config.model.time_steps,
        size=wanted if config.task == "classification" else None,
    )


def _events(config: Config, spec: DatasetSpec, training: bool, corrupt: Corrupt | None) -> Pipeline:
    to_frames, settings = frames_of(config, spec), config.data.events
    augmented = training and event_augment.is_augmented(settings)
    finish: Callable[..., Any] | None = None
    if config.task != "classification":
        finish = build_scene_transform(config.data, spec, config.model.time_steps, training)

    def run(events: Any, target: Any, rng: np.random.Generator) -> tuple[Tensor, Any]:
        if isinstance(events, Recording):  # else frames already, from the cache
            if augmented:
                events = event_augment.augment(events, settings, rng)
            if corrupt is not None:
                events = corrupt(events, rng)
            events = to_frames(events)
        if finish is not None:
            x, objects = finish(events, target)
            return x, _of_task(config.task, objects, target)
        return torch.from_numpy(events).float(), target

    moved = finish is not None and training and is_augmented(config.data)
    return Pipeline(run, augmented or corrupt is not None or moved, has_time=True)


def _series(config: Config, spec: DatasetSpec) -> Pipeline:
    data = config.data
    encoding = _encoding(config)
    mean, std = statistics(data, spec) if spec.mean else ((0.0,), (1.0,))
    shift, scale = (torch.tensor(values).unsqueeze(1) for values in (mean, std))

    def run(series: Any, label: Any, rng: np.random.Generator) -> tuple[Tensor, Any]:
        x = (torch.from_numpy(series) - shift) / scale
        laid = lay_out(x, data.sequence.axis, config.model.time_steps, _length(data))
        return encoding(laid, rng), label

    return Pipeline(run, data.encoder == "rate", data.encoder != "direct" or data.sequence.axis == "time")


def _scenes(config: Config, spec: DatasetSpec, training: bool, corrupt: Corrupt | None) -> Pipeline:
    data = config.data
    transform, encoding = build_scene_transform(data, spec, config.model.time_steps, training), _encoding(config)

    def run(picture: Any, scene: Any, rng: np.random.Generator) -> tuple[Tensor, Any]:
        if corrupt is not None:
            picture = corrupt(picture, rng)
        x, objects = transform(picture, scene)
        return encoding(x, rng), _of_task(config.task, objects, scene)

    random = (training and is_augmented(data)) or corrupt is not None or data.encoder == "rate"
    return Pipeline(run, random, data.encoder != "direct" or spec.modality == "sequence")


def _of_task(task: str, target: dict[str, Tensor], scene: Scene) -> Any:
    if task == "detection":
        return {name: tensor for name, tensor in target.items() if name != "classes"}
    if "classes" not in target:
        raise DataFault(scene.name, "has no mask")
    return target["classes"]


def _encoding(config: Config) -> Callable[[Tensor, np.random.Generator], Tensor]:
    """From [C, *S] to [T, C, *S], by the config's encoder; direct leaves it to the model."""
    name, steps = config.data.encoder, config.model.time_steps
    if name == "direct":
        return lambda x, rng: x
    if name != "rate":
        return lambda x, rng: encode(x.clamp(0, 1), name, steps, None)
    return lambda x, rng: encode(x.clamp(0, 1), name, steps, torch.Generator().manual_seed(int(rng.integers(2**62))))


def _length(data: DataConfig) -> int | None:
    if data.img_size is None or isinstance(data.img_size, int):
        return data.img_size
    raise UserError(f"data.img_size of a series is its length, one number, got {list(data.img_size)}")


def _corrupt(apply: Callable[..., Any], name: str, severity: int, x: Any, rng: np.random.Generator) -> Any:
    return apply(x, name, severity, rng)
