"""tonic's transforms of events, which a config names in ``data.events``."""

import inspect
import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, get_type_hints

import numpy as np
from pydantic import ConfigDict, ValidationError, create_model

from step_ahsar.config import EventsConfig
from step_ahsar.config.schema import TransformConfig
from step_ahsar.config.values import explain
from step_ahsar.data.common.faults import DataFault
from step_ahsar.data.common.registry import DatasetSpec
from step_ahsar.data.common.seeding import seeded
from step_ahsar.data.events.formats import EXTRA
from step_ahsar.data.events.recording import Recording, make_recording
from step_ahsar.errors import UserError, first_line, unknown

Key = Literal["transforms", "train_transforms"]
Width = tuple[int, int]  # of a sensor: (W, H), in tonic's order

# Those that take events and return events.
_STEADY = (
    *("CenterCrop", "CropTime", "Decimation", "Denoise", "Downsample", "DropPixel", "EventDownsampling"),
    *("MergePolarities", "RefractoryPeriod", "TimeAlignment", "TimeSkew"),
)
_RANDOM = (
    *("DropEvent", "DropEventByArea", "DropEventByTime", "EventDrop", "RandomCrop", "RandomDropPixel", "RandomFlipLR"),
    *("RandomFlipPolarity", "RandomFlipUD", "RandomTimeReversal", "SpatialJitter", "TimeJitter", "UniformNoise"),
)
_RANGES = {"RefractoryPeriod": ("delta",), "TimeSkew": ("coefficient", "offset")}  # random if these are two numbers

_EVENTS = np.dtype([(name, np.int64) for name in "xytp"])  # signed, so that events may leave the sensor and be found
_ANY_SENSOR = (720, 1280)  # for a trial, if the set's is not known yet: that of the largest event cameras


def check_transforms(config: EventsConfig, spec: DatasetSpec, task: str) -> None:
    """Tries the transforms on a recording of noise.

    Raises:
        UserError: tonic is not installed, a transform that it does not have or that makes no events of events, one with
            arguments that it does not take, one that is random outside of training, or that does not suit data set or
            task.
    """
    keys: tuple[Key, Key] = ("transforms", "train_transforms")
    for key in keys:
        for number, each in enumerate(getattr(config, key)):
            where = f"data.events.{key}[{number}]"
            _, arguments = _parsed(_text(each), where)
            ranges = [name for name in _RANGES.get(each.name, ()) if isinstance(arguments.get(name), tuple)]
            if key == "transforms" and (each.name in _RANDOM or ranges):
                raise UserError(f"{where}: {each.name} is random; put it into data.events.train_transforms")
            if task != "classification":
                raise UserError(f"{where} does not apply to {task}: it may change events but not the targets")
            if each.name == "RandomFlipLR" and not spec.mirrors:
                raise UserError(
                    f"{where}: RandomFlipLR does not apply to dataset {spec.name!r}: a mirrored recording has another "
                    "meaning"
                )
    if config.transforms or config.train_transforms:
        size = spec.size or _ANY_SENSOR
        with seeded("trial"):
            noise = _noise((size, size) if isinstance(size, int) else size)
            for key in reversed(keys):
                noise = transformed(noise, config, key)


def transformed(recording: Recording, config: EventsConfig, key: Key) -> Recording:
    """The recording after the transforms of ``config.transforms`` or ``config.train_transforms``, in their order.

    tonic is told the sensor, and after a crop or a downsampling the smaller one, which is then the recording's. Events
    are in the order of time again afterwards. Random transforms draw from NumPy's global generator.

    Raises:
        DataFault: a transform fails, or moves events outside of the sensor.
    """
    transforms: list[TransformConfig] = getattr(config, key)
    if not transforms:
        return recording
    where = f"data.events.{key}"
    events = np.empty(len(recording), _EVENTS)
    for name in "xytp":
        events[name] = getattr(recording, name)
    sensor = recording.sensor[::-1]
    for number, each in enumerate(transforms):
        make, arguments = _parsed(_text(each), f"{where}[{number}]")
        try:
            # It is made anew for each recording: some keep what they found in the first one, such as its duration.
            transform = make(sensor)
            events = transform(events) if len(events) else events
        except Exception as error:
            raise DataFault(f"{where}[{number}]", f"{each.name} fails: {first_line(error)}") from error
        sensor = _sensor_after(each.name, arguments, sensor)
    if not len(events):  # some return no fields then
        events = np.empty(0, _EVENTS)
    events = events[np.argsort(events["t"], kind="stable")]
    return make_recording(events["x"], events["y"], events["t"], events["p"], sensor[::-1], where)


def _sensor_after(name: str, arguments: dict[str, Any], sensor: Width) -> Width:
    """The sensor that is left by a transform."""
    size = arguments.get("size" if name == "CenterCrop" else "target_size")
    if size is not None:
        return (size, size) if isinstance(size, int) else size
    if name == "Downsample":
        factor = arguments.get("spatial_factor", 1)
        factors = factor if isinstance(factor, tuple) else (factor, factor)
        width, height = (int((side - 1) * each) + 1 for side, each in zip(sensor, factors, strict=True))
        return width, height
    return sensor


def _text(transform: TransformConfig) -> str:
    return json.dumps([transform.name, transform.arguments], default=str)


@lru_cache
def _parsed(text: str, where: str) -> tuple[Callable[[Width], Any], dict[str, Any]]:
    """What makes the transform for a sensor, and its arguments in the types that it wants, such as tuples for lists."""
    name, given = json.loads(text)
    try:
        import tonic.transforms
    except ImportError:
        raise UserError(f"{where} needs the package tonic: {EXTRA}") from None
    if name not in (*_STEADY, *_RANDOM):
        if hasattr(tonic.transforms, name):
            raise UserError(
                f"{where}: {name} does not make events of events; frames are made by data.events.representation"
            )
        raise unknown(f"transform in {where}:", name, [*_STEADY, *_RANDOM])
    kind = getattr(tonic.transforms, name)
    declared = dict(inspect.signature(kind).parameters)
    takes_sensor = declared.pop("sensor_size", None) is not None
    if "sensor_size" in given:
        raise UserError(f"{where}: sensor_size cannot be set; it follows from the data")
    for key in given:
        if key not in declared:
            raise unknown(f"argument of {name} in {where}:", key, declared)
    for key, parameter in declared.items():
        if parameter.default is parameter.empty and key not in given:
            raise UserError(f"{where}: {name} needs {key}")
    types = get_type_hints(kind.__init__)
    fields: dict[str, Any] = {key: (types[key], ...) for key in given}
    schema = create_model("Arguments", __config__=ConfigDict(strict=True, allow_inf_nan=False), **fields)
    try:
        model = schema.model_validate_json(json.dumps(given))  # strict, but JSON has lists for tuples
    except ValidationError as error:
        raise UserError(f"{where}.{explain(error, given)}") from None
    arguments = {key: getattr(model, key) for key in given}

    def make(sensor: Width) -> Any:
        return kind(**arguments, **({"sensor_size": (*sensor, 2)} if takes_sensor else {}))

    return make, arguments


def _noise(sensor: tuple[int, int], events: int = 1000, duration: int = 1_000_000) -> Recording:
    height, width = sensor
    draw = np.random.default_rng(0).integers
    t = np.sort(draw(0, duration, events))
    return make_recording(draw(0, width, events), draw(0, height, events), t, draw(0, 2, events), sensor, "noise")
