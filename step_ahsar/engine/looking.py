"""Looking at what a trained model does with one sample of its test set."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from step_ahsar.engine.opening import Trained, open_trained
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.layers import ExpertsAttention, SpikingAttention
from step_ahsar.measure.tracing import trace
from step_ahsar.tasks.drawing import picture

_ATTENTIONS = (SpikingAttention, ExpertsAttention)  # with a neuron behind their product
_FRAMES = 10  # at most, of a sample with a time axis


@dataclass(frozen=True)
class Look:
    """What a model did with one sample.

    Args:
        sample: its number in the test set.
        truth: what it is, and what the model says, as text and numbers by name.
        pictures: the sample: an image, frames through time, or truth and prediction drawn over it; none of a series.
        series: a series [C, L]; None for pictures.
        rates: of each layer, by its name, the spikes per neuron at each time step, [T].
        groups: the group of each layer.
        attention: of each layer behind an attention's product the spikes of each token, means over time and channels:
            [H', W'] over the image, or [1, N'] along a series.
    """

    sample: int
    truth: dict[str, Any]
    pictures: list[Image.Image]
    series: NDArray[np.float32] | None
    rates: dict[str, list[float]]
    groups: dict[str, str | None]
    attention: dict[str, NDArray[np.float32]]


def look(run: str | Path, sample: int, which: str = "last", overrides: Iterable[str] = ()) -> Look:
    """Runs the model of a run on one sample of its test set.

    Args:
        run: the run's directory.
        sample: its number, from 0.
        which: "last", or "best" by the task's metric.
        overrides: where the data are, such as ``"data.root=DIR"``.

    Raises:
        UserError: no run, no readable checkpoint, data that are not those the run was trained on, or no such sample.
    """
    trained = open_trained(Run.existing(Path(run)), which, overrides)
    inputs, target = _sample(trained, sample)
    axis = trained.task.batch_axis(inputs)
    found = trace(trained.model, inputs)
    outputs = found.outputs if trained.config.task == "classification" else _predicted(trained, inputs)
    x = inputs.select(axis, 0)
    spikes = {name: each.abs() for name, each in found.spikes.items()}
    products = {f"{name}.neuron" for name, m in trained.model.named_modules() if isinstance(m, _ATTENTIONS)}
    is_series = trained.data.spec.ndim == 1
    return Look(
        sample,
        trained.task.show(outputs, target)[0],
        [] if is_series else trained.task.draw(inputs, outputs, target) or _pictures(x),
        (x.mean(0) if x.ndim == 3 else x).numpy() if is_series else None,
        {name: each.flatten(1).mean(1).tolist() for name, each in spikes.items()},
        found.groups,
        {
            name: _over_tokens(each, x.shape[-2:], is_series)
            for name, each in spikes.items()
            if name in products and each.shape[1] == 1  # attention within windows has these along the batch
        },
    )


@torch.no_grad()
def _predicted(trained: Trained, inputs: Tensor) -> Any:
    return trained.task.predict(trained.model, inputs)


def _sample(trained: Trained, sample: int) -> tuple[Tensor, Any]:
    """A batch of this sample alone."""
    before = 0
    for inputs, targets in trained.data.test_batches():
        axis = trained.task.batch_axis(inputs)
        if 0 <= sample - before < inputs.shape[axis]:
            place = sample - before
            return inputs.narrow(axis, place, 1), targets[place : place + 1]
        before += inputs.shape[axis]
    raise UserError(f"there is no sample {sample}; the test set has those from 0 to {before - 1}")


def _pictures(x: Tensor) -> list[Image.Image]:
    """An image [C, H, W], or frames [T, C, H, W]."""
    return [picture(x)] if x.ndim == 3 else [picture(frame) for frame in x[:_FRAMES]]


def _over_tokens(spikes: Tensor, size: torch.Size, is_series: bool) -> NDArray[np.float32]:
    """Means over time and channels of [T, 1, C, N'] or [T, 1, C, H', W'], as the tokens lie."""
    tokens = spikes[:, 0].float().mean((0, 1))
    if tokens.ndim == 2:
        return tokens.numpy()
    count = len(tokens)
    rows = 1 if is_series else max(1, isqrt(round(count * size[0] / size[1])))
    return (tokens.reshape(rows, -1) if count % rows == 0 else tokens.reshape(1, -1)).numpy()
