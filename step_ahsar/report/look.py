"""A picture of what a model did with one sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from step_ahsar.report.text import brief

_ROW = 0.19  # inches for a layer


def draw(found: Any) -> Figure:
    """Sample, attention over it, and the rates of every layer through time.

    Args:
        found: a :class:`step_ahsar.engine.Look`.
    """
    layers, maps = list(found.rates), list(found.attention.items())
    width = max(4, len(maps))
    heights = [1.6, 1.7 if maps else 0.01, _ROW * len(layers) + 0.5]
    figure = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    upper, middle, lower = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
    figure.suptitle(f"sample {found.sample}: " + ", ".join(f"{key} {brief(v)}" for key, v in found.truth.items()))
    panel = upper.subplots()
    panel.imshow(found.picture)
    panel.axis("off")
    for panel, (name, values) in zip(_panels(middle, width, len(maps)), maps, strict=True):
        _draw_attention(panel, name, values, found)
    rates = np.array([found.rates[name] for name in layers])
    panel = lower.subplots()
    image = panel.imshow(rates, aspect="auto", vmin=0, vmax=max(rates.max(), 1e-3), cmap="viridis")
    panel.set_yticks(range(len(layers)), [f"{name} ({found.groups[name] or 'all'})" for name in layers], fontsize=7)
    panel.set_xticks(range(rates.shape[1]), range(1, rates.shape[1] + 1))
    panel.set_xlabel("time step")
    panel.set_title("spikes per neuron", loc="left", fontsize=9)
    lower.colorbar(image, ax=panel, pad=0.01)
    return figure


def _draw_attention(panel: Any, name: str, values: np.ndarray, found: Any) -> None:
    if found.image is not None:
        picture = np.asarray(found.image.convert("L"))
        edges = (0, picture.shape[1], picture.shape[0], 0)
        panel.imshow(picture, cmap="gray", extent=edges)
        panel.imshow(values, cmap="inferno", alpha=0.6, extent=edges, vmin=0, vmax=max(values.max(), 1e-3))
    else:
        panel.imshow(values, cmap="inferno", aspect="auto", vmin=0, vmax=max(values.max(), 1e-3))
    panel.axis("off")
    panel.set_title(f"{name}: {values.mean():.3f}", fontsize=7)


def _panels(part: Any, width: int, used: int) -> list[Any]:
    """As many axes as are used, in a row that has room for more."""
    row = part.subplots(1, width, squeeze=False)[0]
    for panel in row[used:]:
        panel.axis("off")
    return list(row[:used])
