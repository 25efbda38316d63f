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
from torch import Tensor, nn

from step_ahsar.data import Datasets
from step_ahsar.engine.opening import Trained, open_trained
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.layers import ExpertsAttention, SpikingAttention
from step_ahsar.measure.tracing import trace
from step_ahsar.progress import followed
from step_ahsar.tasks import Task
from step_ahsar.tasks.drawing import picture

_ATTENTIONS = (SpikingAttention, ExpertsAttention)  # with a neuron behind their product


@dataclass(frozen=True)
class Look:
    """What a model did with one sample.

    Args:
        sample: its number in the test set.
        truth: what it is, and what the model says, as text and numbers by name.
        picture: the sample: an image, frames through time, the curves of a series, or truth and prediction over it.
        image: the image, or the sum of the frames, as the maps of attention lie; None of a series.
        rates: of each layer, by its name, the spikes per neuron at each time step, [T].
        groups: the group of each layer.
        attention: of each layer behind an attention's product the spikes of each token, means over time and channels:
            [H', W'] over the image, or [1, N'] along a series.
    """

    sample: int
    truth: dict[str, Any]
    picture: Image.Image
    image: Image.Image | None
    rates: dict[str, list[float]]
    groups: dict[str, str | None]
    attention: dict[str, NDArray[np.float32]]

    def record(self) -> dict[str, Any]:
        """What JSON can hold of it: all but the pictures."""
        return {
            "sample": self.sample,
            "truth": self.truth,
            "layers": {
                name: {"group": self.groups[name], "rates": [round(rate, 6) for rate in rates]}
                for name, rates in self.rates.items()
            },
            "attention": {name: values.astype(float).round(4).tolist() for name, values in self.attention.items()},
        }


def look(
    run: str | Path,
    sample: int,
    which: str = "last",
    overrides: Iterable[str] = (),
    datasets: Datasets | None = None,
) -> Look:
    """Runs the model of a run on one sample of its test set.

    Args:
        run: the run's directory.
        sample: its number, from 0.
        which: "last", or "best" by the task's metric.
        overrides: where the data are, such as ``"data.root=DIR"``.
        datasets: for a run of the data set `own` the user's data sets, as in :func:`step_ahsar.engine.train`.

    Raises:
        UserError: no run, no readable checkpoint, data that are not those the run was trained on, or no such sample.
    """
    trained = open_trained(Run.existing(Path(run)), which, overrides, datasets)
    inputs, target = _sample(trained, sample)
    return look_at(trained.model, trained.task, inputs, target, sample)


@torch.no_grad()
def look_at(model: nn.Module, task: Task, inputs: Tensor, target: Any, sample: int) -> Look:
    """What a model in eval mode does with a batch of one.

    Args:
        model: a model of the task.
        task: the task.
        inputs: [1, C, *S], or [T, 1, C, *S], on the model's device.
        target: the truth.
        sample: its number, for the reader.
    """
    axis = task.batch_axis(inputs)
    found = trace(model, inputs)
    outputs = found.outputs if task.name == "classification" else task.predict(model, inputs)
    x = inputs.select(axis, 0)
    spikes = {name: each.abs() for name, each in found.spikes.items()}
    products = {f"{name}.neuron" for name, m in model.named_modules() if isinstance(m, _ATTENTIONS)}
    is_series = inputs.ndim - axis == 3
    return Look(
        sample,
        task.show(outputs, target)[0],
        task.draw(inputs, outputs, target)[0],
        None if is_series else picture(x),
        {name: each.flatten(1).mean(1).tolist() for name, each in spikes.items()},
        found.groups,
        {
            name: _over_tokens(each, x.shape[-2:], is_series)
            for name, each in spikes.items()
            if name in products and each.shape[1] == 1  # attention within windows has these along the batch
        },
    )


def _sample(trained: Trained, sample: int) -> tuple[Tensor, Any]:
    """A batch of this sample alone."""
    before = 0
    for inputs, targets in followed("looking for the sample", trained.data.test_batches()):
        axis = trained.task.batch_axis(inputs)
        if 0 <= sample - before < inputs.shape[axis]:
            place = sample - before
            return inputs.narrow(axis, place, 1), targets[place : place + 1]
        before += inputs.shape[axis]
    raise UserError(f"there is no sample {sample}; the test set has those from 0 to {before - 1}")


def _over_tokens(spikes: Tensor, size: torch.Size, is_series: bool) -> NDArray[np.float32]:
    """Means over time and channels of [T, 1, C, N'] or [T, 1, C, H', W'], as the tokens lie."""
    tokens = spikes[:, 0].float().mean((0, 1))
    if tokens.ndim == 2:
        return tokens.cpu().numpy()
    count = len(tokens)
    rows = 1 if is_series else max(1, isqrt(round(count * size[0] / size[1])))
    return (tokens.reshape(rows, -1) if count % rows == 0 else tokens.reshape(1, -1)).cpu().numpy()
