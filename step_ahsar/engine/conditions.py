"""Measuring a trained model under conditions other than those of its training, each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from step_ahsar import ranks
from step_ahsar.config import Config
from step_ahsar.data import Data, Datasets, find_dataset, seeded
from step_ahsar.data.images.transforms import statistics
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.adapt import adapt, several, use_batch_statistics
from step_ahsar.engine.checkpoint import Checkpoint
from step_ahsar.engine.device import create_accelerator, move
from step_ahsar.engine.evaluate import measure
from step_ahsar.engine.restore import config_of, data_of, restore
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.progress import followed, work
from step_ahsar.robustness import Attacker, Condition, check_installed, expand
from step_ahsar.tasks import Task

Row = dict[str, Any]


def conditions_of(names: Sequence[str], configs: Sequence[Config]) -> list[tuple[str, ...]]:
    """The conditions of each of several configs, by their full names: those of the names that apply to its data.

    Raises:
        UserError: a name that does not exist, or applies to none of them.
    """
    found: list[list[str]] = [[] for _ in configs]
    for name in names:
        faults = []
        for config, own in zip(configs, found, strict=True):
            try:
                own += [each.name for each in expand([name], config, find_dataset(config.data.name))]
            except UserError as fault:
                faults.append(fault)
        if configs and len(faults) == len(configs):
            raise UserError(f"compare.conditions: {faults[0]}")
    return [tuple(dict.fromkeys(own)) for own in found]


def measured_conditions(run: str | Path) -> dict[str, Row]:
    """What was measured of a run after its last epoch, by condition. Its checkpoints are not needed any more."""
    opened = Run.existing(Path(run))
    result = opened.result()
    return {} if result is None or not result["epochs"] else _known(opened, result["epochs"][-1]["epoch"])


def measure_conditions(
    run: str | Path,
    conditions: Sequence[str],
    which: str = "last",
    overrides: Iterable[str] = (),
    datasets: Datasets | Data | None = None,
    on_condition: Callable[[Row], None] | None = None,
) -> dict[str, Row]:
    """Measures a trained run on its test set under conditions, and on the clean one.

    The records are in RUN/conditions.jsonl. What is there already is not measured again.

    Args:
        run: the run's directory.
        conditions: their names, see :func:`step_ahsar.robustness.expand`.
        which: "last", or "best": the checkpoint.
        overrides: ``"a.b=value"`` over the run's config, of keys that concern the loading of data alone.
        datasets: for a run of the data set `own` the user's data sets, as in :func:`step_ahsar.engine.train`; or the
            run's data if they are open already.
        on_condition: called with each record.

    Returns:
        By condition: ``condition``, ``epoch`` (the checkpoint's), ``metrics`` (with ``ece`` for classification),
        ``firing_rate``, ``dead_fraction``, and ``error``: None, or why the condition does not apply to this model; in
        that case there are no figures.

    Raises:
        UserError: no run, no readable checkpoint, a condition that does not exist or does not apply to its data, or
            data that are not those the run was trained on.
    """
    opened = Run.existing(Path(run))
    config = config_of(opened, overrides)
    wanted = expand(conditions, config, find_dataset(config.data.name))
    path = checkpoints.find(opened.checkpoints, which)
    known = ranks.agreed(lambda: _known(opened, checkpoints.epoch_of(path)))
    left = [each for each in wanted if each.name not in known]
    check_installed(each.name for each in left)
    if left:
        data = data_of(opened, config, datasets)
        accelerator = create_accelerator(config.train.amp)
        checkpoint = checkpoints.load(path, accelerator.device, averaged=config.train.averages)
    with work("condition", len(left)) as begin:
        for condition in wanted:
            if condition in left:
                begin(condition.name)
                rates = partial(opened.rates, checkpoint.epoch)
                with work("", 1 + (condition.adapt == "thresholds")) as step:
                    row = _measure(config, data, condition, checkpoint, path, rates, accelerator, step)
                ranks.agreed(partial(opened.add_condition, row))
                known[condition.name] = row
            if on_condition is not None:
                on_condition(known[condition.name])
    return {each.name: known[each.name] for each in wanted}


def _known(run: Run, epoch: int) -> dict[str, Row]:
    return {row["condition"]: row for row in run.conditions() if row["epoch"] == epoch}


def _measure(
    config: Config,
    data: Data,
    condition: Condition,
    checkpoint: Checkpoint,
    path: Path,
    rates: Callable[[], dict[str, float]],
    accelerator: Accelerator,
    step: Callable[[str], None],
) -> Row:
    """The record of one condition. Each step of it is told as it begins."""
    row = {"condition": condition.name, "epoch": checkpoint.epoch}
    config = config.with_values(condition.settings)
    data = replace(data, config=config)
    tested = data.test_batches()
    batches: Iterable[Any] = tested
    try:
        task, model = restore(config, data, checkpoint, path, accelerator.device)
        if condition.change is not None:
            with seeded(config.seed, "condition", condition.name):
                condition.change(model)
        if condition.attack is not None:
            mean, std = (torch.tensor(values).view(-1, 1, 1) for values in statistics(config.data, data.spec))
            attacker = Attacker(model, mean, std, len(data.classes))
            batches = attacker.batches(batches, condition.attack, condition.size)
        if condition.adapt == "norm":
            if not use_batch_statistics(model):
                raise UserError("the model has no batch norm whose statistics could be adapted")
            batches = several(batches, task)
        if condition.adapt == "thresholds":
            step("adapting thresholds")
            adapt(model, task, batches, rates(), accelerator)
        elif condition.of_model:
            _try(model, task, data)
    except UserError as fault:
        if not condition.of_model:
            raise
        none = dict.fromkeys(("metrics", "firing_rate", "dead_fraction"))
        return row | none | {"error": " ".join(str(fault).split())}
    step("")
    found = measure(model, task, followed("", batches, len(tested)), accelerator, calibration=True)
    figures = {"metrics": found.metrics, "firing_rate": found.firing_rate, "dead_fraction": found.dead_fraction}
    return row | figures | {"error": None}


@torch.inference_mode()
def _try(model: nn.Module, task: Task, data: Data) -> None:
    """Raises the UserError of a model that cannot take such inputs, as one that is bound to its number of steps."""
    for inputs, _ in data.test_batches().first(1):
        device = next(model.parameters()).device
        task.predict(model.eval(), move(inputs, device))
