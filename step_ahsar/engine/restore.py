"""Opening a trained run again: its config, its data, and its model with the weights of a checkpoint."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from step_ahsar.config import Config, load_config
from step_ahsar.data import Data, Datasets, open_data
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.build import build_model
from step_ahsar.engine.checkpoint import Checkpoint
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.tasks import Task, create_task

# Where the data are and how they are loaded. Nothing else depends on it, but for rounding and for the random start of
# attacks, which is drawn for a whole batch.
LOADING = ("data.root", "data.cache", "data.workers", "data.prefetch", "data.pin_memory", "data.batch_size")

KEPT = "here, because the results are kept"


def config_of(run: Run, overrides: Iterable[str], keys: Sequence[str] = LOADING, where: str = KEPT) -> Config:
    """The config of a run with overrides.

    Args:
        run: the run.
        overrides: ``"a.b=value"`` over its config.
        keys: those that may be overridden; ``a.*`` stands for all that begin with ``a.``.
        where: the end of the sentence "... cannot be changed", for the message.

    Raises:
        UserError: an override of another key.
    """
    overrides = list(overrides)
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not any(fnmatchcase(key, each) for each in keys):
            raise UserError(f"{key!r} cannot be changed {where}; these can: {', '.join(keys)}")
    return load_config(run.config_file, overrides)


def data_of(run: Run, config: Config, datasets: Datasets | Data | None = None) -> Data:
    """The data of a run. Raises UserError if they are not those it was trained on."""
    data = open_data(config, datasets)
    run.check_data(data)
    return data


def restore(
    config: Config, data: Data, checkpoint: Checkpoint, path: Path, device: torch.device
) -> tuple[Task, nn.Module]:
    """The task and the model of a config, with the weights of a checkpoint that were judged in training.

    Args:
        config: that of the run, or one with changes that leave the weights as they are.
        data: the run's data.
        checkpoint: the run's.
        path: where it was read.
        device: where the model is put.

    Raises:
        UserError: the weights do not fit the model.
    """
    task = create_task(config, data.classes)
    model = build_model(config.model, task, data.in_chans, data.sizes, data.spec.ndim).to(device)
    checkpoints.put_into(model, checkpoint.judged, path)
    return task, model
