"""Measuring a model on a test set: the task's metrics, and what its neurons do meanwhile."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor, nn

from step_ahsar.config import load_config
from step_ahsar.data import Data, open_data
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.build import build_model, validate
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.neurons.meter import FiringRateMeter
from step_ahsar.tasks import Task, create_task

_SHOWN = 8

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device() -> torch.device:
    """The accelerator if there is one, else the CPU, as `accelerate` sees it (ACCELERATE_USE_CPU=1 forces the CPU)."""
    state = PartialState()
    if state.num_processes > 1:
        raise UserError(
            f"one process trains a run, got {state.num_processes}; start step-ahsar without a multi-process launcher"
        )
    return state.device


def autocast(device: torch.device, amp: str | None) -> AbstractContextManager[Any]:
    """Mixed precision, if any, for forward passes.

    Raises:
        UserError: fp16 on a CPU, which needs bf16.
    """
    if amp is None:
        return nullcontext()
    if amp == "fp16" and device.type == "cpu":
        raise UserError("train.amp: fp16 needs an accelerator and this machine has none; take bf16 or null")
    return torch.autocast(device.type, _AMP[amp])


def move(batch: Any, device: torch.device) -> Any:
    """Inputs or targets, in whatever lists and dicts they come, on the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: move(value, device) for name, value in batch.items()}
    return [move(each, device) for each in batch]


@dataclass(frozen=True)
class Evaluation:
    """What was measured over a whole test set.

    Args:
        metrics: the task's, by name.
        firing_rate: spikes per neuron and time step, by group (mean over its layers).
        dead_fraction: share of neurons that never fired.
        layers: by the layer's name in the model: group, rate, threshold_scale (None for neurons not regulated).
        samples: truth and prediction of the first few.
        pictures: the same drawn over the input, where the task draws and was asked to.
    """

    metrics: dict[str, float]
    firing_rate: dict[str, float]
    dead_fraction: float
    layers: dict[str, dict[str, Any]]
    samples: list[dict[str, Any]]
    pictures: list["Image.Image"]


@torch.inference_mode()
def measure(
    model: nn.Module, task: Task, batches: Iterable[Any], device: torch.device, amp: str | None, draw: bool = False
) -> Evaluation:
    """Evaluates ``model`` on all batches; it is in eval mode afterwards."""
    model.eval()
    metrics = task.metrics()
    samples: list[dict[str, Any]] = []
    pictures: list[Image.Image] = []
    with FiringRateMeter(model) as meter:
        for inputs, targets in batches:
            inputs, targets = move(inputs, device), move(targets, device)
            with autocast(device, amp):
                outputs = task.predict(model, inputs)
            metrics.update(outputs, targets)
            if len(samples) < _SHOWN:
                few = _SHOWN - len(samples)
                if draw:
                    pictures += task.draw(
                        inputs[:, :few] if inputs.ndim == 5 else inputs[:few], outputs[:few], targets[:few]
                    )
                samples += task.show(outputs, targets)[:few]
    layers = {}
    for name, layer in meter.layers().items():
        scale = model.get_submodule(name).threshold_scale
        layers[name] = {
            "group": layer.group or "all",
            "rate": layer.rate,
            "threshold_scale": scale.item() if isinstance(scale, Tensor) else None,
        }
    return Evaluation(metrics.compute(), meter.groups(), meter.dead_fraction(), layers, samples, pictures)


# What may differ from how a run was trained without measuring another model on other data.
_AT_TEST = (
    "data.root",
    "data.cache",
    "data.workers",
    "data.prefetch",
    "data.pin_memory",
    "data.batch_size",
    "data.corruption",
    "data.test_size",
    "head.score_threshold",
    "head.test_scales",
    "head.test_flip",
)


def evaluate(run: str | Path, which: str = "last", overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Evaluates a checkpoint of a run on the run's test set.

    Args:
        run: the run's directory.
        which: "last", or "best" by the task's metric on this same test set.
        overrides: ``"a.b=value"`` over the run's config, of keys that concern testing alone, such as
            ``data.corruption=jpeg:3`` or ``head.test_flip=true``.

    Returns:
        ``epoch``, ``metric`` (the name of the one that counts), ``metrics`` {name: value}, ``firing_rate``,
        ``dead_fraction``, ``layers`` (see :class:`Evaluation`), ``samples`` (truth and prediction of the first).

    Raises:
        UserError: no run, no readable checkpoint, an override of something else, or data that are not those the run
            was trained on.
    """
    if which not in ("last", "best"):
        raise UserError(f"which checkpoint: 'last' or 'best', got {which!r}")
    opened = Run.existing(Path(run))
    overrides, device = list(overrides), find_device()
    for override in overrides:
        if (key := override.partition("=")[0].strip()) not in _AT_TEST:
            raise UserError(f"{key!r} cannot be changed in evaluation; these can: {', '.join(_AT_TEST)}")
    config = load_config(opened.path / "config.yaml", overrides)
    validate(config)
    data = open_data(config)
    _same_data(opened, data)
    task = create_task(config, data.classes)
    model = build_model(config.model, task, data.in_chans, data.size, data.spec.ndim).to(device)
    checkpoint = checkpoints.load(checkpoints.find(opened.checkpoints, which), device)
    model.load_state_dict(checkpoint.model if checkpoint.ema is None else checkpoint.ema)
    found = measure(model, task, data.test_batches(), device, config.train.amp)
    return {
        "epoch": checkpoint.epoch,
        "metric": task.metric,
        "metrics": found.metrics,
        "firing_rate": found.firing_rate,
        "dead_fraction": found.dead_fraction,
        "layers": found.layers,
        "samples": found.samples,
    }


def _same_data(run: Run, data: Data) -> None:
    trained_on = run.manifest()["dataset"]
    if trained_on["fingerprint"] != data.splits.fingerprint:
        raise UserError(
            f"dataset {data.spec.name!r} in {data.config.data.root} is not what {run.path} was trained on: fingerprint "
            f"{data.splits.fingerprint[:23]}..., was {trained_on['fingerprint'][:23]}..."
        )
