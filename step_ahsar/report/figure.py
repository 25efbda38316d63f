"""Converting matplotlib figures to SVG for the page, with real text, the page's colours and unique ids."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Callable
from hashlib import blake2b
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from step_ahsar.report.style import Theme

WIDTH = 9.6  # inches; 72 units of the SVG each
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 0.6, 0.12, 0.26, 0.46, 0.2
# Styles of which a page has thousands. They are classes of the page's style sheet.
STYLES = {
    "grid": "fill: none; stroke: var(--rule); stroke-width: 0.6; stroke-linecap: round",
    "tick": "fill: var(--muted); stroke: var(--muted); stroke-width: 0.8",
    "label": "font-size: 8px; text-anchor: middle; fill: var(--ink)",
    "side": "font-size: 8px; text-anchor: end; fill: var(--ink)",
    "name": "font-size: 8.5px; text-anchor: middle; fill: var(--ink)",
    "spine": "fill: none; stroke: var(--muted); stroke-width: 0.8; stroke-linejoin: miter; stroke-linecap: square",
    "none": "fill: none",
}
_RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "step-ahsar",  # the same summary gives the same bytes
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.solid_capstyle": "round",
    "axes.axisbelow": True,
}


def grid(rows: int, columns: int, panel: float, theme: Theme, **subplots: Any) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes in the style of the page, each `panel` inches high.

    The margins are fixed, so that the panels of figures below each other are aligned.
    """
    ink, muted, rule = (theme.token(name) for name in ("ink", "muted", "rule"))
    colours: Any = {
        "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": muted, "axes.titlecolor": ink,
        "xtick.color": muted, "ytick.color": muted, "xtick.labelcolor": ink, "ytick.labelcolor": ink,
        "axes.facecolor": "none", "figure.facecolor": "none", "grid.color": rule, "grid.linewidth": 0.6,
        "axes.grid": True,
    }  # fmt: skip
    with mpl.rc_context(_RC | colours):
        height = rows * panel + (rows - 1) * _GAP + _TOP + _BOTTOM
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots(rows, columns, squeeze=False, **subplots)
    between = _GAP if subplots.get("sharey") else _LEFT + 0.12
    figure.subplots_adjust(
        left=_LEFT / WIDTH, right=1 - _RIGHT / WIDTH, bottom=_BOTTOM / height, top=1 - _TOP / height,
        hspace=_GAP / panel, wspace=between * columns / (WIDTH - _LEFT - _RIGHT - between * (columns - 1)),
    )  # fmt: skip
    return figure, axes


def title(axes: Axes, text: str) -> None:
    """A panel's title, above its left corner."""
    axes.set_title(text, loc="left", fontsize=9, fontweight="bold")


def heat(
    axes: Axes,
    values: np.ndarray,
    low: float,
    high: float,
    colours: str,
    theme: Theme,
    name: str,
    label: Callable[[float], str] = "{:.3g}".format,
) -> None:
    """A matrix as coloured fields, the first row on top, with what the colours mean above its right corner.

    Args:
        axes: where to draw; in their final place.
        values: [rows, columns]; nan is left blank.
        low: the value of the first colour.
        high: the value of the last colour.
        colours: matplotlib's name of them.
        theme: for the edge of the colours' key.
        name: the panel's title.
        label: how low and high are written.
    """
    axes.grid(False)
    axes.imshow(values, aspect="auto", cmap=colours, vmin=low, vmax=high, interpolation="none")
    axes.tick_params(length=0)
    title(axes, name)
    figure, box = axes.get_figure(), axes.get_position()
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    key = figure.add_axes((box.x1 - 0.7 / width, box.y1 + 0.08 / height, 0.35 / width, 0.09 / height))
    key.imshow(np.linspace(0, 1, 32)[None], aspect="auto", cmap=colours, interpolation="none")
    key.set_yticks([])
    key.set_xticks([])
    for spine in key.spines.values():
        spine.set_color(theme.token("rule"))
    style: Any = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "center", "fontsize": 8}
    key.annotate(label(low), (0, 0.5), xytext=(-3, 0), ha="right", **style)
    key.annotate(label(high), (1, 0.5), xytext=(3, 0), ha="left", **style)


def log_ticks(low: float, high: float, base: float = 10.0) -> list[float]:
    """Round numbers for a logarithmic axis from `low` to `high`, both positive.

    These are powers of `base`. If there are fewer than three, other round numbers are used.

    >>> log_ticks(0.04, 2.3), log_ticks(0.2, 5, base=2)
    ([0.05, 0.1, 0.2, 0.5, 1.0, 2.0], [0.25, 0.5, 1.0, 2.0, 4.0])
    """
    first, last = (math.floor(math.log(edge, base)) for edge in (low, high))
    for steps in ([1.0],) if base == 2 else ([1.0], [1.0, 2.0, 5.0]):
        exact = (step * base**exponent for exponent in range(first, last + 1) for step in steps)
        ticks = [float(f"{tick:.6g}") for tick in exact if low * 0.999 <= tick <= high * 1.001]
        if len(ticks) >= 3:
            return ticks[:: -(-len(ticks) // 8)]
    return sorted({float(f"{tick:.2g}") for tick in np.geomspace(low, high, 4)})


def set_ticks(axis: Any, ticks: list[float]) -> None:
    """These ticks and no others, with plain numbers (0.1, 0.5, 2)."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def of_cell(cell: str) -> str:
    """The `gid` of what is drawn of a cell, by which the page's script finds it."""
    return f"cell:{cell}"


def place(axes: Axes) -> dict[str, float]:
    """Where the axes are in the SVG, in its units, and which values of x are at their left and right edge."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    width, height = 72 * figure.get_size_inches()
    box, (first, last) = axes.get_position(), axes.get_xlim()
    edges = {
        "left": box.x0 * width,
        "right": box.x1 * width,
        "top": (1 - box.y1) * height,
        "bottom": (1 - box.y0) * height,
    }
    return {name: round(float(value), 3) for name, value in {**edges, "first": first, "last": last}.items()}


def to_svg(figure: Figure, theme: Theme, name: str, label: str, values: Any = None) -> str:
    """The figure as an <svg> element.

    Args:
        figure: the figure. What has the `gid` of a cell becomes an element with the attribute ``data-cell``.
        theme: for the colours.
        name: makes its ids unique on the page.
        label: for screen readers.
        values: what the page's script shows under the pointer; it becomes JSON in the attribute ``data-values``.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_RC):
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
    svg = re.sub(r" ?font-family: [^;\"]*;?", "", svg)  # the page's own font is used
    svg = _shorter(svg)
    svg = re.sub(r' id="cell:([^"]+)"', r' data-cell="\1"', svg)
    svg = _with_short_ids(svg, name)
    data = "" if values is None else f' data-values="{escape(json.dumps(values, separators=(",", ":")))}"'
    head = f'<svg role="img" aria-label="{escape(label)}" xmlns:xlink="http://www.w3.org/1999/xlink"{data}'
    svg = re.sub(r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", lambda found: f"{head} {found[1]}>", svg)
    svg = re.sub(r">\s+<", "><", svg)
    svg = theme.to_css(svg)
    for name, style in STYLES.items():
        svg = svg.replace(f'style="{style}"', f'class="{name}"')
    return re.sub(r' clip-path="[^"]*"(?= class="grid")', "", svg)  # grid lines end at the edges anyway


def _with_short_ids(svg: str, name: str) -> str:
    """With ids that no figure of another name has, and without those that nothing refers to."""
    prefix = blake2b(name.encode(), digest_size=4).hexdigest()
    used = dict.fromkeys(re.findall(r"""(?:url\(|href=")#([^)"]+)""", svg))
    short = {old: f"i{prefix}-{number}" for number, old in enumerate(used)}
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{short[found[1]]}"' if found[1] in short else "", svg)
    return re.sub(r'(url\(#|href="#)([^)"]+)', lambda found: found[1] + short[found[2]], svg)


def _shorter(svg: str) -> str:
    """Without what nobody sees, so that a page with hundreds of plots stays small."""
    # A tenth of a unit is less than a fifth of a pixel. Numbers between tags are labels, and stay.
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\.\d)\d+", r"\1", tag[0]), svg)
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", svg)
    return re.sub(r"\s*\n\s*", " ", svg)
