"""Telling trackers what is measured: TensorBoard always, others by the config's section `track`, through accelerate.

TensorBoard's files are made of metrics.jsonl. A continued run writes them anew, so that every epoch is there once.
"""

import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, TensorBoardTracker

from step_ahsar import ranks
from step_ahsar.config import Config, TrackConfig, flat
from step_ahsar.errors import UserError
from step_ahsar.files import digest

FOLDER = "tensorboard"

_logger = logging.getLogger(__name__)


class Trackers:
    """The trackers of one run, made by :func:`tracking`. One that fails is left out from then on; the run goes on."""

    def __init__(self, trackers: Iterable[GeneralTracker], part: str) -> None:
        self._trackers, self._part = list(trackers), part

    def epoch(self, row: dict[str, Any]) -> None:
        """Tells a line of metrics.jsonl."""
        for tracker in list(self._trackers):
            try:
                tracker.log(values_of(row, self._part), step=row["epoch"])
            except Exception as error:  # of a network, say
                self._trackers.remove(tracker)
                _logger.warning("%s is not told any more: %s: %s", tracker.name, type(error).__name__, error)


@contextmanager
def tracking(
    config: Config, track: TrackConfig, path: Path, rows: Sequence[dict[str, Any]], accelerator: Accelerator
) -> Iterator[Trackers]:
    """The trackers of a run in the block; those of the main process. In the others there are none.

    Args:
        config: the run's config, which trackers with a place for it are told.
        track: which trackers, and their options.
        path: the run's folder.
        rows: the epochs that the run has already.
        accelerator: starts them.

    Raises:
        UserError: a tracker whose package is not installed, or that could not be started.
    """
    if not ranks.is_main():
        yield Trackers([], config.judged_on)
        return
    shutil.rmtree(path / FOLDER, ignore_errors=True)
    board = TensorBoardTracker(FOLDER, path)
    accelerator.log_with = [board, *track.to]
    try:
        accelerator.init_trackers(track.project, init_kwargs=_options(track, path))
    except Exception as error:
        for tracker in accelerator.trackers:
            with suppress(Exception):  # one that has not started cannot be ended, either
                tracker.finish()
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"cannot start the trackers {', '.join(track.to)}: {reason}") from error
    trackers = list(accelerator.trackers)
    try:
        for tracker in trackers:
            if tracker is not board:  # its table of settings is one of results, which are not known yet
                tracker.store_init_configuration(_settings(config))
        for row in rows:
            Trackers([board], config.judged_on).epoch(row)
        yield Trackers(trackers, config.judged_on)
    finally:
        for tracker in trackers:
            tracker.finish()
        accelerator.trackers = []


def check_trackers(track: TrackConfig) -> None:
    """Raises UserError for a tracker whose package is not installed. accelerate would leave it out silently."""
    for name in track.to:
        if find_spec(name) is None:
            raise UserError(f"track.to: {name!r} is not installed: pip install {name}")
    for other in track.options.keys() - {*track.to}:
        raise UserError(f"track.options.{other}: it is not in track.to, which has {', '.join(track.to) or 'none'}")


def values_of(row: dict[str, Any], part: str) -> dict[str, float]:
    """What trackers are told of an epoch, by names such as "validation/acc1" or "rate/blocks.0.attn.q.neuron"."""
    values = {"train/loss": row["train_loss"], "train/lr": row["lr"], "train/step_ms": row["step_ms"]}
    values |= {f"{part}/{name}": value for name, value in row["metrics"].items()}
    values |= {f"firing_rate/{group}": rate for group, rate in row["firing_rate"].items()}
    values |= {f"gamma/{group}": gain for group, gain in row.get("gamma", {}).items()}
    values |= {f"rate_penalty/{name}": value for name, value in row.get("rate_penalty", {}).items()}
    values["dead_fraction"] = row["dead_fraction"]
    for name, layer in row["layers"].items():
        values[f"rate/{name}"] = layer["rate"]
        if layer["threshold_scale"] is not None:
            values[f"threshold_scale/{name}"] = layer["threshold_scale"]
    return values


def _options(track: TrackConfig, path: Path) -> dict[str, dict[str, Any]]:
    """What each tracker is started with: the run's name, an id to find it again, and the user's own options."""
    name = "/".join(path.resolve().parts[-2:])
    identity = digest(str(path.resolve()).encode())[:16]
    known: dict[str, dict[str, Any]] = {
        "wandb": {"name": name, "id": identity, "resume": "allow"},
        "mlflow": {"run_name": name},
        "trackio": {"name": f"{name}-{identity}", "resume": "allow"},
    }
    return {each: known[each] | track.options.get(each, {}) for each in track.to}


def _settings(config: Config) -> dict[str, Any]:
    """The config by dotted keys, with values that every tracker takes."""
    plain = (bool, int, float, str)
    return {key: value if isinstance(value, plain) else str(value) for key, value in flat(config.to_dict()).items()}
