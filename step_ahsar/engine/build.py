"""From a config to a model, and the check that a config can be built at all."""

from typing import Any

import timm
import torch
from timm.optim import list_optimizers
from torch import nn

import step_ahsar.models as zoo
from step_ahsar.config import Config, ModelConfig
from step_ahsar.data import Size, build_pipeline, check_options, find_dataset, model_input
from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons import list_neurons
from step_ahsar.tasks import Task, create_task


def build_model(config: ModelConfig, task: Task, in_chans: int, size: Size | None, ndim: int = 2) -> nn.Module:
    """The model of a config with the task's head, its weights drawn from torch's generator.

    Args:
        config: the config's section.
        task: completes the backbone.
        in_chans: channels of its input.
        size: height and width, or length; None where it is not known yet.
        ndim: 2 for images, 1 for series.

    Raises:
        UserError: an unknown model, neuron, backend, surrogate or option, or an image size that the model cannot take.
    """
    if not timm.is_model(config.name):
        raise unknown("model", config.name, zoo.list_models())

    def backbone(**options: Any) -> nn.Module:
        given = {
            "in_chans": in_chans,
            "img_size": size,
            "time_steps": config.time_steps,
            "neuron": config.neuron,
            "backend": config.backend,
            "threshold": config.threshold,
            "attn_threshold": config.attn_threshold,
            **({"ndim": 1} if ndim == 1 else {}),
            **config.neuron_options(),
            **config.args,
        }
        try:
            return timm.create_model(config.name, **given, **options)
        except TypeError as error:  # timm models that are not spiking know neither time steps nor neurons
            raise UserError(f"model {config.name!r} cannot be made with model.* of this config: {error}") from error

    return task.build(backbone)


def validate(config: Config) -> None:
    """Checks what the schema cannot: names against their registries, options against neurons, shapes against models.

    Nothing is trained, read or downloaded. With a section `compare`, every cell is checked.

    Raises:
        UserError: the first fault.
    """
    if config.compare is not None:
        for name, cell in config.cells():
            try:
                validate(cell)
            except UserError as error:
                raise UserError(f"compare.cells {name!r}: {error}") from None
        return
    spec = find_dataset(config.data.name)
    # What only the data tell (classes, channels, size) does not matter here.
    task = create_task(config, [str(i) for i in range(spec.num_classes or 2)])
    check_options(config, spec)
    in_chans, size = model_input(config, spec)
    if in_chans is not None and size is not None:
        for training in (True, False):
            build_pipeline(config, spec, training)
    optimizers = [str(name) for name in list_optimizers()]
    if config.train.optimizer not in optimizers:
        raise unknown("optimizer", config.train.optimizer, optimizers)
    list_neurons(config.model.backend)  # loads the backend, which may compute constants: not possible on "meta"
    with torch.device("meta"):
        for each in (size, config.data.test_size):
            build_model(config.model, task, in_chans or 1, each, spec.ndim)
