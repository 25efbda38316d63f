"""Weights as a file that other libraries' models of the same architecture load."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from step_ahsar.ahsar import fold
from step_ahsar.config import Config
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.build import build_model
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError, unknown
from step_ahsar.files import replacing
from step_ahsar.libraries.convert import convert_state_dict, node_attributes
from step_ahsar.libraries.layout import list_layouts
from step_ahsar.neurons import SpikingNeuron, neuron_kind
from step_ahsar.tasks import create_task


def write_weights(opened: Run, to: str, path: Path, which: str) -> None:
    """Writes the model of a run as safetensors in the key layout of ``to``.

    The file's metadata are layout, model, neuron, time_steps, and "attributes": as JSON, the attributes of neurons that
    are not in the state dict.

    Args:
        opened: the run.
        to: "torch", or a library that has such models.
        path: the file.
        which: "last", or "best" by the task's metric.

    Raises:
        UserError: as :func:`step_ahsar.engine.export`.
    """
    config = opened.config
    if config.task != "classification":
        raise UserError(f"{opened.path} is a run of {config.task}; other libraries' models classify")
    place = checkpoints.find(opened.checkpoints, which)
    saved = checkpoints.load(place, torch.device("cpu"), averaged=config.train.averages)
    weights = dict(saved.judged)
    for name in (head := _weight(weights, "head"), first := _first_conv(config, weights)):
        if name not in weights:
            raise UserError(f"checkpoint {place} does not fit the model of the run's config: it has no {name!r}")
    task = create_task(config, [str(i) for i in range(len(weights[head]))])
    model = build_model(config.model, task, weights[first].shape[1], ndim=weights[first].ndim - 2)
    checkpoints.put_into(model, weights, place)
    state, attributes = export_model(model.eval(), to)
    metadata = {
        "format": "pt",
        "layout": to,
        "model": config.model.name,
        "neuron": neuron_kind(config.model.neuron, config.model.backend, config.model.base).base,
        "time_steps": str(config.model.time_steps),
        "attributes": json.dumps(attributes),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            save_file(state, partial, metadata)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {path}: {error}") from error


def export_model(model: nn.Module, to: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of ``model`` in the layout of ``to``, and by path the attributes that are not in the state dict.

    Scales of regulated neurons go into the norm in front of them, see :func:`step_ahsar.ahsar.fold`. There is no norm
    in front of the attention's own neuron, so its threshold is multiplied by the scale.

    Raises:
        UserError: a model that the library does not have, or a neuron that cannot be folded.
    """
    _check(to)
    model = fold(model, weights_only=True)
    if to == "torch":
        neurons = ((name, module) for name, module in model.named_modules() if isinstance(module, SpikingNeuron))
        state, attributes = model.state_dict(), {f"{name}.threshold": neuron.threshold for name, neuron in neurons}
    else:
        state, attributes = convert_state_dict(model.state_dict(), model, to), node_attributes(model, to)
    return {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, attributes


def _first_conv(config: Config, weights: Mapping[str, Tensor]) -> str:
    """The weight of the first convolution, whose shape gives the number of input channels."""
    made_for = timm.get_pretrained_cfg(config.model.name)
    assert made_for is not None  # the model is one of ours: it was trained
    assert made_for.first_conv is not None
    # With the stem "patch" it is the embedding's one convolution.
    stem = (
        "patch_embed.conv.conv" if made_for.first_conv.startswith("patch_embed") else "stages.0.patch_embed.conv.conv"
    )
    return _weight(weights, made_for.first_conv, stem)


def _weight(weights: Mapping[str, Tensor], *layers: str) -> str:
    """The key of the weight of the first of these layers that is there; quantised weights have keys of their own."""
    keys = [f"{layer}.{key}" for layer in layers for key in ("weight", "parametrizations.weight.original")]
    return next((key for key in keys if key in weights), keys[0])


def _check(to: str) -> None:
    if to not in ("torch", *list_layouts()):
        raise unknown("library to export to:", to, ["torch", *list_layouts()])
