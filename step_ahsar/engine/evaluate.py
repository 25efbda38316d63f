"""Measuring a model: the task's metrics and the activity of its neurons."""

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.data import Datasets
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.check import check
from step_ahsar.engine.device import create_accelerator, move
from step_ahsar.engine.examples import Examples
from step_ahsar.engine.restore import LOADING, config_of, data_of, restore
from step_ahsar.engine.run import Run
from step_ahsar.measure import OperationMeter, Operations, presets
from step_ahsar.measure.firing import Distribution, FiringRateMeter
from step_ahsar.progress import followed
from step_ahsar.tasks import Task

_SHOWN = 8


@dataclass(frozen=True)
class Evaluation:
    """Measurements over a whole set of samples.

    Args:
        metrics: the task's metrics, by name.
        firing_rate: spikes per neuron and time step, by group (mean over its layers).
        dead_fraction: share of neurons that never fired.
        layers: by the layer's name in the model: group, rate, threshold_scale (None if it is not regulated) and
            dead_fraction, the share of its neurons that never fired.
        samples: truth and prediction of the first samples.
        examples: the first, best and worst samples and the confusions of classes, if they were asked for.
        neurons: the distribution of each layer's firing rates over its neurons, by the layer's name, if it was asked
            for.
        operations: of the model for one sample, if they were asked for.
    """

    metrics: dict[str, float]
    firing_rate: dict[str, float]
    dead_fraction: float
    layers: dict[str, dict[str, Any]]
    samples: list[dict[str, Any]]
    examples: Examples | None
    neurons: dict[str, Distribution]
    operations: Operations | None = None


@torch.inference_mode()
def measure(
    model: nn.Module,
    task: Task,
    batches: Iterable[Any],
    accelerator: Accelerator,
    examples: bool = False,
    count: bool = False,
    calibration: bool = False,
    distributions: bool = False,
) -> Evaluation:
    """Evaluates ``model`` on the batches of all processes, and leaves it in eval mode.

    Every process returns the same, except for ``samples``: these are the first of the process's own.

    Args:
        model: a model of the task.
        task: the task.
        batches: inputs and targets.
        accelerator: its device and precision.
        examples: whether the first, best and worst samples and the confusions of classes are kept.
        count: whether operations are counted.
        calibration: whether the metrics include the calibration error, if the task has one.
        distributions: whether the distribution of firing rates over neurons is told.

    Raises:
        Uncountable: operations are to be counted, and the model has some that cannot be.
    """
    device = accelerator.device
    model.eval()
    metrics = task.metrics(calibration)
    samples: list[dict[str, Any]] = []
    kept = Examples(task) if examples else None
    counter = OperationMeter(model) if count else None
    with FiringRateMeter(model) as meter, counter or nullcontext():
        for inputs, targets in batches:
            inputs, targets = move(inputs, device), move(targets, device)
            counted = nullcontext() if counter is None else counter.batch(inputs.shape[task.batch_axis(inputs)])
            with accelerator.autocast(), counted:
                outputs = task.predict(model, inputs)
            metrics.update(outputs, targets)
            if len(samples) < _SHOWN:
                samples += task.show(outputs, targets)[: _SHOWN - len(samples)]
            if kept is not None:
                kept.add(inputs, outputs, targets)
    meter.join()
    if kept is not None:
        kept.join()
    if counter is not None:
        counter.join()
    metrics, *others = ranks.gathered(metrics)
    for other in others:
        metrics.merge(other)
    layers = {}
    for name, layer in meter.layers().items():
        scale = model.get_submodule(name).threshold_scale
        layers[name] = {
            "group": layer.group or "all",
            "rate": layer.rate,
            "threshold_scale": scale.item() if isinstance(scale, Tensor) else None,
            "dead_fraction": layer.dead_fraction,
        }
    return Evaluation(
        metrics.compute(),
        meter.groups(),
        meter.dead_fraction(),
        layers,
        samples,
        kept,
        meter.distributions() if distributions else {},
        None if counter is None else counter.operations(),
    )


# Keys that may be overridden in evaluation: model and data are then still those of the run.
_AT_TEST = (
    *LOADING,
    "data.corruption",
    "data.shuffle_time",
    "data.test_size",
    "head.score_threshold",
    "head.test_scales",
    "head.test_flip",
    "energy.*",
)


def evaluate(
    run: str | Path,
    which: str = "last",
    overrides: Iterable[str] = (),
    operations: bool = False,
    datasets: Datasets | None = None,
) -> dict[str, Any]:
    """Evaluates a checkpoint of a run on the run's test set.

    Args:
        run: the run's directory.
        which: "last", or "best" by the task's metric on the validation set (on the test set in a run without one).
        overrides: ``"a.b=value"`` over the run's config, of keys that concern testing alone, such as
            ``data.corruption=jpeg:3`` or ``head.test_flip=true``.
        operations: whether the model's operations are counted, too.
        datasets: for a run of the data set `own` the user's data sets, as in :func:`step_ahsar.engine.train`.

    Returns:
        ``epoch``, ``metric`` (the name of the one that counts), ``metrics`` {name: value}, ``firing_rate``,
        ``dead_fraction``, ``layers`` and ``neurons`` (see :class:`Evaluation`), ``samples`` (truth and prediction of
        the first), ``operations`` (:class:`step_ahsar.measure.Operations`, or None), and ``presets`` (of the estimates
        of energy, by name).

    Raises:
        UserError: no run, no readable checkpoint, an override of something else, or data that are not those the run
            was trained on.
    """
    opened = Run.existing(Path(run))
    path = checkpoints.find(opened.checkpoints, which)
    config = config_of(opened, overrides, _AT_TEST, "in evaluation")
    check(config)
    estimates = presets(config.own_energy)
    accelerator = create_accelerator(config.train.amp)
    data = data_of(opened, config, datasets)
    checkpoint = checkpoints.load(path, accelerator.device, averaged=config.train.averages)
    task, model = restore(config, data, checkpoint, path, accelerator.device)
    batches = followed("measuring the test set", data.test_batches())
    found = measure(model, task, batches, accelerator, count=operations, distributions=True)
    return {
        "epoch": checkpoint.epoch,
        "metric": task.metric,
        "metrics": found.metrics,
        "firing_rate": found.firing_rate,
        "dead_fraction": found.dead_fraction,
        "layers": found.layers,
        "samples": found.samples,
        "neurons": found.neurons,
        "operations": found.operations,
        "presets": estimates,
    }
