"""One epoch of training: steps over batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from step_ahsar import ranks
from step_ahsar.ahsar.calibration import TRIALS
from step_ahsar.config import Config
from step_ahsar.data import Batches, derive_seed, seeded
from step_ahsar.engine.device import move
from step_ahsar.engine.operations_budget import keep_to_budget, start_on_budget
from step_ahsar.engine.state import TrainingState
from step_ahsar.neurons.norms import BATCH_NORMS
from step_ahsar.passes import without_traces
from step_ahsar.progress import followed, work
from step_ahsar.tasks import Task

WARMUP_STEPS = 3  # left out of times and memory, because kernels are compiled in them

OnStep = Callable[[dict[str, Any]], None]


class NonFiniteLoss(RuntimeError):
    """Training diverged: a loss or a weight became NaN or infinite. The last good checkpoint is kept.

    Attributes:
        epoch: counted from 1.
        step: of the epoch, counted from 1.
    """

    def __init__(self, what: str, epoch: int, step: int) -> None:
        super().__init__(f"{what} at epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step


@dataclass(frozen=True)
class EpochResult:
    """Measurements of an epoch of training: mean loss, learning rate, median duration of a step in ms."""

    train_loss: float
    lr: float
    step_ms: float


def calibrate(state: TrainingState, task: Task, batches: Batches, config: Config) -> None:
    """Sets thresholds, and the rates of a budget of operations, on the first batch before training, if it is asked for.

    Raises:
        Uncountable: there is a budget of operations, and the model has some that cannot be counted.
    """
    calibrates = state.controller is not None and config.ahsar.calibrates
    if not (calibrates or config.train.rate_penalty.budget_ops):
        return
    ((inputs, targets),) = batches.first(1)
    inputs, targets = move(inputs, state.device), move(targets, state.device)
    state.model.train()

    def forward() -> None:
        with state.accelerator.autocast():
            task.loss(state.model, inputs, targets)

    def set_thresholds() -> None:
        assert state.controller is not None
        with work("calibrating thresholds", TRIALS) as trial:

            def tried() -> None:
                trial("")
                forward()

            state.controller.calibrate(tried)

    with seeded(config.seed, "calibrate"):
        if calibrates:
            set_thresholds()
        start_on_budget(state, task, inputs, config, set_thresholds if calibrates else None)


def follow_operations(state: TrainingState, task: Task, batches: Batches, config: Config) -> None:
    """Counts operations on the first of the batches and moves the rates that are held, if they have a budget."""
    if config.ahsar.budget_ops is None and config.train.rate_penalty.budget_ops is None:
        return
    ((inputs, _),) = batches.first(1)
    keep_to_budget(state, task, move(inputs, state.device), config)


@torch.no_grad()
def recalibrate_norms(state: TrainingState, task: Task, batches: Batches, config: Config, epoch: int) -> None:
    """Makes the norms' running averages means over the first of the batches, if the config asks for it.

    Averages that follow training lag behind weights and thresholds that move; here both are at rest. Training is not
    changed, since norms then use the statistics of the batch. The model is the one that is judged.
    """
    number = config.train.recalibrate_norms
    if number == 0:
        return
    model, accelerator = state.judged, state.accelerator
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    averages = [buffer for norm in norms for buffer in norm.buffers()]
    with without_traces(model, averages), seeded(config.seed, "recalibrate", epoch):
        model.train()
        try:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the mean over all batches
            for inputs, targets in followed("averaging the norms' statistics", batches.first(number)):
                with accelerator.autocast():
                    task.loss(model, move(inputs, state.device), move(targets, state.device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
    ranks.share_buffers(model)


def train_epoch(
    state: TrainingState,
    task: Task,
    batches: Batches,
    config: Config,
    epoch: int,
    on_step: OnStep | None = None,
) -> EpochResult:
    """Trains for one epoch, counted from 1.

    All randomness is a function of the config's seed and the epoch: data order, augmentation, mixing, and the model's
    own draws. So the cells of a comparison share them, and a resumed run needs no state of a generator. Of several
    processes each draws its own numbers for the model, because each has other samples; the rest is the same in all.

    Raises:
        NonFiniteLoss: the loss, or at the end of the epoch a weight, is NaN or infinite.
    """
    torch.manual_seed(derive_seed(config.seed, "epoch", epoch, *([] if ranks.is_main() else [ranks.rank()])))
    state.scheduler.step(epoch - 1)
    lr = state.optimizer.param_groups[0]["lr"]
    steps = -(-len(batches) // config.train.accumulate)
    warm_up = min(WARMUP_STEPS, steps - 1)
    losses, times = [], []
    state.model.train()
    for step, group in enumerate(_chunks(batches, config.train.accumulate), start=1):
        if step == warm_up + 1:
            state.memory.start()
        began = perf_counter()
        loss = _step(state, task, group, config, epoch, step)
        times.append(1000 * (perf_counter() - began))
        losses.append(loss)
        if on_step is not None:
            on_step({"epoch": epoch, "epochs": config.train.epochs, "step": step, "steps": steps, "loss": loss})
    state.memory.stop(state.resident_bytes)
    ranks.share_buffers(state.model)
    if state.ema is not None:
        ranks.share_buffers(state.ema.module)
    if not all(tensor.isfinite().all() for tensor in state.model.state_dict().values()):
        raise NonFiniteLoss("a weight is not finite", epoch, steps)
    timed = times if state.warm else times[warm_up:]
    state.warm = True
    return EpochResult(sum(losses) / len(losses), lr, median(timed))


def _step(state: TrainingState, task: Task, batches: Sequence[Any], config: Config, epoch: int, step: int) -> float:
    """One optimiser step with the mean gradient of the batches.

    Returns:
        Their mean loss, over all processes, without a penalty on firing rates.
    """
    train, accelerator, total = config.train, state.accelerator, 0.0
    for part, (inputs, targets) in enumerate(batches):
        inputs, targets = move(inputs, state.device), move(targets, state.device)
        with seeded(config.seed, "mix", epoch, step, part):
            inputs, targets = _mixed(task, inputs, targets, config.data.batch_size, epoch)
        is_last = part == len(batches) - 1  # its backward pass exchanges the gradients of all parts
        with nullcontext() if is_last else accelerator.no_sync(state.trained):
            with accelerator.autocast(), state.penalty or nullcontext():
                loss = task.loss(state.trained, inputs, targets) / len(batches)
            value = ranks.mean(loss.detach(), weight=len(targets)).item()
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(f"loss is {value}", epoch, step)
            total += value
            if state.penalty is not None:
                loss = loss + state.penalty.term(len(targets)) / len(batches)
            if ranks.size() > 1:  # shares may differ in size, but DDP's mean over ranks is to be that over all samples
                loss = loss * (ranks.size() * len(targets) / config.data.batch_size)
            accelerator.backward(loss)
    if train.clip_grad is not None:
        accelerator.clip_grad_norm_(state.model.parameters(), train.clip_grad)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.updates += 1
    if state.penalty is not None:
        state.penalty.step()
    if state.controller is not None:
        state.controller.step()
    if state.ema is not None:
        state.ema.update(state.model, step=state.updates)
    if state.device.type != "cpu":
        torch.accelerator.synchronize()
    return total


def _mixed(task: Task, inputs: Tensor, targets: Any, batch_size: int, epoch: int) -> tuple[Tensor, Any]:
    """:meth:`Task.mix` of the joined batch of all processes, of which this process keeps its share."""
    if ranks.size() == 1 or not task.mixes:
        return task.mix(inputs, targets, epoch)
    axis = task.batch_axis(inputs)
    inputs = ranks.joined(inputs.movedim(axis, 0), batch_size).movedim(0, axis)
    inputs, targets = task.mix(inputs, ranks.joined(targets, batch_size), epoch)
    return ranks.share(inputs.movedim(axis, 0)).movedim(0, axis).contiguous(), ranks.share(targets)


def _chunks(batches: Batches, size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` batches; the last one may be shorter."""
    iterator = iter(batches)
    while chunk := list(islice(iterator, size)):
        yield chunk
