"""Early exit: a sample leaves as soon as the mean of its logits so far is certain enough.

No training is changed. The idea is that of Dynamic Confidence (arXiv 2303.10276), SEENN (arXiv 2304.01230) and DT-SNN
(arXiv 2305.17346, by entropy).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.config import Config
from step_ahsar.data import Batches, Data, Datasets
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.device import create_accelerator, move
from step_ahsar.engine.restore import config_of, data_of, restore
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError, unknown
from step_ahsar.measure import OperationMeter
from step_ahsar.progress import followed, work
from step_ahsar.tasks import Task
from step_ahsar.tasks.losses import precise

CRITERIA = ("confidence", "entropy")

# Certainties at which samples leave; None: never before the last step.
THRESHOLDS: tuple[float | None, ...] = (
    *(0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999),
    None,
)


def certainty(logits: Tensor, criterion: str) -> Tensor:
    """How certain a classifier is after each step.

    Args:
        logits: of every step, [T, B, K].
        criterion: "confidence": the largest probability; "entropy": 1 - H / log K, H being the entropy of the
            probabilities. Both are of the mean of the logits up to the step.

    Returns:
        Numbers in [0, 1], [T, B].
    """
    probability = _so_far(logits).softmax(-1)
    if criterion == "confidence":
        return probability.amax(-1)
    entropy = -(probability * probability.clamp(min=1e-30).log()).sum(-1)
    return 1 - entropy / math.log(logits.shape[-1])


def exit_steps(certain: Tensor, threshold: float | None) -> Tensor:
    """The step, from 1, after which each sample leaves: the first that is certain enough, else the last.

    Args:
        certain: [T, B].
        threshold: the certainty; None = the last step.

    >>> exit_steps(torch.tensor([[0.5, 0.9], [0.7, 0.8], [0.6, 0.9]]), 0.7)
    tensor([2, 1])
    """
    steps = len(certain)
    if threshold is None:
        return torch.full(certain.shape[1:], steps, device=certain.device)
    enough = certain >= threshold
    enough[-1] = True
    return 1 + enough.int().argmax(0)


def chosen(points: Sequence[dict[str, Any]]) -> float | None:
    """The threshold with the fewest steps in validation of those that are there as accurate as all steps, the last."""
    enough = [point for point in points if point["validation_acc1"] >= points[-1]["validation_acc1"]]
    return min(enough, key=lambda point: (point["validation_time_steps"], -point["validation_acc1"]))["threshold"]


def measure_early_exit(
    run: str | Path,
    criterion: str = "confidence",
    which: str = "last",
    overrides: Iterable[str] = (),
    datasets: Datasets | Data | None = None,
) -> dict[str, Any]:
    """Measures a trained run with samples that leave early, at several thresholds, and chooses one in validation.

    The chosen threshold is the one with the fewest steps among those whose validation accuracy is not below that of all
    steps. The result is in RUN/early_exit.json; if it is there already, it is read.

    Args:
        run: the run's directory.
        criterion: one of :data:`CRITERIA`.
        which: "last", or "best": the checkpoint.
        overrides: ``"a.b=value"`` over the run's config, of keys that concern the loading of data alone.
        datasets: for a run of the data set `own` the user's data sets, as in :func:`step_ahsar.engine.train`; or the
            run's data if they are open already.

    Returns:
        ``criterion``; ``epoch``; ``chosen``, the threshold; ``operations``, the synaptic operations of one sample that
        leaves after each step, mean over the test set, or None if the model's cannot be counted; and ``points`` with,
        for each threshold, ``threshold``, on the test set ``acc1``, ``time_steps`` (mean number of steps), ``shares``
        (of samples that leave after each step), ``operations`` (mean), and on the validation set
        ``validation_acc1`` and ``validation_time_steps``.

    Raises:
        UserError: no classification run, a single time step, no validation part, a model without logits for each step,
            or one whose first steps depend on later ones.
    """
    if criterion not in CRITERIA:
        raise unknown("criterion of early exit", criterion, CRITERIA)
    opened = Run.existing(Path(run))
    config = config_of(opened, overrides)
    check_early_exit(config)
    path = checkpoints.find(opened.checkpoints, which)
    kept = ranks.agreed(opened.early_exit)
    if kept is not None and (kept["criterion"], kept["epoch"]) == (criterion, checkpoints.epoch_of(path)):
        return kept
    data = data_of(opened, config, datasets)
    accelerator = create_accelerator(config.train.amp)
    checkpoint = checkpoints.load(path, accelerator.device, averaged=config.train.averages)
    # The loss on every step is what asks a model for logits of every step.
    stepwise = config.with_values({"train.loss": "tet", "train.label_smoothing": 0.0, "train.tet_lambda": 0.0})
    data = replace(data, config=stepwise)
    task, model = restore(stepwise, data, checkpoint, path, accelerator.device)
    model.eval()
    validation = data.validation_batches()
    assert validation is not None
    time_steps, test_batches = config.model.time_steps, data.test_batches()
    _check_causal(model, task, test_batches, accelerator, time_steps)
    with work("early exit", 2 + time_steps) as part:
        part("validation set")
        judged = _measure(model, validation, accelerator, criterion)
        part("test set")
        tested = _measure(model, test_batches, accelerator, criterion)
        operations = _operations(model, task, test_batches, accelerator, time_steps, part)
    points = [_point(judged, tested, threshold, operations) for threshold in THRESHOLDS]
    result = {
        "criterion": criterion,
        "epoch": checkpoint.epoch,
        "chosen": chosen(points),
        "operations": operations,
        "points": points,
    }
    ranks.agreed(lambda: opened.write_early_exit(json.loads(json.dumps(result))))
    return result


def measured_early_exit(run: str | Path, criterion: str) -> dict[str, Any] | None:
    """What was measured of a run after its last epoch; None if nothing was. Its checkpoints are not needed any more."""
    opened = Run.existing(Path(run))
    result, kept = opened.result(), opened.early_exit()
    if result is None or kept is None or not result["epochs"]:
        return None
    return kept if (kept["criterion"], kept["epoch"]) == (criterion, result["epochs"][-1]["epoch"]) else None


def check_early_exit(config: Config) -> None:
    """Raises UserError if runs of this config cannot be tested with samples that leave early."""
    if config.task != "classification":
        raise UserError(f"early exit is for classification, not for {config.task}")
    if config.model.time_steps < 2:
        raise UserError("early exit needs model.time_steps >= 2, so that a sample can leave before the last step")
    if not config.data.validation:
        raise UserError("early exit chooses its threshold on validation data: it needs data.validation > 0")


class _Measured:
    """Certainty and correctness of every sample after every step, both [T, N] on the CPU."""

    def __init__(self, certain: Tensor, correct: Tensor) -> None:
        self.certain, self.correct = certain, correct

    def at(self, threshold: float | None) -> tuple[float, Tensor]:
        """Accuracy, and the share of samples that leave after each step, [T]."""
        steps = exit_steps(self.certain, threshold)
        accuracy = self.correct.gather(0, steps[None] - 1).double().mean().item()
        shares = torch.bincount(steps - 1, minlength=len(self.certain)).double() / len(steps)
        return accuracy, shares


@torch.inference_mode()
def _measure(model: nn.Module, batches: Batches, accelerator: Accelerator, criterion: str) -> _Measured:
    certain, correct = [], []
    for inputs, targets in followed("", batches):
        inputs, targets = move(inputs, accelerator.device), move(targets, accelerator.device)
        with accelerator.autocast():
            logits = model(inputs)
        logits = precise(logits)
        certain.append(certainty(logits, criterion).cpu())
        correct.append((_so_far(logits).argmax(-1) == targets).cpu())
    parts = ranks.gathered((torch.cat(certain, 1), torch.cat(correct, 1)))
    return _Measured(*(torch.cat(each, 1) for each in zip(*parts, strict=True)))


def _so_far(logits: Tensor) -> Tensor:
    """The mean over the steps up to each, [T, B, K]."""
    counts = torch.arange(1, len(logits) + 1, device=logits.device, dtype=logits.dtype)
    return logits.cumsum(0) / counts[:, None, None]


def _point(judged: _Measured, tested: _Measured, threshold: float | None, operations: Sequence[float] | None) -> Any:
    """The results at one threshold."""
    (validation, judged_shares), (accuracy, shares) = judged.at(threshold), tested.at(threshold)
    steps = torch.arange(1, len(shares) + 1).double()
    return {
        "threshold": threshold,
        "acc1": accuracy,
        "time_steps": (shares * steps).sum().item(),
        "shares": shares.tolist(),
        "operations": None if operations is None else (shares * torch.tensor(operations).double()).sum().item(),
        "validation_acc1": validation,
        "validation_time_steps": (judged_shares * steps).sum().item(),
    }


@torch.inference_mode()
def _check_causal(model: nn.Module, task: Task, batches: Batches, accelerator: Accelerator, time_steps: int) -> None:
    """Raises UserError if what a model says after its first step depends on later ones."""
    for inputs, _ in batches.first(1):
        inputs = move(inputs, accelerator.device)
        whole = inputs if task.batch_axis(inputs) == 1 else inputs.expand(time_steps, *inputs.shape)
        cut = whole.clone()
        cut[1:] = 0
        first, alone = (precise(model(each))[0] for each in (whole, cut))
        # Rounding may flip single spikes, so a few logits may differ a little.
        if (first - alone).abs().mean() > 0.1 * first.abs().mean():
            raise UserError(
                f"{type(model).__name__} cannot exit early: what it says after the first step depends on later ones. "
                "Neurons such as psn see all steps at once; lif and sliding_psn, among others, see the past alone"
            )


def _run(model: nn.Module, task: Task, inputs: Tensor, steps: int) -> Tensor:
    """The logits after so many steps, [steps, B, K]."""
    if task.batch_axis(inputs) == 1:
        return model(inputs[:steps])
    before = model.time_steps
    model.time_steps = steps  # type: ignore[assignment]  # by which it repeats images
    try:
        return model(inputs)
    finally:
        model.time_steps = before


@torch.inference_mode()
def _operations(
    model: nn.Module,
    task: Task,
    batches: Batches,
    accelerator: Accelerator,
    time_steps: int,
    part: Callable[[str], None],
) -> list[float] | None:
    """Synaptic operations of one sample that leaves after each step, a part each; None if they cannot be counted."""
    found = []
    try:
        for steps in range(1, time_steps + 1):
            part(f"operations of {steps} time steps")
            with OperationMeter(model) as meter:
                for inputs, _ in followed("", batches):
                    inputs = move(inputs, accelerator.device)
                    with accelerator.autocast(), meter.batch(inputs.shape[task.batch_axis(inputs)]):
                        _run(model, task, inputs, steps)
            meter.join()
            found.append(meter.operations().synaptic_operations)
    except UserError:  # it has operations that cannot be counted, or is bound to its number of steps
        return None
    return found
