"""The report's plots. Each takes cells of a summary (dicts in the format of docs/summary.md) and returns one SVG."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from step_ahsar.report import text
from step_ahsar.report.figure import grid, log_ticks, of_cell, place, set_ticks, title, to_svg
from step_ahsar.report.style import DEPTHS, Theme

Cell = dict[str, Any]

_GROUPS = ("stem", "attention", "mlp", "head")


def groups_of(cells: Sequence[Cell]) -> list[str]:
    """The groups of spiking layers in the cells' epochs, in the order of the model."""
    seen = {group for cell in cells for epoch in _epochs(cell) for group in epoch["firing_rate"]}
    return [group for group in _GROUPS if group in seen] + sorted(seen - set(_GROUPS))


def families(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Groups of cells that differ in their threshold alone, in its order. Cells with an unknown one are left out."""
    known = [cell for cell in cells if cell["threshold"] is not None]
    return [sorted(family, key=lambda cell: cell["threshold"]) for family in _alike_but_for("model.threshold", known)]


def by_band(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Groups of regulated cells that differ in their target band alone, from the lowest to the highest."""
    regulated = [cell for cell in cells if cell["band"]]

    def middle(cell: Cell) -> float:
        return fmean(sum(band) / 2 for band in cell["band"].values())

    return [sorted(line, key=middle) for line in _alike_but_for("ahsar.band", regulated) if len(line) > 1]


def _alike_but_for(setting: str, cells: Sequence[Cell]) -> list[list[Cell]]:
    """Groups of cells whose settings differ in nothing but this one, or in parts of it."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        others = {key: value for key, value in cell["settings"].items() if not f"{key}.".startswith(f"{setting}.")}
        found.setdefault(json.dumps(others, sort_keys=True), []).append(cell)
    return list(found.values())


def training_curves(cells: Sequence[Cell], target: float | None, theme: Theme) -> str:
    """The judged metric and the training loss by epoch: mean over seeds, shaded from the lowest to the highest seed.

    All cells must have the same task, here and in :func:`metric_against_rate` and :func:`against_threshold`.
    """
    figure, axes = grid(1, 2, 2.4, theme)
    score, loss = axes[0]
    name = text.metric(cells[0]["metric"])
    losses: list[float] = []
    values: dict[str, list[list[float]]] = {}
    for cell in cells:
        style = theme.cells[cell["id"]]
        colour = theme.token(style.colour)
        for panel, value in ((score, _percent), (loss, _loss)):
            epochs, rows = _over_epochs(cell, value)
            means, gid = [sum(row) / len(row) for row in rows], of_cell(cell["id"])
            panel.fill_between(epochs, *_range(rows), color=colour, alpha=0.16, linewidth=0, gid=gid)
            panel.plot(
                epochs, means, color=colour, linewidth=style.width, gid=gid,
                dashes=style.dash or (None, None), marker=style.marker if len(epochs) <= 12 else "", markersize=4,
            )  # fmt: skip
            values.setdefault(cell["id"], []).append([float(f"{mean:.4g}") for mean in means])
            if panel is loss:
                losses += [each for row in rows for each in row if each > 0]
    if target is not None:
        score.axhline(100 * target, color=theme.token("muted"), linewidth=0.9, linestyle=":")
        score.annotate(
            f"target {100 * target:g} %", (0, 100 * target), xycoords=("axes fraction", "data"), xytext=(4, 3),
            textcoords="offset points", ha="left", va="bottom", color=theme.token("muted"), fontsize=8,
        )  # fmt: skip
    loss.set_yscale("log")
    if losses:
        set_ticks(loss.yaxis, log_ticks(min(losses), max(losses)))
    judged = "test" if cells[0]["chosen_on"] == "test" else "validation"
    score.set_ylabel(f"{judged} {name} (%)")
    loss.set_ylabel("training loss (log scale)")
    for panel in (score, loss):
        _epoch_axis(panel)
    panels = [place(score) | {"unit": " %", "best": "high"}, place(loss) | {"unit": "", "best": "low"}]
    label = f"{judged.capitalize()} {name} and training loss by epoch"
    return to_svg(figure, theme, f"curves-{_slug(cells[0])}", label, {"panels": panels, "cells": values})


def critical_differences(ranking: dict[str, Any], theme: Theme) -> str:
    """Mean ranks on one axis, the best on the left. A bar joins methods within the critical difference.

    The diagram is Demšar's (2006, JMLR 7:1, section 3.2.4).
    """
    methods = sorted(ranking["methods"], key=lambda method: method["rank"])
    bars = _cliques([method["rank"] for method in methods], ranking["critical_difference"])
    figure, axes = grid(1, 1, 0.5 + 0.2 * len(methods) + 0.12 * len(bars), theme)
    panel, ink = axes[0, 0], theme.token("ink")
    lowest = -len(methods) - len(bars) / 2
    for i, method in enumerate(methods, start=1):
        height = -i - len(bars) / 2
        panel.plot([method["rank"]] * 2, [0, height], color=theme.token("muted"), linewidth=0.8)
        panel.plot([method["rank"]], [height], marker="o", markersize=4, color=ink)
        panel.annotate(
            f"{method['name']}  {method['rank']:.2f}", (method["rank"], height), xytext=(6, 0),
            textcoords="offset points", va="center", color=ink, fontsize=8,
        )  # fmt: skip
    for i, (low, high) in enumerate(bars, start=1):
        panel.plot([low, high], [-i / 2] * 2, color=ink, linewidth=3, solid_capstyle="butt")
    panel.set_ylim(lowest - 0.8, 0)
    panel.set_xlim(0.9, len(methods) * 1.25)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.yaxis.set_visible(False)
    panel.spines["left"].set_visible(False)
    panel.set_xlabel(f"mean rank over {len(ranking['places'])} data sets and models")
    return to_svg(figure, theme, "ranks", "Mean ranks of the methods, and the critical difference")


def _cliques(ranks: Sequence[float], critical: float) -> list[tuple[float, float]]:
    """The longest runs of sorted ranks that lie within the critical difference."""
    runs: list[tuple[float, float]] = []
    for low in ranks:
        high = max(rank for rank in ranks if low <= rank < low + critical)
        if high > low and not any(first <= low and high <= last for first, last in runs):
            runs.append((low, high))
    return runs


def metric_against_rate(cells: Sequence[Cell], theme: Theme) -> str:
    """The judged metric after the last epoch against each group's mean firing rate, with 95 % intervals over seeds.

    A dotted line joins plain cells that differ in their threshold alone, in the order of the thresholds, and a line
    regulated cells that differ in their target band alone. Grey steps are the Pareto front.
    """
    panels = [(group, "firing rate (spikes per neuron and step)", "firing_rate", group) for group in groups_of(cells)]
    return _against(cells, panels, "rate", "against firing rate, by group of layers", theme)


def metric_against_cost(cells: Sequence[Cell], theme: Theme) -> str | None:
    """The same against the operations and the energy of one sample; None if they were counted of no cell."""
    counted = [cell for cell in cells if cell["mean"]["operations"]]
    if not counted:
        return None
    panels = [("synaptic operations", "of a sample (millions)", "operations", "synaptic_operations")]
    panels += [(preset, "energy of a sample (µJ)", "energy", preset) for preset in counted[0]["mean"]["energy"]]
    return _against(counted, panels, "cost", "against operations and energy", theme)


def _against(
    cells: Sequence[Cell], panels: Sequence[tuple[str, str, str, str]], slug: str, what: str, theme: Theme
) -> str:
    """The judged metric against several costs.

    Args:
        cells: of one metric.
        panels: of each panel its title, the label of its axis, and the column and the key of the cost in the means.
        slug: the beginning of the plot's id.
        what: the end of its description.
        theme: colours and styles.
    """
    name = text.metric(cells[0]["metric"])
    figure, axes = grid(1, len(panels), 2.4, theme, sharey=True)
    shown = [cell for cell in cells if cell["mean"]["metrics"] and cell["mean"]["firing_rate"]]
    for panel, (heading, label, column, key) in zip(axes[0], panels, strict=True):
        front = pareto_front([(x, y) for _, x, y in _placed(shown, column, key)])
        panel.plot(*zip(*front, strict=True), color=theme.token("rule"), linewidth=3, drawstyle="steps-post", zorder=1)
        for family in families(shown):
            there = _placed(family, column, key)
            if not family[0]["regulated"]:
                _line(panel, there, color=theme.token("muted"), linewidth=0.8, linestyle=":", zorder=1)
            for cell, x, y in there:
                _point(panel, cell, x, y, (cell["ci95"][column] or {}).get(key), theme)
        for line in by_band(shown):
            colour = theme.token(theme.cells[line[0]["id"]].colour)
            _line(panel, _placed(line, column, key), color=colour, linewidth=1.2, zorder=2)
        title(panel, heading)
        panel.set_xlabel(label)
        panel.set_xlim(left=0)
        panel.xaxis.set_major_locator(MaxNLocator(5 if len(panels) < 5 else 3))
        if column == "operations":
            panel.xaxis.set_major_formatter(lambda count, _: f"{count / 1e6:g}")
    axes[0, 0].set_ylabel(f"test {name} (%)")
    _within(axes[0, 0], 0, 100)
    return to_svg(figure, theme, f"{slug}-{_slug(cells[0])}", f"Final test {name} {what}")


def _placed(cells: Sequence[Cell], column: str, key: str) -> list[tuple[Cell, float, float]]:
    """Those of the cells that have this cost in their means, with cost and metric."""
    costs = ((cell, cell["mean"][column].get(key)) for cell in cells)
    return [(cell, cost, _percent(cell, cell["mean"])) for cell, cost in costs if cost is not None]


def _line(panel: Axes, placed: Sequence[tuple[Cell, float, float]], **style: Any) -> None:
    panel.plot([x for _, x, _ in placed], [y for _, _, y in placed], **style)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, gain) that no other one beats: it has a lower cost and no lower gain, or the like. By cost.

    >>> pareto_front([(1, 5), (2, 4), (3, 7), (3, 6)])
    [(1, 5), (3, 7)]
    """
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def metric_under_conditions(cells: Sequence[Cell], theme: Theme) -> list[str]:
    """The judged metric against the value of each kind of condition, mean over seeds; a figure for each four kinds.

    Severities of corruptions share a panel, in which the metric is the mean over the corruptions. The clean test set is
    at 0, and at the value of training where there is one.
    """
    under = {cell["id"]: _under(cell) for cell in cells}
    kinds = list(dict.fromkeys(kind for found in under.values() for kind in found))
    return [_conditions(cells, under, kinds[first : first + 4], theme) for first in range(0, len(kinds), 4)]


_Under = dict[str, dict[float, float]]  # the judged metric by kind of condition and by its value


def _conditions(cells: Sequence[Cell], under: Mapping[str, _Under], kinds: Sequence[str], theme: Theme) -> str:
    """A panel for each of up to four kinds of condition. All figures have the same limits.

    Args:
        cells: of one metric.
        under: of each cell, by its id, the metric under all conditions.
        kinds: those that are drawn.
        theme: colours and styles.
    """
    name = text.metric(cells[0]["metric"])
    figure, axes = grid(1, 4, 1.7, theme, sharey=True)
    for panel in axes[0][len(kinds) :]:
        panel.set_visible(False)
    for panel, kind in zip(axes[0], kinds, strict=False):
        for cell in cells:
            style = theme.cells[cell["id"]]
            if values := under[cell["id"]].get(kind):
                panel.plot(
                    list(values), [100 * value for value in values.values()], color=theme.token(style.colour),
                    dashes=style.dash or (None, None), linewidth=style.width, marker=style.marker, markersize=4,
                    gid=of_cell(cell["id"]),
                )  # fmt: skip
        heading, label, log = _CONDITIONS[kind]
        title(panel, heading)
        panel.set_xlabel(label)
        if log:
            panel.set_xscale("log", base=2)
            set_ticks(panel.xaxis, sorted({x for found in under.values() for x in found.get(kind, ())}))
        else:
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=kind == "corruption"))
    every = [100 * value for found in under.values() for values in found.values() for value in values.values()]
    air = 0.05 * max(max(every) - min(every), 1)
    axes[0, 0].set_ylim(min(every) - air, max(every) + air)
    axes[0, 0].set_ylabel(f"test {name} (%)")
    return to_svg(figure, theme, f"{kinds[0]}-{_slug(cells[0])}", f"Test {name} under other conditions")


def early_exits(cells: Sequence[Cell], theme: Theme) -> str | None:
    """Accuracy against the mean number of time steps, and against operations, mean over seeds; None if not measured.

    The thresholds are the same in all cells; a ring marks the mean of the ones that were chosen in validation.
    """
    found = [
        (cell, runs) for cell in cells if (runs := [run["early_exit"] for run in _runs(cell) if run["early_exit"]])
    ]
    if not found:
        return None
    figure, axes = grid(1, 2, 2.2, theme, sharey=True)
    for cell, runs in found:
        style = theme.cells[cell["id"]]
        points = list(zip(*(run["points"] for run in runs), strict=True))
        accuracy = [100 * fmean(point["acc1"] for point in same) for same in points]
        for panel, key, scale in zip(axes[0], ("time_steps", "operations"), (1, 1e-6), strict=True):
            if any(point[key] is None for same in points for point in same):
                continue
            costs = [scale * fmean(point[key] for point in same) for same in points]
            colour = theme.token(style.colour)
            panel.plot(
                costs, accuracy, color=colour, dashes=style.dash or (None, None), linewidth=style.width, marker=".",
                gid=of_cell(cell["id"]),
            )  # fmt: skip
            chosen = [next(p for p in run["points"] if p["threshold"] == run["chosen"]) for run in runs]
            panel.plot(
                [scale * fmean(point[key] for point in chosen)], [100 * fmean(point["acc1"] for point in chosen)],
                marker="o", markersize=9, markerfacecolor="none", color=colour, linestyle="", gid=of_cell(cell["id"]),
            )  # fmt: skip
    axes[0, 0].set_ylabel("test accuracy (%)")
    axes[0, 0].set_xlabel("time steps of a sample, mean")
    axes[0, 1].set_xlabel("synaptic operations of a sample, mean (millions)")
    axes[0, 1].set_xlim(left=0)
    _within(axes[0, 0], 0, 100)
    return to_svg(figure, theme, f"exit-{_slug(cells[0])}", "Test accuracy of samples that leave early")


# Of each kind of condition what it is called, the label of its axis, and whether that is logarithmic.
_CONDITIONS = {
    "corruption": ("corrupted data", "severity", False),
    "corruption+thresholds": ("thresholds adapted", "severity", False),
    "corruption+norm": ("norms adapted", "severity", False),
    "time_steps": ("time steps", "T", True),
    "threshold": ("thresholds", "factor", True),
    "weight_noise": ("noise on weights", "relative to their deviation", False),
    "weight_bits": ("quantised weights", "bits", True),
    "fgsm": ("FGSM", "largest change (1/255)", False),
    "pgd": ("PGD", "largest change (1/255)", False),
}
_UNCHANGED = {"corruption": 0.0, "weight_noise": 0.0, "fgsm": 0.0, "pgd": 0.0, "threshold": 1.0}


def _under(cell: Cell) -> _Under:
    """The judged metric, mean over seeds, by kind of condition and by its value."""
    found: dict[str, dict[float, list[float]]] = {}
    means = cell["mean"]["conditions"] or {}
    for condition, mean in means.items():
        base, plus, adapted = condition.partition("+")
        name, _, value = base.partition(":")
        kind = (name if name in _CONDITIONS else "corruption") + plus + adapted
        if value and kind in _CONDITIONS:
            found.setdefault(kind, {}).setdefault(float(value), []).append(mean)
    for kind, values in found.items():
        name, plus, adapted = kind.partition("+")
        unchanged = cell["time_steps"] if name == "time_steps" else _UNCHANGED.get(name)
        if unchanged is not None and (clean := means.get("clean" + plus + adapted)) is not None:
            values.setdefault(unchanged, []).append(clean)
    return {
        kind: {value: fmean(each) for value, each in sorted(found[kind].items())}
        for kind in _CONDITIONS
        if kind in found
    }


def against_threshold(cells: Sequence[Cell], target: float | None, theme: Theme) -> str | None:
    """The judged metric and epochs to the target against the starting threshold.

    None if no cells differ in their threshold alone. A seed that did not reach the target is drawn hollow, above its
    number of epochs.
    """
    found = [family for family in families(cells) if len({cell["threshold"] for cell in family}) > 1]
    if not found:
        return None
    name = text.metric(cells[0]["metric"])
    figure, axes = grid(1, 2, 2.2, theme)
    for index, family in enumerate(found):
        known = [cell for cell in family if cell["mean"]["metrics"]]
        # Families are shifted a little against each other, so that equal values do not hide each other.
        at = [cell["threshold"] * 1.035 ** (index - (len(found) - 1) / 2) for cell in known]
        style = theme.cells[family[0]["id"]]
        line = {
            "color": theme.token(theme.cells[family[len(family) // 2]["id"]].colour), "linewidth": style.width,
            "dashes": style.dash or (None, None), "zorder": 2,
        }  # fmt: skip
        axes[0, 0].plot(at, [_percent(cell, cell["mean"]) for cell in known], **line)
        axes[0, 1].plot(at, [_median_epochs(cell) for cell in known], **line)
        for cell, x in zip(known, at, strict=True):
            _point(axes[0, 0], cell, x, _percent(cell, cell["mean"]), None, theme)
            _epoch_points(axes[0, 1], cell, x, theme)
    thresholds = sorted({cell["threshold"] for family in found for cell in family})
    for panel in axes[0]:
        panel.set_xscale("log")
        set_ticks(panel.xaxis, thresholds)
        panel.set_xlim(thresholds[0] / 1.25, thresholds[-1] * 1.25)
        panel.set_xlabel("starting threshold")
    axes[0, 0].set_ylabel(f"test {name} (%)")
    _within(axes[0, 0], 0, 100)
    axes[0, 1].set_ylabel(f"epochs to {100 * target:g} %" if target is not None else "epochs to the target")
    axes[0, 1].set_ylim(bottom=0)
    axes[0, 1].yaxis.set_major_locator(MaxNLocator(integer=True))
    label = f"Test {name} and epochs to the target against the starting threshold"
    return to_svg(figure, theme, f"threshold-{_slug(cells[0])}", label)


def layer_limits(cells: Sequence[Cell]) -> dict[str, tuple[float, float]]:
    """Common axis limits of rate and threshold scale for all layers of all cells, so that cells can be compared."""
    layers = [layer for cell in cells for run in _runs(cell) for layer in run["layers"].values()]
    rates = [rate for layer in layers for rate in layer["rate"]]
    scales = [scale for layer in layers for scale in layer["threshold_scale"] or ()]
    reach = max([2.0, *(max(scale, 1 / scale) for scale in scales)]) * 1.08
    return {"rate": (0.0, 1.05 * max([0.1, *rates])), "scale": (1 / reach, reach)}


def layers_over_time(cell: Cell, limits: dict[str, tuple[float, float]], theme: Theme) -> str:
    """Firing rate of every layer by epoch, mean over seeds, in a panel for each group; below it the threshold scale.

    Colours go from the first layer of the group to the last. The shaded band is the controller's target band.
    """
    groups = groups_of([cell])
    regulated = any(layer["threshold_scale"] for run in _runs(cell) for layer in run["layers"].values())
    rows = 2 if regulated else 1
    figure, axes = grid(rows, len(groups), 1.3, theme, sharex=True, sharey="row")
    for column, group in enumerate(groups):
        title(axes[0, column], group)
        if cell["band"] and group in cell["band"]:
            axes[0, column].axhspan(*cell["band"][group], color=theme.token("band"), alpha=0.18, linewidth=0)
        if regulated:
            axes[1, column].axhline(1, color=theme.token("muted"), linewidth=0.8, linestyle=":")
        paths = _paths(cell, group)
        for depth, path in enumerate(paths):
            step = round((DEPTHS - 1) * depth / max(len(paths) - 1, 1))
            for row, key in enumerate(("rate", "threshold_scale")[:rows]):
                epochs, means = _layer_over_epochs(cell, path, key)
                axes[row, column].plot(
                    epochs, means, color=theme.token(f"depth{step}"), linewidth=1.4,
                    marker="." if len(epochs) < 3 else "",
                )  # fmt: skip
        _epoch_axis(axes[-1, column])
    axes[0, 0].set_ylabel("firing rate")
    axes[0, 0].set_ylim(*limits["rate"])
    if regulated:
        axes[1, 0].set_ylabel("threshold scale")
        axes[1, 0].set_yscale("log")
        set_ticks(axes[1, 0].yaxis, log_ticks(*limits["scale"], base=2))
        axes[1, 0].set_ylim(*limits["scale"])
    what = "Firing rate and threshold scale" if regulated else "Firing rate"
    return to_svg(figure, theme, f"layers-{_slug(cell)}", f"{what} of every layer of {cell['id']} by epoch")


def activity_by_depth(cell: Cell, theme: Theme) -> str | None:
    """How the activity of a cell's layers changes with depth, mean over seeds; None if it was not measured.

    Left: the firing rates of each layer's neurons: median, the middle half, and all but the outermost tenth. Middle:
    the shares of neurons that never fire and that always fire. Right: the spikes that a synapse gets in one inference.
    """
    runs = [run for run in _runs(cell) if run["neurons"]]
    if not runs:
        return None
    layers = runs[0]["neurons"]
    depth = list(range(1, len(layers) + 1))
    colour = theme.token(theme.cells[cell["id"]].colour)
    figure, axes = grid(1, 3, 1.5, theme)
    rates, shares, spikes = axes[0]
    quantiles = [[fmean(run["neurons"][name]["quantiles"][i] for run in runs) for name in layers] for i in range(5)]
    rates.fill_between(depth, quantiles[0], quantiles[4], color=colour, alpha=0.15, linewidth=0)
    rates.fill_between(depth, quantiles[1], quantiles[3], color=colour, alpha=0.3, linewidth=0)
    rates.plot(depth, quantiles[2], color=colour, linewidth=1.6)
    for key, line in (("dead", "-"), ("saturated", ":")):
        values = [100 * fmean(run["neurons"][name][key] for run in runs) for name in layers]
        shares.plot(depth, values, line, color=colour, linewidth=1.6)
    counted = [run["synapses"] for run in runs if run["synapses"]]
    if counted:
        reached = [fmean(run[name]["spikes"] for run in counted) for name in counted[0]]
        spikes.plot(range(1, len(reached) + 1), reached, color=colour, linewidth=1.6)
    headings = ("firing rate of neurons", "silent (line), always firing (dots), %", "spikes per synapse and inference")
    for panel, heading in zip(axes[0], headings, strict=True):
        title(panel, heading)
        panel.set_ylim(bottom=0)
        panel.grid(False, axis="x")
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(3))
        panel.set_xlabel("layer of weights or attention" if panel is spikes else "spiking layer")
    rates.set_ylim(0, 1.05)
    set_ticks(rates.yaxis, [0, 0.5, 1])
    shares.set_ylim(0, 105)
    set_ticks(shares.yaxis, [0, 50, 100])
    return to_svg(figure, theme, f"activity-{_slug(cell)}", f"Activity of {cell['id']} by depth")


def _runs(cell: Cell) -> list[dict[str, Any]]:
    """The runs of a cell that are drawn: those that ended well, or all of them if none did."""
    good = [seed for seed in cell["seeds"] if seed["status"] == "ok"]
    return good or cell["seeds"]


def _epochs(cell: Cell) -> list[dict[str, Any]]:
    return [epoch for seed in _runs(cell) for epoch in seed["epochs"]]


def _percent(cell: Cell, record: dict[str, Any]) -> float:
    """The metric that the cell is judged by, from one of its epochs or from its means."""
    return 100 * record["metrics"][cell["metric"]]


def _loss(cell: Cell, epoch: dict[str, Any]) -> float:
    return epoch["train_loss"]


def _over_epochs(cell: Cell, value: Callable[[Cell, dict[str, Any]], float]) -> tuple[list[int], list[list[float]]]:
    """The epochs, and for each epoch the values of all seeds."""
    rows: dict[int, list[float]] = {}
    for epoch in _epochs(cell):
        rows.setdefault(epoch["epoch"], []).append(value(cell, epoch))
    return sorted(rows), [rows[epoch] for epoch in sorted(rows)]


def _range(rows: list[list[float]]) -> tuple[list[float], list[float]]:
    return [min(row) for row in rows], [max(row) for row in rows]


def _paths(cell: Cell, group: str) -> list[str]:
    """Names of a group's layers, in the order of the model."""
    seen = (path for run in _runs(cell) for path, layer in run["layers"].items() if layer["group"] == group)
    return list(dict.fromkeys(seen))


def _layer_over_epochs(cell: Cell, path: str, key: str) -> tuple[list[int], list[float]]:
    """The epochs, and for each the mean over seeds of the layer's rate or threshold scale; empty if it has none."""
    rows: dict[int, list[float]] = {}
    for run in _runs(cell):
        values = run["layers"].get(path, {}).get(key) or ()
        for epoch, value in zip(run["epochs"], values, strict=False):
            rows.setdefault(epoch["epoch"], []).append(value)
    return sorted(rows), [sum(rows[epoch]) / len(rows[epoch]) for epoch in sorted(rows)]


def _point(panel: Axes, cell: Cell, x: float, y: float, x_interval: Any, theme: Theme) -> None:
    """Draws one cell: its marker, and its 95 % intervals if there are any."""
    style, gid = theme.cells[cell["id"]], of_cell(cell["id"])
    colour = theme.token(style.colour)
    y_interval = (cell["ci95"]["metrics"] or {}).get(cell["metric"])
    if y_interval:
        low, high = (min(max(100 * edge, 0), 100) for edge in y_interval)
        panel.plot([x, x], [low, high], color=colour, linewidth=1.1, alpha=0.75, zorder=2, gid=gid)
    if x_interval:
        reach = [max(x_interval[0], 0), x_interval[1]]
        panel.plot(reach, [y, y], color=colour, linewidth=1.1, alpha=0.75, zorder=2, gid=gid)
    panel.plot(
        [x], [y], marker=style.marker, color=colour, markersize=8, linestyle="", zorder=3, clip_on=False, gid=gid,
        markeredgecolor=theme.token("page"), markeredgewidth=0.8,
    )  # fmt: skip


def _median_epochs(cell: Cell) -> float:
    """Median over seeds of the epochs to the target. A run that did not reach it counts as its epochs plus one."""
    counts = sorted(run["epochs_to_target"] or len(run["epochs"]) + 1 for run in _runs(cell))
    middle = len(counts) // 2
    return counts[middle] if len(counts) % 2 else (counts[middle - 1] + counts[middle]) / 2


def _epoch_points(panel: Axes, cell: Cell, x: float, theme: Theme) -> None:
    style = theme.cells[cell["id"]]
    for run in _runs(cell):
        reached = run["epochs_to_target"]
        panel.plot(
            [x], [reached or len(run["epochs"]) + 1], marker=style.marker, linestyle="", markersize=6,
            color=theme.token(style.colour), markerfacecolor=theme.token(style.colour) if reached else "none",
            zorder=3, clip_on=False,
        )  # fmt: skip


def _within(panel: Axes, low: float, high: float) -> None:
    """Limits an axis to the possible values, with a small margin."""
    bottom, top = panel.get_ylim()
    air = 0.02 * (min(top, high) - max(bottom, low))
    panel.set_ylim(max(bottom, low - air), min(top, high + air))


def _epoch_axis(panel: Axes) -> None:
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    first, last = panel.dataLim.intervalx
    if first == last:  # of a single epoch, around which matplotlib would put fractions of epochs
        panel.set_xlim(first - 0.5, last + 0.5)
        set_ticks(panel.xaxis, [first])


def _slug(cell: Cell) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in cell["id"])
