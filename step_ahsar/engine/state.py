"""A model in training, with all state from which training can be resumed bit for bit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from step_ahsar import internals
from step_ahsar.ahsar import Controller, is_regulated, regulate
from step_ahsar.config import Config, TrainConfig
from step_ahsar.engine.checkpoint import Checkpoint
from step_ahsar.engine.penalty import RatePenalty
from step_ahsar.layers import sync_batch_norms
from step_ahsar.measure.memory import PeakMemory
from step_ahsar.neurons import own_parameters


@dataclass
class TrainingState:
    """All that changes while a run trains.

    Args:
        accelerator: moves, casts and joins, see :func:`step_ahsar.engine.device.create_accelerator`.
        model: the model with the task's head, on the device.
        trained: the same as accelerate has prepared it, for training: its gradients are averaged over all processes.
        controller: its AHSAR controller; None if it is not regulated.
        optimizer: the optimiser.
        scheduler: schedule of the learning rate, stepped once per epoch.
        ema: averaged weights, if any.
        penalty: on the firing rate, if any.
        memory: peak memory of training steps.
        updates: number of optimiser steps so far.
        warm: whether an epoch was trained in this process, so that kernels are compiled.
    """

    accelerator: Accelerator
    model: nn.Module
    trained: nn.Module
    controller: Controller | None
    optimizer: AcceleratedOptimizer
    scheduler: Scheduler
    ema: ModelEmaV3 | None
    penalty: RatePenalty | None
    memory: PeakMemory
    updates: int = 0
    warm: bool = False

    @classmethod
    def start(cls, model: nn.Module, config: Config, accelerator: Accelerator) -> "TrainingState":
        """The state before the first step, of a model on the device."""
        train = config.train
        if train.sync_bn and accelerator.num_processes > 1:
            sync_batch_norms(model)
        controller = regulate(model, config=config.ahsar) if is_regulated(model) else None
        optimizer = _optimizer(model, train)
        # A schedule of one epoch is constant: timm would warn. Steps that do not decay are what newer releases of timm
        # call "constant".
        varies = train.schedule != "constant" and train.epochs > 1
        scheduler, _ = create_scheduler_v2(
            optimizer,
            sched=train.schedule if varies else "step",
            decay_rate=1.0,
            decay_epochs=1,
            num_epochs=train.epochs - train.cooldown_epochs,
            warmup_epochs=train.warmup_epochs,
            warmup_lr=train.warmup_lr,
            min_lr=train.min_lr,
            cooldown_epochs=train.cooldown_epochs,
        )
        ema = ModelEmaV3(model, decay=train.ema_decay) if train.ema_decay else None
        penalty = RatePenalty(model, train.rate_penalty) if train.rate_penalty.is_on else None
        trained, prepared = accelerator.prepare(model, optimizer)
        memory = PeakMemory(accelerator.device)
        return cls(accelerator, model, trained, controller, prepared, scheduler, ema, penalty, memory)

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self.accelerator.device

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def judged(self) -> nn.Module:
        """The model that is evaluated: the averaged one if there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def resident_bytes(self) -> int:
        """Weights, buffers, averaged weights and optimiser state, which stay between steps."""
        kept = list(self.model.state_dict().values())
        if self.ema is not None:
            kept += self.ema.module.state_dict().values()
        for state in self.optimizer.state.values():
            kept += [value for value in state.values() if isinstance(value, Tensor)]
        return sum(tensor.nbytes for tensor in kept)

    def end_epoch(self, epoch: int, best: int, metric: float) -> Checkpoint:
        """Runs the controller's slow loop with the validation metric, and returns the epoch's checkpoint.

        The slow loop changes thresholds. The checkpoint has the weights and thresholds as they were validated, so that
        evaluating it gives the same metric, and the controller's state after the slow loop, for training to continue.
        """
        model, averaged = _copy(self.model), None if self.ema is None else _copy(self.ema.module)
        if self.controller is not None:
            self.controller.epoch_end(metric)
        rest = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": {} if self.accelerator.scaler is None else self.accelerator.scaler.state_dict(),
            "controller": None if self.controller is None else self.controller.state_dict(),
            "penalty": None if self.penalty is None else self.penalty.state_dict(),
            "updates": self.updates,
            "peak_memory_mib": self.memory.mib,
        }
        return Checkpoint(epoch, best, model, averaged, rest)

    def load(self, checkpoint: Checkpoint) -> None:
        """Restores a checkpoint of the same config."""
        rest = checkpoint.state
        self.model.load_state_dict(checkpoint.model)
        if self.ema is not None:
            assert checkpoint.ema is not None, "it was read as a checkpoint of a run that averages weights"
            self.ema.module.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(rest["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(rest["scaler"])
        if self.controller is not None:
            self.controller.load_state_dict(rest["controller"])  # sets the thresholds, too
        if self.penalty is not None:
            self.penalty.load_state_dict(rest["penalty"])
        self.updates, self.memory.mib = rest["updates"], rest["peak_memory_mib"]


def _optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """An optimiser of timm, without weight decay on biases, norms and the neurons' own parameters.

    Its first group has the learning rate of the config.
    """
    internals.load_compiler()  # some of timm's optimisers (kron) compile their step
    groups: Any = model
    if train.weight_decay or train.head_lr != 1:
        groups = param_groups_weight_decay(model, train.weight_decay, no_weight_decay_list=own_parameters(model))
    if train.head_lr != 1:
        head = {id(parameter) for parameter in cast(Any, model).get_classifier().parameters()}
        groups = [part for group in groups for part in _split(group, head, train.head_lr)]
        groups.sort(key=lambda group: "lr_scale" in group)
    return create_optimizer_v2(groups, opt=train.optimizer, lr=train.lr, weight_decay=0.0)


def _split(group: dict[str, Any], head: set[int], factor: float) -> Iterator[dict[str, Any]]:
    """The parameters of a group that are not the head's, and those that are, each unless there are none.

    timm's schedules multiply the learning rate of a group by its "lr_scale". The head's weights decay in a step as
    before: optimisers multiply the decay by the learning rate.
    """
    rest = [parameter for parameter in group["params"] if id(parameter) not in head]
    own = [parameter for parameter in group["params"] if id(parameter) in head]
    if rest:
        yield {**group, "params": rest}
    if own:
        yield {**group, "params": own, "lr_scale": factor, "weight_decay": group["weight_decay"] / factor}


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
