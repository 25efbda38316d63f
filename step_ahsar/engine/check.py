"""Checking a config: its names and options against the registries, and by building its model without memory."""

from typing import Any, get_type_hints

import timm
from timm.models import PretrainedCfg
from timm.optim import list_optimizers

from step_ahsar.config import Config, ModelConfig
from step_ahsar.config.values import check_types
from step_ahsar.data import build_pipeline, check_options, find_dataset, model_input
from step_ahsar.engine.build import try_building
from step_ahsar.errors import UserError, unknown
from step_ahsar.measure import presets
from step_ahsar.models import list_models, model_arguments
from step_ahsar.neurons import neuron_kind
from step_ahsar.progress import followed
from step_ahsar.tasks import TASKS

# Arguments of a model that cannot be set in model.args, with the reason.
_ELSEWHERE = {
    "in_chans": "cannot be set; it follows from the data",
    "num_classes": "cannot be set; it follows from the data",
    "ndim": "cannot be set; it follows from the data",
    "img_size": "cannot be set here; set data.img_size",
    "per_step": "cannot be set; it follows from train.loss and head.spiking",
    "neuron_options": "cannot be set; set each option by its own name, such as model.tau",
    "channels": "cannot be set; every layer has its own number of channels",
}
# Arguments of timm.create_model that have an effect on this package's models.
_OF_TIMM = {
    "pretrained": bool,
    "pretrained_cfg": dict[str, Any] | None,
    "pretrained_cfg_overlay": dict[str, Any] | None,
}
_FIELDS = get_type_hints(PretrainedCfg)


def check(config: Config) -> None:
    """Checks names and options against their registries. Nothing is built, read or downloaded.

    Raises:
        UserError: the first fault.
    """
    TASKS.check(config.task)
    spec = find_dataset(config.data.name)
    check_options(config, spec)
    TASKS[config.task].check(config)
    if config.train.patience is not None and not config.data.validation:
        raise UserError(
            "train.patience needs data.validation: without it the run would be ended by what it is tested on"
        )
    optimizers = [str(name) for name in list_optimizers()]
    if config.train.optimizer not in optimizers:
        raise unknown("optimizer", config.train.optimizer, optimizers)
    _check_model(config.model)


def validate(config: Config) -> None:
    """Runs :func:`check`, and checks whether the shapes of data and model fit; for a comparison, in every cell.

    Nothing is trained, read or downloaded.

    Raises:
        UserError: the first fault.
    """
    presets(config.own_energy)
    if config.compare is not None:
        for name, cell in followed("checking the cells", config.cells()):
            try:
                validate(cell)
            except UserError as error:
                raise UserError(f"{config.compare.place(name)}: {error}") from None
        return
    check(config)
    spec = find_dataset(config.data.name)
    if spec.modality == "own":
        spec.open(config.data)  # raises: a command has no data to run it with
    if None not in model_input(config, spec):
        for part in ("train", "test"):
            build_pipeline(config, spec, part)
    try_building(config, spec)


def _check_model(model: ModelConfig) -> None:
    if not timm.is_model(model.name):
        raise unknown("model", model.name, list_models())
    kind = neuron_kind(model.neuron, model.backend, model.base)
    for option in model.neuron_options():
        if kind.options is not None and option not in kind.options:
            raise unknown(f"option of neuron {model.neuron!r} on backend {model.backend!r}:", option, kind.options)
    own = model_arguments(model.name)
    types = _OF_TIMM | dict(kind.types) | (own or {})
    known = {*types, *(kind.options or ())}
    for name in model.args:
        if name in ModelConfig.model_fields:
            raise UserError(f"model.args.{name}: set model.{name} instead")
        if name in _ELSEWHERE:
            raise UserError(f"model.args.{name}: {_ELSEWHERE[name]}")
        if own is not None and kind.options is not None and name not in known:
            raise unknown(
                f"argument of model {model.name!r} with neuron {model.neuron!r}:", name, known - set(_ELSEWHERE)
            )
    check_types(model.args, types, "model.args.")
    for name in ("pretrained_cfg", "pretrained_cfg_overlay"):
        record = model.args.get(name) or {}
        for field in record:
            if field not in _FIELDS:
                raise unknown(f"field of model.args.{name}:", field, _FIELDS)
        check_types(record, _FIELDS, f"model.args.{name}.", strict=False)
