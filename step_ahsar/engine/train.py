"""Training a run from its config to its result."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from step_ahsar import ranks
from step_ahsar.config import Config, TrackConfig
from step_ahsar.data import Batches, Data, Datasets, derive_seed, open_data
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine import record
from step_ahsar.engine.adapt import REFERENCE, training_rates
from step_ahsar.engine.build import build_model
from step_ahsar.engine.check import check
from step_ahsar.engine.checkpoint import Checkpoint
from step_ahsar.engine.device import create_accelerator, move
from step_ahsar.engine.epoch import NonFiniteLoss, OnStep, calibrate, follow_operations, recalibrate_norms, train_epoch
from step_ahsar.engine.evaluate import Evaluation, measure
from step_ahsar.engine.examples import Examples
from step_ahsar.engine.looking import look_at
from step_ahsar.engine.run import Run
from step_ahsar.engine.starting import begin_with_thresholds
from step_ahsar.engine.state import TrainingState
from step_ahsar.engine.track import check_trackers, tracking
from step_ahsar.errors import UserError
from step_ahsar.measure import Uncountable, presets
from step_ahsar.progress import followed
from step_ahsar.tasks import Task, create_task

OnEpoch = Callable[[dict[str, Any]], None]

_LOADED = torch.device("cpu")  # where the main process reads checkpoints, for all

_logger = logging.getLogger(__name__)


def train(
    config: Config,
    out: str | Path,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    datasets: Datasets | Data | None = None,
) -> dict[str, Any]:
    """Trains one run, alone or with the other processes that ``torchrun`` or ``accelerate launch`` has started.

    Of several processes each trains on its share of every batch, and all return the same. The first one alone reads and
    writes the run's folder and calls the hooks.

    Args:
        config: the config of the run. Its sections `compare` and `launch` are ignored; `track` changes no result.
        out: the run's folder, new or of a run of the same config.
        resume: continue an unfinished run from its last good checkpoint, bit for bit as if it had not been interrupted.
            If there is no run, one is started.
        on_epoch: called after each epoch, once it is on disk, with its line of metrics.jsonl: ``epoch`` (from 1),
            ``train_loss``, ``metric`` (the name of the metric that runs are judged by), ``metrics`` {name: value},
            ``lr``, ``step_ms`` (median), ``firing_rate`` {group: rate}, ``dead_fraction``, ``layers`` {name: {group,
            rate, threshold_scale, dead_fraction}}, ``gamma`` {group: gain} with AHSAR, ``rate_penalty`` {weight, rate,
            budget} after the last step, with a penalty, ``seconds``. Metrics and firing rates are those of the
            validation set, or of the test set with ``data.validation: 0``.
        on_step: called after each optimiser step with ``epoch``, ``epochs``, ``step``, ``steps``, ``loss``.
        datasets: with ``data.name: own`` (or ``own/<a name for it>``) the user's map-style Datasets, as
            ``{"train": ..., "test": ...}`` and perhaps ``"validation"``, see :func:`step_ahsar.data.own.open_own`. Or
            the data that the config names if they are open already.

    Returns:
        The run's entry of `seeds` in summary.json: ``seed``, ``status``, ``error``, ``epochs``, ``metric`` (the name of
        the metric that runs are judged by), ``metrics`` (on the test set, after the last epoch), ``best`` (the epoch
        with the best metric, and its ``metrics`` on the test set), ``step_ms`` (median over the epochs),
        ``peak_memory_mib``, ``firing_rate``, ``threshold_scale`` {group: mean}, ``dead_fraction``. A run that has ended
        well is not trained again.

    Raises:
        UserError: a config that cannot be run, an output folder that contains something else or that another process
            trains in (:class:`InUse`), a data set that has changed since the run began or that differs between the
            processes, a device without the memory that the run needs, or a process that has ended
            (:class:`step_ahsar.ranks.LostRank`).
        NonFiniteLoss: training diverged. The result on disk says so, and the last good checkpoint is kept.
    """
    track, config = config.track, config.single()
    check_trackers(track)
    accelerator = create_accelerator(config.train.amp)
    path = Path(out)

    def finished() -> dict[str, Any] | None:
        result = Run.open(path, config, resume).result()
        return result if result is not None and result["status"] == "ok" else None

    with ranks.watched(f"the last checkpoint in {path} is kept; continue with the same command and --resume"):
        if (result := ranks.agreed(finished)) is not None:
            return result
        check(config)
        data = open_data(config, datasets)
        if len(set(ranks.gathered(data.splits.fingerprint))) > 1:
            raise UserError(f"dataset {config.data.name!r} is not the same for all processes")
        batches = data.train_batches(config.seed)
        task, state = prepare(config, data, accelerator)
        run = Run(path, config)

        def begin() -> dict[str, Any] | None:
            if (result := finished()) is not None:  # by another process, in the meantime
                return result
            if run.has_begun:
                run.check_data(data)
            run.begin(record.manifest(config, data, task, state))
            return None

        with ExitStack() as stack:
            ranks.agreed(lambda: stack.enter_context(run.held()))
            if (result := ranks.agreed(begin)) is not None:
                return result
            try:
                return _train(run, task, state, data, batches, track, on_epoch, on_step)
            except torch.OutOfMemoryError as error:
                told = str(error).splitlines()[0]
                raise UserError(
                    f"{accelerator.device} has too little memory for this run: {told} Each device "
                    "holds the whole model, which is not divided among several here; take a smaller data.batch_size "
                    "(with train.accumulate for the same step) or a smaller model"
                ) from error


def prepare(config: Config, data: Data, accelerator: Accelerator) -> tuple[Task, TrainingState]:
    """The task and the state before the first step.

    Raises:
        UserError: an image size that the model cannot take.
    """
    task = create_task(config, data.classes)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    model = build_model(config.model, task, data.in_chans, data.sizes, data.spec.ndim).to(accelerator.device)
    return task, TrainingState.start(model, config, accelerator)


def _train(
    run: Run,
    task: Task,
    state: TrainingState,
    data: Data,
    batches: Callable[[int], Batches],
    track: TrackConfig,
    on_epoch: OnEpoch | None,
    on_step: OnStep | None,
) -> dict[str, Any]:
    """Trains a run from its last checkpoint to its result."""
    config, test_batches = run.config, data.test_batches()
    judging = data.validation_batches() or test_batches
    rows = _go_on(run, state, averaged=config.train.averages)

    def keep(row: dict[str, Any], kept: Checkpoint) -> None:
        run.add_metrics(row)
        checkpoints.save(run.checkpoints, kept)
        trackers.epoch(row)
        if on_epoch is not None:
            on_epoch(row)

    def end(result: dict[str, Any], examples: Examples | None) -> dict[str, Any]:
        if examples is not None:
            try:
                run.write_examples(*_shown(examples, state, len(rows)))
            except Exception as fault:  # pictures must not cost the result
                _logger.warning("the run has no examples for its page: %s: %s", type(fault).__name__, fault)
        run.write_result(result)
        return result

    try:
        if not rows:
            begin_with_thresholds(state, config)
            calibrate(state, task, batches(1), config)
        with tracking(config, track, run.path, rows, state.accelerator) as trackers:
            for epoch in range(len(rows) + 1, config.train.epochs + 1):
                if record.has_stalled(rows, task.metric, config.train.patience):
                    break
                began = perf_counter()
                trained = train_epoch(state, task, batches(epoch), config, epoch, on_step if ranks.is_main() else None)
                follow_operations(state, task, batches(epoch), config)
                recalibrate_norms(state, task, batches(epoch), config, epoch)
                judged = followed(f"measuring the {config.judged_on} set", judging)
                found = measure(state.judged, task, judged, state.accelerator)
                row = record.epoch_row(epoch, task.metric, trained, found)
                rows.append(row)
                best = record.best_epoch(rows, task.metric)
                kept = state.end_epoch(epoch, best, metric=row["metrics"][task.metric])
                if state.controller is not None:
                    row["gamma"] = state.controller.gammas()
                if state.penalty is not None:
                    row["rate_penalty"] = state.penalty.state_dict()
                row["seconds"] = perf_counter() - began
                ranks.agreed(partial(keep, row, kept))
    except NonFiniteLoss as error:
        failed = record.failed(config.seed, task.metric, rows, str(error))
        ranks.agreed(lambda: run.write_result(failed))
        raise
    last, best_found = _test(run, task, state, rows, test_batches, data.reference_batches(REFERENCE))
    estimates = presets(config.own_energy)
    result = record.result(config.seed, task.metric, rows, last, best_found, state.memory.mib, estimates)
    return ranks.agreed(lambda: end(result, last.examples))


def read_result(run: str | Path) -> dict[str, Any] | None:
    """The result of a run that has ended, well or not (as :func:`train` returns it); None while it has not."""
    return Run.existing(Path(run)).result()


def _go_on(run: Run, state: TrainingState, averaged: bool) -> list[dict[str, Any]]:
    """Restores the last good checkpoint of the run, if any. Returns the epochs that it was trained for."""

    def found() -> tuple[Checkpoint | None, list[dict[str, Any]]]:
        checkpoint, faults = checkpoints.load_last(run.checkpoints, _LOADED, averaged)
        for fault in faults:
            _logger.warning("%s; continuing from the one before", fault)
        return checkpoint, run.keep_metrics(0 if checkpoint is None else checkpoint.epoch)

    checkpoint, rows = ranks.agreed(found)
    if checkpoint is not None:
        with checkpoints.reading(checkpoints.path_of(run.checkpoints, checkpoint.epoch)):
            state.load(checkpoint)
    return rows


def _shown(examples: Examples, state: TrainingState, epoch: int) -> tuple[dict[str, Any], dict[str, Image.Image]]:
    """What a reader of the run is shown of the test set: examples, and a look at the first of them."""
    record, pictures = examples.record()
    first = examples.kinds["first"][0]
    inputs, targets = move(first.inputs, state.device), move(first.targets, state.device)
    with state.accelerator.autocast():
        seen = look_at(state.judged, examples.task, inputs, targets, first.sample)
    if seen.image is not None:
        pictures["input.png"] = seen.image
    return {"epoch": epoch, **record, "look": seen.record()}, pictures


def _test(
    run: Run, task: Task, state: TrainingState, rows: list[dict[str, Any]], batches: Batches, reference: Batches
) -> tuple[Evaluation, dict[str, Any]]:
    """Measures the test set with the last and with the best checkpoint, and keeps their rates on training data.

    Checkpoints have the thresholds with which the epoch was validated.
    """
    averaged = run.config.train.averages
    best = record.best_epoch(rows, task.metric)
    found: dict[int, Evaluation] = {}
    rates: dict[int, dict[str, float]] = {}
    for epoch in {best: None, len(rows): None}:
        path = checkpoints.path_of(run.checkpoints, epoch)
        weights = ranks.agreed(partial(checkpoints.load, path, _LOADED, averaged)).judged
        checkpoints.put_into(state.judged, weights, path)
        is_last = epoch == len(rows)
        tested = partial(followed, f"measuring the test set after epoch {epoch}", batches)
        once = partial(measure, state.judged, task, examples=is_last, distributions=is_last)
        try:
            found[epoch] = once(tested(), state.accelerator, count=is_last)
        except Uncountable as fault:
            _logger.warning("%s: the result has none", fault)
            found[epoch] = once(tested(), state.accelerator)
        rates[epoch] = training_rates(state.judged, reference, state.accelerator)
    ranks.agreed(partial(run.write_rates, rates))
    return found[len(rows)], {"epoch": best, "metrics": found[best].metrics}
