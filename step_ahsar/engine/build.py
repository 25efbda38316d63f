"""From a config to a model with the task's head."""

import re
import traceback
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn

from step_ahsar.config import Config, ModelConfig
from step_ahsar.data import DatasetSpec, Size, model_input
from step_ahsar.errors import UserError
from step_ahsar.models import SpikingTransformer
from step_ahsar.tasks import Task, create_task


def build_model(config: ModelConfig, task: Task, in_chans: int, sizes: Sequence[Size] = (), ndim: int = 2) -> nn.Module:
    """The model of a config with the task's head, its weights drawn from torch's generator.

    Args:
        config: the config's section.
        task: completes the backbone.
        in_chans: channels of its input.
        sizes: heights and widths, or lengths, that it has to take, in training first; empty if they are not known yet.
        ndim: 2 for images, 1 for series.

    Raises:
        UserError: an option out of range, or an image size that the model cannot take.
    """

    def backbone(**options: Any) -> nn.Module:
        given = backbone_arguments(config, in_chans, sizes, ndim) | options
        try:
            return timm.create_model(config.name, **given)
        except TypeError as error:
            if (name := _refused_argument(error)) not in given:
                raise
            raise UserError(
                f"model {config.name!r} takes no argument {name!r}: it seems to be no spiking model; "
                "`step-ahsar list models` shows those of this package"
            ) from error

    model = task.build(backbone)
    for part in model.modules():
        if isinstance(part, SpikingTransformer):
            for size in sizes:
                part.check_size(size)
    return model


def backbone_arguments(config: ModelConfig, in_chans: int, sizes: Sequence[Size] = (), ndim: int = 2) -> dict[str, Any]:
    """What :func:`build_model` gives to ``timm.create_model``, without what the task adds."""
    return {
        "in_chans": in_chans,
        "img_size": sizes[0] if sizes else None,
        "time_steps": config.time_steps,
        "neuron": config.neuron,
        "backend": config.backend,
        "threshold": config.threshold,
        "attn_threshold": config.attn_threshold,
        **({"ndim": 1} if ndim == 1 else {}),
        **config.layer_options(),
        **config.neuron_options(),
        **config.args,
    }


def _refused_argument(error: TypeError) -> str | None:
    """The argument that a constructor does not take, if timm called this constructor.

    timm's own models, which are not spiking, have no arguments for time steps and neurons. What their constructors take
    cannot be known without calling them. A TypeError from further inside is an error of the program.
    """
    *_, (innermost, _) = traceback.walk_tb(error.__traceback__)
    refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return refused[1] if refused and innermost.f_globals["__name__"].startswith("timm.") else None


def try_building(config: Config, spec: DatasetSpec) -> None:
    """Builds the model, without memory for its weights, for the sizes of training and of testing.

    Classes, channels and sizes that are known only from the data are not checked.

    Raises:
        UserError: an option out of range, or an image size that the model cannot take.
    """
    task = create_task(config, [str(i) for i in range(spec.num_classes or 2)])
    in_chans, size = model_input(config, spec)
    sizes = [each for each in (size, config.data.test_size) if each is not None]
    try:
        with torch.device("meta"):
            build_model(config.model, task, in_chans or 1, sizes, spec.ndim)
    except RuntimeError as error:
        if "overflow" not in str(error):  # of the number of weights
            raise
        raise UserError(f"model {config.model.name!r} with model.args {config.model.args} is too large") from error
