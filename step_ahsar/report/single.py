"""What the page of a single run shows beside its summary: single samples, confusions, its layers on one sample.

A run leaves them in RUN/predictions, see :mod:`step_ahsar.engine.examples` and :mod:`step_ahsar.engine.looking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from step_ahsar.errors import UserError
from step_ahsar.files import unsealed
from step_ahsar.report.figure import WIDTH, grid, heat, set_ticks, title, to_svg
from step_ahsar.report.style import Theme

FILE = Path("predictions") / "examples.json"
_MOST_CLASSES = 40  # of a matrix that is drawn
_MOST_CONFUSIONS = 10

_SCORES = {
    "classification": "probability of the true class",
    "segmentation": "mIoU",
    "detection": "F1 at an IoU of 0.5",
}
_ROW = 0.15  # inches of a layer
_NAMES = 2.3  # inches for the names of layers


@dataclass(frozen=True)
class Single:
    """What a run has left for a reader.

    Args:
        record: the content of ``examples.json``.
        folder: where its pictures are.
    """

    record: dict[str, Any]
    folder: Path


def find_single(directory: Path) -> Single | None:
    """What the run in a folder has left; None if it is no run, has not ended, or is of an earlier version.

    Raises:
        UserError: the file is damaged.
    """
    path = directory / FILE
    try:
        return Single(unsealed(path.read_bytes()), path.parent)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {error}") from error


def examples(single: Single, task: str, inline: Callable[[Path], str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The worst and the best samples: for each kind its heading, and pictures with captions.

    Args:
        single: what the run has left.
        task: the run's task.
        inline: makes a data URL of a picture.
    """
    found = []
    for kind in ("worst", "best"):
        of_kind = [each for each in single.record["examples"] if each["kind"] == kind]
        pictures = [(inline(single.folder / each["picture"]), _caption(each)) for each in of_kind]
        if pictures:
            found.append((f"{kind.capitalize()}, by {_SCORES.get(task, 'score')}", pictures))
    return found


def _caption(example: dict[str, Any]) -> str:
    shown = example["shown"]
    return (
        f"{example['score']:.3f}: truth {shown['truth'] or 'nothing'}, prediction {shown['prediction'] or 'nothing'} "
        f"(test sample {example['sample']})"
    )


def confusions(single: Single) -> list[tuple[str, str, int, float]]:
    """The classes that are confused most: truth, what it was taken for, how often, and the share of the class."""
    classes, counts = single.record["classes"], single.record["confusions"]
    of_class: dict[int, int] = {}
    for truth, _, number in counts:
        of_class[truth] = of_class.get(truth, 0) + number
    wrong = sorted((each for each in counts if each[0] != each[1]), key=lambda each: -each[2])
    return [
        (classes[truth], classes[guess], number, number / of_class[truth])
        for truth, guess, number in wrong[:_MOST_CONFUSIONS]
    ]


def confusion_matrix(single: Single, theme: Theme) -> str | None:
    """The confusion matrix as an SVG, in % of each true class; None if there is none, or it is too large to be read."""
    classes = single.record["classes"]
    if not single.record["confusions"] or not 1 < len(classes) <= _MOST_CLASSES:
        return None
    counts = np.zeros((len(classes), len(classes)))
    for truth, guess, number in single.record["confusions"]:
        counts[truth, guess] = number
    shares = 100 * counts / counts.sum(1, keepdims=True).clip(min=1)
    names = [_shortened(name, 18) for name in classes]
    longest = max(map(len, names))
    side, left = min(6.0, 1.2 + 0.32 * len(names)), 0.5 + 0.075 * longest
    upright = longest * len(names) > 60
    below = 0.075 * longest if upright else 0.0
    figure, axes = grid(1, 1, side + below, theme)
    panel = axes[0, 0]
    bottom = figure.subplotpars.bottom + below / figure.get_figheight()
    figure.subplots_adjust(left=left / WIDTH, right=min(0.96, (left + 1.35 * side) / WIDTH), bottom=bottom)
    heat(panel, shares, 0, 100, "viridis", theme, "% of the true class")
    if len(classes) <= 20:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            panel.text(
                column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7,
                color="#000000" if shares[row, column] > 55 else "#ffffff",
            )  # fmt: skip
    _name_ticks(panel.yaxis, names)
    _name_ticks(panel.xaxis, names)
    if upright:
        panel.tick_params(axis="x", rotation=90)
    panel.set_xlabel("prediction")
    panel.set_ylabel("truth")
    return to_svg(figure, theme, "confusion", "Confusion matrix of the test set, in % of each true class")


def layers_by_depth(run: Mapping[str, Any], theme: Theme) -> str | None:
    """Rate, threshold scale and share of silent neurons of every layer after every epoch, as heat maps by depth.

    Args:
        run: an entry of `seeds` in a summary.
        theme: the page's.
    """
    layers, epochs = run["layers"], [row["epoch"] for row in run["epochs"]]
    if not layers:
        return None
    rows = list(layers.values())
    kinds = [("rate", "firing rate", "viridis"), ("dead_fraction", "silent neurons", "cividis")]
    if any(layer["threshold_scale"] for layer in rows):
        kinds.insert(1, ("threshold_scale", "threshold scale", "coolwarm"))
    shown = [kind for kind in kinds if any(layer.get(kind[0]) for layer in rows)]
    figure, axes = grid(1, len(shown), _ROW * len(rows) + 0.2, theme, sharey=True)
    figure.subplots_adjust(left=_NAMES / WIDTH, wspace=0.12)
    for panel, (key, heading, colours) in zip(axes[0], shown, strict=True):
        values = np.array([layer.get(key) or [np.nan] * len(epochs) for layer in rows], dtype=float)
        if key == "threshold_scale":
            reach = max(1.25, float(np.nanmax(np.maximum(values, 1 / values))))
            heat(panel, np.log2(values), -np.log2(reach), np.log2(reach), colours, theme, heading, _as_scale)
        else:
            heat(panel, values, 0, max(0.01, float(np.nanmax(values))), colours, theme, heading)
        step = -(-len(epochs) // 8)
        set_ticks(panel.xaxis, list(range(0, len(epochs), step)))
        panel.xaxis.set_major_formatter(lambda at, _: str(epochs[int(at)]))
        panel.set_xlabel("epoch")
    _name_ticks(axes[0, 0].yaxis, [_layer(name) for name in layers])
    return to_svg(figure, theme, "depth", "Rate, threshold and silent neurons of every layer after every epoch")


def layers_on_sample(look: dict[str, Any], theme: Theme) -> str:
    """Spikes per neuron of every layer at every time step, for one sample."""
    layers = look["layers"]
    steps = max(len(layer["rates"]) for layer in layers.values())
    values = np.full((len(layers), steps), np.nan)
    for row, layer in zip(values, layers.values(), strict=True):
        row[: len(layer["rates"])] = layer["rates"]
    figure, axes = grid(1, 1, _ROW * len(layers) + 0.2, theme)
    figure.subplots_adjust(left=_NAMES / WIDTH, right=min(0.98, (_NAMES + max(3, 0.5 * steps)) / WIDTH))
    panel = axes[0, 0]
    heat(panel, values, 0, max(0.01, float(np.nanmax(values))), "viridis", theme, "spikes per neuron")
    _name_ticks(panel.yaxis, [_layer(name) for name in layers])
    set_ticks(panel.xaxis, list(range(0, steps, -(-steps // 16))))
    panel.xaxis.set_major_formatter(lambda at, _: str(int(at) + 1))
    panel.set_xlabel("time step")
    return to_svg(figure, theme, "sample-layers", "Spikes per neuron of every layer at every time step")


def attention_on_sample(single: Single, theme: Theme) -> str | None:
    """The spikes behind each attention's product over the sample, mean over time and channels; None without any."""
    maps: dict[str, Any] = single.record["look"]["attention"]
    if not maps:
        return None
    image = _input(single)
    across = min(4, len(maps))
    down = -(-len(maps) // across)
    is_wide = all(len(values) == 1 for values in maps.values())
    figure, axes = grid(down, across, 0.5 if is_wide else 1.9, theme)
    figure.subplots_adjust(left=0.01, hspace=1.2 if is_wide else 0.2, bottom=0.02)
    for panel in axes.flat[len(maps) :]:
        panel.set_visible(False)
    for panel, (name, values) in zip(axes.flat, maps.items(), strict=False):
        tokens = np.array(values, dtype=float)
        if image is not None:
            edges = (0, image.shape[1], image.shape[0], 0)
            panel.imshow(image, cmap="gray", extent=edges, interpolation="nearest")
            panel.imshow(
                tokens, cmap="inferno", alpha=0.6, extent=edges, vmin=0, vmax=max(tokens.max(), 1e-3),
                interpolation="nearest",
            )  # fmt: skip
        else:
            panel.imshow(tokens, cmap="inferno", aspect="auto", vmin=0, vmax=max(tokens.max(), 1e-3))
        panel.axis("off")
        panel.set_anchor("W")
        title(panel, f"{_layer(name)}: {tokens.mean():.3f}")
    return to_svg(figure, theme, "sample-attention", "Spikes behind each attention's product over the sample")


def _input(single: Single) -> NDArray[np.uint8] | None:
    """The sample that was looked at, in grey [H, W]; None of a series."""
    path = single.folder / "input.png"
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError) as error:  # SyntaxError is Pillow's, of a damaged file
        raise UserError(f"cannot read picture {path}: {error}") from error


def _name_ticks(axis: Any, names: Sequence[str]) -> None:
    set_ticks(axis, list(range(len(names))))
    axis.set_major_formatter(lambda at, _: names[int(at)] if 0 <= at < len(names) else "")


def _layer(name: str, longest: int = 32) -> str:
    """A layer's name without the end that all have; of a long one the end, which tells it from others."""
    name = name.removesuffix(".neuron")
    return name if len(name) <= longest else f"…{name[1 - longest :]}"


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def _as_scale(power: float) -> str:
    return f"{2**power:.3g}"
