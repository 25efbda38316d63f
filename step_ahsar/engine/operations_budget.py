"""A budget of synaptic operations: the firing rate that is held is moved until the operations are those of the budget.

Thresholds (``ahsar.budget_ops``) and the penalty (``train.rate_penalty.budget_ops``) hold firing rates. How many
operations a spike causes depends on the layer that it reaches, and hardly on how many spikes there are. So operations
are counted on one batch, and the rate that is held becomes what was asked for, divided by the operations for each unit
of rate: before training, a few times in turn with the calibration, and at the end of each epoch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.ahsar.config import LOUDEST
from step_ahsar.config import Config
from step_ahsar.engine.adapt import use_batch_statistics
from step_ahsar.engine.state import TrainingState
from step_ahsar.measure import LayerOperations, OperationMeter
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.passes import in_eval_mode, without_traces
from step_ahsar.tasks import Task

_ROUNDS = 4  # of counting and calibrating, before training
_NEAR = 0.02  # relative difference of the operations from the budget that is near enough

_logger = logging.getLogger(__name__)


def start_on_budget(
    state: TrainingState, task: Task, inputs: Tensor, config: Config, calibrate: Callable[[], Any] | None
) -> None:
    """Finds the firing rate to begin with.

    Args:
        state: before the first step.
        task: the task.
        inputs: a batch, on the device.
        config: the run's config.
        calibrate: sets the thresholds to the rate that is held; None if they are not regulated.
    """
    for _ in range(_ROUNDS if calibrate is not None else 1):
        if keep_to_budget(state, task, inputs, config) or calibrate is None:
            return
        calibrate()


def keep_to_budget(state: TrainingState, task: Task, inputs: Tensor, config: Config) -> bool:
    """Moves the firing rates that are held, if operations have a budget. Returns whether they were near it."""
    near = True
    for asked, holder in (
        (config.ahsar.budget_ops, state.controller),
        (config.train.rate_penalty.budget_ops, state.penalty),
    ):
        if asked is None or holder is None:
            continue
        operations, rate = _counted(state, task, inputs)
        if not operations:
            _logger.warning("no synaptic operation was counted; the firing rate stays %.3g", holder.budget)
            continue
        near &= abs(operations / asked - 1) <= _NEAR
        wanted = rate * asked / operations
        if wanted > LOUDEST:
            _logger.warning(
                "the model cannot spend %s operations: at a firing rate of %s it has about %s",
                f"{asked:,.0f}", LOUDEST, f"{operations * LOUDEST / rate:,.0f}",
            )  # fmt: skip
        holder.budget = min(wanted, LOUDEST)
    return near


@torch.no_grad()
def _counted(state: TrainingState, task: Task, inputs: Tensor) -> tuple[float, float]:
    """Synaptic operations of a sample, and the firing rate of the model, as it is in training, without a trace."""
    model = state.model
    with ExitStack() as stack:
        stack.enter_context(without_traces(model, ()))
        stack.enter_context(in_eval_mode(model))
        if state.controller is not None:
            stack.enter_context(state.controller.paused())
        for hook in use_batch_statistics(model):
            stack.callback(hook.remove)
        meter = stack.enter_context(OperationMeter(model))
        with state.accelerator.autocast(), meter.batch(inputs.shape[task.batch_axis(inputs)]):
            task.predict(model, inputs)
        meter.join()
    found = meter.operations()
    return found.synaptic_operations, sum(_firing(model, layer) for layer in found.layers) / found.updates


def _firing(model: nn.Module, layer: LayerOperations) -> float:
    """What a layer's spikes add to its firing rate, which is relative to the most that its neurons emit at a time."""
    if layer.kind != "neuron":
        return 0.0
    neuron = model.get_submodule(layer.name.partition(" #")[0])
    assert isinstance(neuron, SpikingNeuron)
    return layer.spikes * neuron.spike_value / neuron.max_spikes
