"""Adapting a trained model to the inputs that it is tested on: by its thresholds, or by the statistics of its norms.

Neither sees a label. For thresholds see :mod:`step_ahsar.ahsar.adapting`. The rival takes the mean and the variance of
each test batch in place of the norms' running averages (Nado et al., arXiv 2006.10963; Schneider et al., NeurIPS 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from step_ahsar.ahsar.adapting import WINDOW, adapt_thresholds
from step_ahsar.ahsar.calibration import TRIALS
from step_ahsar.data import Batches
from step_ahsar.engine.device import move
from step_ahsar.errors import UserError
from step_ahsar.measure.firing import FiringRateMeter
from step_ahsar.neurons.norms import BATCH_NORMS
from step_ahsar.progress import followed, work
from step_ahsar.tasks import Task

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm
REFERENCE = 1024  # training samples over which rates are measured, at most


@torch.no_grad()
def training_rates(model: nn.Module, batches: Batches, accelerator: Accelerator) -> dict[str, float]:
    """The firing rate of each layer on batches of clean training data, by its name; leaves the model in eval mode."""
    model.eval()
    with FiringRateMeter(model) as meter, accelerator.autocast():
        for inputs, _ in followed("measuring firing rates on training data", batches):
            model(move(inputs, accelerator.device))
    meter.join()
    return {name: layer.rate for name, layer in meter.layers().items()}


def adapt(
    model: nn.Module,
    task: Task,
    batches: Iterable[tuple[Tensor, Any]],
    rates: Mapping[str, float],
    accelerator: Accelerator,
) -> None:
    """Adapts the thresholds of a model to the inputs of the batches."""

    first, _ = next(iter(batches))
    axis = task.batch_axis(first)
    most = TRIALS * -(-WINDOW // first.shape[axis])  # it ends as soon as the rates are reached
    with accelerator.autocast(), work("", most) as begin:

        class Inputs:
            """The inputs alone, on the device, as often as they are gone through."""

            def __iter__(self) -> Iterator[Tensor]:
                for inputs, _ in batches:
                    begin("")
                    yield move(inputs, accelerator.device)

        adapt_thresholds(model, Inputs(), rates=rates, batch_axis=axis)


def use_batch_statistics(model: nn.Module) -> list[RemovableHandle]:
    """Makes every batch norm of a model use the statistics of the batch, in eval mode too.

    The running averages stay as they are.

    Returns:
        Hooks, without which all is as before; none if the model has no batch norm.
    """
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
    return [hook for norm in norms for hook in _with_batch_statistics(norm)]


def _with_batch_statistics(norm: BatchNorm) -> tuple[RemovableHandle, RemovableHandle]:
    before: list[Any] = []

    def train(_: nn.Module, __: Any) -> None:
        before.append((norm.training, norm.momentum))
        norm.training, norm.momentum = True, 0.0  # a momentum of 0 keeps the averages

    def stop(*_: Any) -> None:
        norm.training, norm.momentum = before.pop()

    return norm.register_forward_pre_hook(train), norm.register_forward_hook(stop, always_call=True)


def several(batches: Iterable[tuple[Tensor, Any]], task: Task) -> Iterator[tuple[Tensor, Any]]:
    """The batches. Raises UserError for one of a single sample, whose statistics say nothing."""
    for inputs, targets in batches:
        if inputs.shape[task.batch_axis(inputs)] == 1:
            raise UserError(
                "norms cannot be adapted to a batch of 1, whose statistics are those of one sample; take another "
                "data.batch_size, so that no batch of test data is left with a single one"
            )
        yield inputs, targets
