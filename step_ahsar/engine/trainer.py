"""A model in training: steps, epochs, and a state from which it goes on bit for bit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from statistics import median
from time import perf_counter
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from step_ahsar.ahsar import is_regulated, regulate
from step_ahsar.config import Config
from step_ahsar.data import Data, derive_seed, seeded
from step_ahsar.engine.build import build_model
from step_ahsar.engine.checkpoint import Checkpoint
from step_ahsar.engine.errors import NonFiniteLoss
from step_ahsar.engine.evaluation import Evaluation, autocast, measure, move
from step_ahsar.engine.memory import PeakMemory
from step_ahsar.tasks import create_task

WARMUP_STEPS = 3  # left out of times and memory: kernels compile in them

OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class EpochResult:
    """What an epoch of training measured of itself: mean loss, learning rate, median step in ms."""

    train_loss: float
    lr: float
    step_ms: float


class Trainer:
    """Everything that changes while a run trains.

    All randomness is a function of the config's seed and the epoch: weights, data order, augmentation, mixing, and
    whatever the model draws. So cells of a comparison share them, and a resumed run needs no generator's state.

    Args:
        config: the run.
        data: its opened data set.
        device: where to train.

    Raises:
        UserError: a config that cannot be built, see :func:`step_ahsar.engine.validate`.
    """

    def __init__(self, config: Config, data: Data, device: torch.device) -> None:
        self.config, self.device = config, device
        train = config.train
        autocast(device, train.amp)  # refuses what the device cannot do
        self.task = create_task(config, data.classes)
        torch.manual_seed(derive_seed(config.seed, "weights"))
        self.model = build_model(config.model, self.task, data.in_chans, data.size, data.spec.ndim).to(device)
        self.controller = regulate(self.model, config=config.ahsar) if is_regulated(self.model) else None
        self.optimizer = create_optimizer_v2(
            self.model, opt=train.optimizer, lr=train.lr, weight_decay=train.weight_decay
        )
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched=train.schedule if train.epochs > 1 else "constant",  # the same; timm warns of cosines over one epoch
            num_epochs=train.epochs - train.cooldown_epochs,
            warmup_epochs=train.warmup_epochs,
            warmup_lr=train.warmup_lr,
            min_lr=train.min_lr,
            cooldown_epochs=train.cooldown_epochs,
        )
        self.ema = ModelEmaV3(self.model, decay=train.ema_decay) if train.ema_decay else None
        self.scaler = torch.amp.GradScaler(device.type, enabled=train.amp == "fp16")
        self.memory = PeakMemory(device)
        self.updates = 0
        self._batches = data.train_batches(config.seed)
        self._test_batches = data.test_batches()
        self._warm = False

    @property
    def parameters(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.model.parameters())

    # -- an epoch ----------------------------------------------------------------------------------------------------

    def train_epoch(self, epoch: int, on_step: OnStep | None = None) -> EpochResult:
        """Trains for one epoch, counted from 1.

        Raises:
            NonFiniteLoss: the loss, or at the end of the epoch a weight, is NaN or infinite.
        """
        torch.manual_seed(derive_seed(self.config.seed, "epoch", epoch))
        self.scheduler.step(epoch - 1)
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        batches = self._batches(epoch)
        accumulate = self.config.train.accumulate
        steps = -(-len(batches) // accumulate)
        warm_up = min(WARMUP_STEPS, steps - 1)
        losses, times = [], []
        self.model.train()
        for step, group in enumerate(_chunks(batches, accumulate), start=1):
            if step == warm_up + 1:
                self.memory.start()
            began = perf_counter()
            loss = self._step(group, epoch, step)
            times.append(1000 * (perf_counter() - began))
            losses.append(loss)
            if on_step is not None:
                epochs = self.config.train.epochs
                on_step({"epoch": epoch, "epochs": epochs, "step": step, "steps": steps, "loss": loss})
        self.memory.stop(self._resident_bytes())
        if not all(tensor.isfinite().all() for tensor in self.model.state_dict().values()):
            raise NonFiniteLoss("a weight is not finite", epoch, steps)
        timed = times if self._warm else times[warm_up:]
        self._warm = True
        return EpochResult(sum(losses) / len(losses), lr, median(timed))

    def evaluate(self, draw: bool = False) -> Evaluation:
        """Measures the averaged model if there is one, else the model, on the test set."""
        model = self.model if self.ema is None else self.ema.module
        return measure(model, self.task, self._test_batches, self.device, self.config.train.amp, draw)

    def end_epoch(self, epoch: int, best: int, metric: float) -> Checkpoint:
        """Lets the controller know how the epoch's validation went; returns what is to be kept of the epoch.

        The controller's slow loop moves thresholds. Its own state is kept as it is afterwards, for training to go on
        with; the weights and thresholds as they were validated, so that evaluating the checkpoint gives the same again.
        """
        model = _copy(self.model)
        averaged = None if self.ema is None else _copy(self.ema.module)
        if self.controller is not None:
            self.controller.epoch_end(metric)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "controller": None if self.controller is None else self.controller.state_dict(),
            "updates": self.updates,
            "peak_memory_mib": self.memory.mib,
        }
        return Checkpoint(epoch, best, model, averaged, state)

    def load(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint of the same config."""
        state = checkpoint.state
        self.model.load_state_dict(checkpoint.model)
        if self.ema is not None:
            assert checkpoint.ema is not None
            self.ema.module.load_state_dict(checkpoint.ema)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.controller is not None:
            self.controller.load_state_dict(state["controller"])  # sets the thresholds, too
        self.updates, self.memory.mib = state["updates"], state["peak_memory_mib"]

    def _step(self, batches: Sequence[Any], epoch: int, step: int) -> float:
        """One update from the batches' joint gradient; returns the mean loss."""
        train, total = self.config.train, 0.0
        for part, (inputs, targets) in enumerate(batches):
            inputs, targets = move(inputs, self.device), move(targets, self.device)
            with seeded(self.config.seed, "mix", epoch, step, part):
                inputs, targets = self.task.mix(inputs, targets, epoch)
            with autocast(self.device, train.amp):
                loss = self.task.loss(self.model, inputs, targets) / len(batches)
            value = loss.item()
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(f"loss is {value}", epoch, step)
            total += value
            self.scaler.scale(loss).backward()
        if train.clip_grad is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.updates += 1
        if self.controller is not None:
            self.controller.step()
        if self.ema is not None:
            self.ema.update(self.model, step=self.updates)
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return total

    def _resident_bytes(self) -> int:
        """Weights, buffers, averaged weights and optimiser state, which stay between steps."""
        kept = list(self.model.state_dict().values())
        if self.ema is not None:
            kept += self.ema.module.state_dict().values()
        for state in self.optimizer.state.values():
            kept += [value for value in state.values() if isinstance(value, Tensor)]
        return sum(tensor.nbytes for tensor in kept)


def _chunks(batches: Any, size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` batches; the last one may be shorter."""
    iterator = iter(batches)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
