"""Training a run from its config to its result, with everything written down on the way."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import Any

from step_ahsar.config import Config
from step_ahsar.data import Data, open_data
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine import manifest
from step_ahsar.engine.build import validate
from step_ahsar.engine.errors import NonFiniteLoss
from step_ahsar.engine.evaluation import find_device
from step_ahsar.engine.run import Run
from step_ahsar.engine.trainer import OnStep, Trainer

OnEpoch = Callable[[dict[str, Any]], None]

_logger = logging.getLogger(__name__)


def train(
    config: Config,
    out: str | Path,
    resume: bool = False,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Trains one run.

    Args:
        config: the run; its section `compare`, if any, is left aside.
        out: the run directory, new or of a run of the same config.
        resume: continue an unfinished run from its last good checkpoint, bit for bit as if it had never stopped; a
            directory without a run begins one.
        on_epoch: called after each epoch, once it is on disk, with its line of metrics.jsonl: ``epoch`` (from 1),
            ``train_loss``, ``metric`` (the name of the one that counts), ``metrics`` {name: value}, ``lr``, ``step_ms``
            (median), ``firing_rate`` {group: rate}, ``dead_fraction``, ``layers`` {name: {group, rate,
            threshold_scale}}, ``gamma`` {group: gain} with AHSAR, ``seconds``. Metrics and firing are those of the
            whole test set.
        on_step: called after each optimiser step with ``epoch``, ``epochs``, ``step``, ``steps``, ``loss``.

    Returns:
        The run's entry of `seeds` in summary.json: ``seed``, ``status``, ``error``, ``epochs``, ``metric`` (the name of
        the one that counts), ``metrics`` (of the last epoch), ``step_ms`` (median over the epochs'),
        ``peak_memory_mib`` (see :class:`PeakMemory`), ``firing_rate``, ``threshold_scale`` {group: mean},
        ``dead_fraction``. A run that had finished before is not trained again.

    Raises:
        UserError: a config that cannot be run, or an output folder that holds something else.
        NonFiniteLoss: training diverged; the result on disk says so, and the last good checkpoint is kept.
    """
    config = config.model_copy(update={"compare": None})
    run = Run.open(Path(out), config, resume)
    result = run.result()
    if result is not None and result["status"] == "ok":
        return result
    validate(config)
    data = open_data(config)
    trainer = Trainer(config, data, find_device())
    run.begin(_manifest(trainer, data))
    rows = _go_on(run, trainer)
    metric = trainer.task.metric
    try:
        for epoch in range(len(rows) + 1, config.train.epochs + 1):
            began = perf_counter()
            trained = trainer.train_epoch(epoch, on_step)
            found = trainer.evaluate(draw=epoch == config.train.epochs)
            row: dict[str, Any] = {
                "epoch": epoch,
                "train_loss": trained.train_loss,
                "metric": metric,
                "metrics": found.metrics,
                "lr": trained.lr,
                "step_ms": trained.step_ms,
                "firing_rate": found.firing_rate,
                "dead_fraction": found.dead_fraction,
                "layers": found.layers,
            }
            rows.append(row)
            checkpoint = trainer.end_epoch(epoch, best=_best(rows, metric), metric=row["metrics"][metric])
            if trainer.controller is not None:
                row["gamma"] = trainer.controller.gammas()
            row["seconds"] = perf_counter() - began
            run.add_metrics(row)
            if found.pictures:
                run.write_pictures(found.pictures)
            checkpoints.save(run.checkpoints, checkpoint)
            if on_epoch is not None:
                on_epoch(row)
    except NonFiniteLoss as error:
        run.write_result(_result(config.seed, metric, rows, error=str(error)))
        raise
    result = _result(config.seed, metric, rows, peak_memory_mib=trainer.memory.mib)
    run.write_result(result)
    return result


def read_result(run: str | Path) -> dict[str, Any] | None:
    """The result of a run that has ended, well or not (as :func:`train` returns it); None while it has not."""
    return Run.existing(Path(run)).result()


def _go_on(run: Run, trainer: Trainer) -> list[dict[str, Any]]:
    """Brings the trainer to where the run's last good checkpoint left it; returns the epochs that lie behind it."""
    checkpoint, faults = checkpoints.load_last(run.checkpoints, trainer.device)
    for fault in faults:
        _logger.warning("%s; going on from the one before", fault)
    if checkpoint is not None:
        trainer.load(checkpoint)
    return run.keep_metrics(0 if checkpoint is None else checkpoint.epoch)


def _best(rows: list[dict[str, Any]], metric: str) -> int:
    """The epoch with the greatest metric, the first of equals."""
    return max(rows, key=lambda row: row["metrics"][metric])["epoch"]


def _manifest(trainer: Trainer, data: Data) -> dict[str, Any]:
    return {
        "seed": trainer.config.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": trainer.config.task,
        "metric": trainer.task.metric,
        "parameters": trainer.parameters,
        "device": str(trainer.device),
        "dataset": data.describe(),
        "versions": manifest.versions(),
        "hardware": manifest.hardware(),
        "git_commit": manifest.git_commit(),
    }


def _result(
    seed: int, metric: str, rows: list[dict[str, Any]], peak_memory_mib: float | None = None, error: str | None = None
) -> dict[str, Any]:
    """The entry of `seeds` in summary.json; of a failed run the epochs before the failure, and no results."""
    last = rows[-1] if rows and error is None else None
    scales: dict[str, list[float]] = {}
    for layer in last["layers"].values() if last else ():
        if layer["threshold_scale"] is not None:
            scales.setdefault(layer["group"], []).append(layer["threshold_scale"])
    return {
        "seed": seed,
        "status": "ok" if error is None else "failed",
        "error": error,
        "epochs": rows,
        "metric": metric,
        "metrics": last["metrics"] if last else None,
        "step_ms": median(row["step_ms"] for row in rows) if last else None,
        "peak_memory_mib": peak_memory_mib,
        "firing_rate": last["firing_rate"] if last else None,
        "threshold_scale": {group: fmean(values) for group, values in scales.items()} or None,
        "dead_fraction": last["dead_fraction"] if last else None,
    }
