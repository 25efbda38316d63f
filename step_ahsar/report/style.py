"""The style of the report: the colour, dash and marker of each cell in all tables and plots, in light and dark mode.

The hue stands for the neuron. Orange is a regulated one; blue, the first of the others, can be told from it with every
kind of colour blindness. The shade stands for the variant (darker for a higher starting threshold), and the marker for
the model. The dash also stands for the neuron, for prints without colour. Plots are drawn once, with CSS variables as
colours, so that the page follows the reader's light or dark mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# For each hue a light, a middle and a deep colour, on a light page and on a dark one. Contrast is 3:1 or more.
_HUES: dict[str, tuple[tuple[str, str, str], tuple[str, str, str]]] = {
    "orange": (("#e8862a", "#c4520a", "#7a2c00"), ("#ffd3a3", "#f79a3e", "#d8650f")),
    "blue": (("#5aa2d8", "#1f6cb0", "#0b3763"), ("#a6d3f6", "#62b0ec", "#2f7fcb")),
    "green": (("#3fa58f", "#12796a", "#08463d"), ("#a8e6d6", "#4cc0a8", "#1b917c")),
    "purple": (("#b184cf", "#8145a3", "#4b1c66"), ("#e3c9f3", "#bd8fdb", "#9457b8")),
    "pink": (("#e07ba6", "#b53a74", "#6f1546"), ("#f8cbdd", "#e888b1", "#c44d86")),
    "grey": (("#8c8c8c", "#5f5f5f", "#2e2e2e"), ("#d6d6d6", "#a6a6a6", "#7d7d7d")),
}
_PLAIN_HUES = [hue for hue in _HUES if hue != "orange"]
_DASHES: list[tuple[float, ...]] = [(), (4.0, 1.6), (1.2, 1.4), (6.0, 1.5, 1.2, 1.5), (2.5, 1.2), (8.0, 2.0)]
_MARKERS = "osD^vPX*"

# Colours from the first to the last layer of a group, on a light and on a dark page: viridis without the colours that
# could not be told from the page.
DEPTHS = 9
_DEPTH_ENDS = (
    ("#440154", "#3b528b", "#21918c", "#4fae4a", "#a59c00"),
    ("#7b6fd0", "#4f9bd9", "#2fb8a6", "#8fd65a", "#fde725"),
)
_PAGE = {
    "page": ("#ffffff", "#14171b"),
    "ink": ("#1c1f24", "#e7e9ec"),
    "muted": ("#5b636e", "#a2abb6"),
    "rule": ("#d9dde2", "#343a43"),
    "band": ("#8a939e", "#8a939e"),
}


@dataclass(frozen=True)
class CellStyle:
    """The style of one cell: name of a CSS colour, and matplotlib's dash, marker and line width."""

    colour: str
    dash: tuple[float, ...]
    marker: str
    width: float


class Theme:
    """The colours and styles of one report.

    matplotlib draws with `token(name)`, a placeholder colour. `to_css` replaces it by `var(--name)` in the SVG.
    """

    def __init__(self, cells: Sequence[dict[str, Any]]) -> None:
        self._colours: dict[str, tuple[str, str]] = dict(_PAGE)
        for step in range(DEPTHS):
            at = step / (DEPTHS - 1)
            self._colours[f"depth{step}"] = (_blend(_DEPTH_ENDS[0], at), _blend(_DEPTH_ENDS[1], at))
        self.cells = self._style(cells)

    def token(self, name: str) -> str:
        """The placeholder colour of the CSS variable `name`."""
        return f"#fe{list(self._colours).index(name):04x}"

    def to_css(self, svg: str) -> str:
        """Replaces placeholder colours by CSS variables."""
        for name in self._colours:
            svg = svg.replace(self.token(name), f"var(--{name})")
        return svg

    def variables(self, dark: bool) -> str:
        """The CSS declarations of all colours, for a dark or a light page."""
        return " ".join(f"--{name}: {pair[dark]};" for name, pair in self._colours.items())

    def _style(self, cells: Sequence[dict[str, Any]]) -> dict[str, CellStyle]:
        plain = list(dict.fromkeys(cell["neuron"] for cell in cells if not cell["regulated"]))
        models = list(dict.fromkeys(cell["model"] for cell in cells))
        variants = _variants(cells)
        ranks = {variant: rank for rank, variant in enumerate(sorted(set(variants)))}
        styles: dict[str, CellStyle] = {}
        for cell, variant in zip(cells, variants, strict=True):
            regulated = cell["regulated"]
            kind = 0 if regulated else 1 + plain.index(cell["neuron"])
            hue = "orange" if regulated else _PLAIN_HUES[(kind - 1) % len(_PLAIN_HUES)]
            at = ranks[variant] / (len(ranks) - 1) if len(ranks) > 1 else 0.5
            name = f"cell{len(styles)}"
            self._colours[name] = (_blend(_HUES[hue][0], at), _blend(_HUES[hue][1], at))
            styles[cell["id"]] = CellStyle(
                colour=name,
                dash=_DASHES[kind % len(_DASHES)],
                marker=_MARKERS[models.index(cell["model"]) % len(_MARKERS)],
                width=2.2 if regulated else 1.6,
            )
        return styles


def _variants(cells: Sequence[dict[str, Any]]) -> list[tuple[float, int, str, int]]:
    """For each cell the values that distinguish it from others with the same model and neuron.

    The last value counts cells that do not differ in the other values.
    """
    seen: dict[tuple[Any, ...], int] = {}
    variants = []
    for cell in cells:
        variant = (cell["threshold"] or 0.0, cell["time_steps"], cell["backend"])
        key = (cell["model"], cell["task"], cell["dataset"], cell["neuron"], *variant)
        variants.append((*variant, seen.setdefault(key, 0)))
        seen[key] += 1
    return variants


def _blend(colours: Sequence[str], at: float) -> str:
    """The colour at position `at` in [0, 1] between evenly spaced `colours`."""
    position = at * (len(colours) - 1)
    index = min(int(position), len(colours) - 2)
    share = position - index
    first, second = (_rgb(colours[index]), _rgb(colours[index + 1]))
    mixed = (round(a + share * (b - a)) for a, b in zip(first, second, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
