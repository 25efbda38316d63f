"""The model of a run with the data that it was trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from step_ahsar.config import Config
from step_ahsar.data import Data, Datasets
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.restore import LOADING, config_of, data_of, restore
from step_ahsar.engine.run import Run
from step_ahsar.tasks import Task


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Args:
        run: its run.
        config: the run's config, with the place of the data.
        data: the run's data.
        task: the run's task.
        model: in eval mode, on the CPU.
        epoch: after which it was saved.
    """

    run: Run
    config: Config
    data: Data
    task: Task
    model: nn.Module
    epoch: int

    def inputs(self) -> Tensor:
        """The first batch of the test set: [B, C, *S], or [T, B, C, *S]."""
        return next(iter(self.data.test_batches()))[0]


def open_trained(run: Run, which: str, overrides: Iterable[str], datasets: Datasets | None = None) -> Trained:
    """Opens the "last" or the "best" model of a run, with its data, which are ``datasets`` if they are the user's own.

    Raises:
        UserError: no readable checkpoint, an override of something else than where data are, or data that are not
            those the run was trained on.
    """
    path = checkpoints.find(run.checkpoints, which)
    config = config_of(run, overrides, LOADING, "in an export")
    data = data_of(run, config, datasets)
    saved = checkpoints.load(path, torch.device("cpu"), averaged=config.train.averages)
    task, model = restore(config, data, saved, path, torch.device("cpu"))
    return Trained(run, config, data, task, model.eval(), saved.epoch)
