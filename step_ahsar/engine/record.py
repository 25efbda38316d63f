"""The records of a run: its manifest, its epochs, its result."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from step_ahsar import __version__, ranks
from step_ahsar.config import Config
from step_ahsar.data import Data
from step_ahsar.engine.epoch import EpochResult
from step_ahsar.engine.evaluate import Evaluation
from step_ahsar.engine.state import TrainingState
from step_ahsar.measure import LayerOperations, Operations, Preset, energy
from step_ahsar.tasks import Task

# The totals of operations that a result holds.
OPERATIONS = ("macs", "macs_repeated", "synaptic_operations", "dense_macs", "updates", "spikes")

_LIBRARIES = ("timm", "numpy", "torchvision", "torchmetrics", "accelerate", "scikit-learn")


def manifest(config: Config, data: Data, task: Task, state: TrainingState) -> dict[str, Any]:
    """The manifest: everything that a run was made with."""
    return {
        "seed": config.seed,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "task": config.task,
        "metric": task.metric,
        "parameters": state.parameters,
        "device": str(state.device),
        "processes": ranks.size(),
        "dataset": data.describe() | _padding(data, state),
        "input": {"channels": data.in_chans, "size": data.size},
        "versions": versions(),
        "hardware": hardware(),
        "git_commit": git_commit(),
    }


def _padding(data: Data, state: TrainingState) -> dict[str, Any]:
    """The length of series, and the one to which the model pads them, if it does."""
    stride = getattr(state.model, "stride", None)
    if not isinstance(data.size, int) or data.spec.ndim != 1 or not isinstance(stride, int) or not data.size % stride:
        return {}
    return {"length": data.size, "padded_to": -(-data.size // stride) * stride}


def epoch_row(epoch: int, metric: str, trained: EpochResult, found: Evaluation) -> dict[str, Any]:
    """A line of metrics.jsonl, without the controller's gains and the epoch's duration."""
    return {
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


def best_epoch(rows: list[dict[str, Any]], metric: str) -> int:
    """The epoch with the highest metric; of equal ones the first."""
    return max(rows, key=lambda row: row["metrics"][metric])["epoch"]


def has_stalled(rows: list[dict[str, Any]], metric: str, patience: int | None) -> bool:
    """Whether the best epoch is ``patience`` epochs ago; never for None."""
    return patience is not None and bool(rows) and len(rows) - best_epoch(rows, metric) >= patience


def result(
    seed: int,
    metric: str,
    rows: list[dict[str, Any]],
    last: Evaluation,
    best: dict[str, Any],
    peak_memory_mib: float | None,
    presets: Mapping[str, Preset],
) -> dict[str, Any]:
    """The result of a run that ended well.

    Args:
        seed: the run's.
        metric: name of the metric that counts.
        rows: its epochs.
        last: what was measured on the test set after the last epoch.
        best: ``epoch``, and ``metrics`` on the test set, of the best epoch.
        peak_memory_mib: of training steps.
        presets: of the estimates of energy.
    """
    scales: dict[str, list[float]] = {}
    for layer in last.layers.values():
        if layer["threshold_scale"] is not None:
            scales.setdefault(layer["group"], []).append(layer["threshold_scale"])
    return {
        "seed": seed,
        "status": "ok",
        "error": None,
        "epochs": rows,
        "metric": metric,
        "metrics": last.metrics,
        "best": best,
        "step_ms": median(row["step_ms"] for row in rows),
        "peak_memory_mib": peak_memory_mib,
        "firing_rate": last.firing_rate,
        "threshold_scale": {group: fmean(values) for group, values in scales.items()} or None,
        "dead_fraction": last.dead_fraction,
        "neurons": {name: asdict(found) for name, found in last.neurons.items()},
        "operations": None if last.operations is None else _stored(last.operations),
        "energy": None if last.operations is None else energies(last.operations, presets)[0],
    }


def _stored(found: Operations) -> dict[str, Any]:
    """Operations as JSON has them, with their totals. :func:`counted` reads them."""
    layers = [asdict(layer) | {"rates": [*layer.rates], "inputs": [*layer.inputs]} for layer in found.layers]
    totals = {kind: getattr(found, kind) for kind in OPERATIONS}
    return totals | {"time_steps": found.time_steps, "samples": found.samples, "layers": layers}


def energies(found: Operations, presets: Mapping[str, Preset]) -> tuple[dict[str, float], dict[str, float]]:
    """The energy of a sample by preset, in µJ.

    Returns:
        That of the spiking network, and those of networks of the same shape without spikes, by "PRESET.relu" and
        "PRESET.quantised".
    """
    estimates = {name: energy(found, preset) for name, preset in presets.items()}
    relu = {f"{name}.relu": 1e-6 * each.relu for name, each in estimates.items()}
    quantised = {f"{name}.quantised": 1e-6 * each.quantised for name, each in estimates.items()}
    return {name: 1e-6 * each.spiking for name, each in estimates.items()}, relu | quantised


def counted(result: dict[str, Any]) -> Operations | None:
    """The operations that a run's result holds; None if they were not counted, or by an earlier version."""
    stored = result.get("operations")
    if stored is None or "layers" not in stored:
        return None
    layers = (layer | {key: tuple(layer[key]) for key in ("rates", "inputs")} for layer in stored["layers"])
    return Operations(tuple(LayerOperations(**layer) for layer in layers), stored["time_steps"], stored["samples"])


def failed(seed: int, metric: str, rows: list[dict[str, Any]], error: str) -> dict[str, Any]:
    """The result of a run that diverged: the epochs before that, and no figures."""
    figures = (
        *("metrics", "best", "step_ms", "peak_memory_mib", "firing_rate", "threshold_scale", "dead_fraction"),
        *("neurons", "operations", "energy"),
    )
    return {"seed": seed, "status": "failed", "error": error, "epochs": rows, "metric": metric} | dict.fromkeys(figures)


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that results depend on."""
    found = {"step-ahsar": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine: platform, processor, cores, threads that torch uses, and the accelerator if there is one."""
    accelerator = torch.accelerator.is_available()
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": _accelerator_name() if accelerator else None,
    }


@cache
def git_commit() -> str | None:
    """The commit of the checkout that this package is run from, with "-dirty" if files differ; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # git would find the checkout of another project that the package is installed in
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _accelerator_name() -> str:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    return torch.cuda.get_device_name() if device.type == "cuda" else device.type
