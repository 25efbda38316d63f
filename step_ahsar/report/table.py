"""The comparison's table for the terminal."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from step_ahsar.report import text
from step_ahsar.report.plots import groups_of


def print_table(summary: dict[str, Any], console: Console) -> None:
    """Prints the cells, the paired comparisons, the failed runs, and what was done to the data."""
    cells = summary["cells"]
    print_wide(_cells(cells, summary["manifest"]["target"]), console)
    if any(cell["chosen_on"] == "test" for cell in cells):
        console.print(text.chosen_on(cells), markup=False, highlight=False, soft_wrap=True)
    if any(comparison["seeds"] for comparison in summary["comparisons"]):
        console.print()
        print_wide(_paired(summary["comparisons"], text.common_metric(cells), summary["manifest"]["margin"]), console)
        lines = text.verdicts(summary["comparisons"], summary["manifest"]["margin"])
        for line in filter(None, [*lines, text.detectable(summary["comparisons"])]):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for cell, seed, error in text.failures(cells):
        console.print(f"failed: {cell}, seed {seed}: {error}", markup=False, highlight=False, soft_wrap=True)
    for line in text.about_data(summary["manifest"]["datasets"]):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(cells: list[dict[str, Any]], target: float | None) -> Table:
    groups, metric = groups_of(cells), text.common_metric(cells)
    goal = "target" if target is None else f"{100 * target:g} %"
    table = _table(
        "cell",
        f"{metric or 'metric'} %\nmean ± 95 %",
        f"epochs to\n{goal}",
        "firing rate\n" + "/".join(groups),
        "ms per\nstep",
        "seeds",
    )
    for position, cell in enumerate(cells):
        table.add_row(
            cell["id"],
            text.named_score(cell, metric),
            text.epochs_to_target(cell, target),
            text.by_group(cell["mean"]["firing_rate"], groups, between="/"),
            text.with_interval(cell["mean"]["step_ms"], None),
            text.seeds(cell),
            end_section=position + 1 < len(cells) and _place(cells[position + 1]) != _place(cell),
        )
    return table


def _place(cell: dict[str, Any]) -> tuple[str, str]:
    return cell["model"], text.place(cell)


def _paired(comparisons: list[dict[str, Any]], metric: str | None, margin: float) -> Table:
    table = _table(
        "paired over seeds",
        "differs in",
        f"{metric or 'metric'} difference\npoints [95 %]",
        "p (Holm)",
        "shown",
        "epochs to target,\nratio [95 %]",
    )
    order = list(dict.fromkeys(comparison["cell"] for comparison in comparisons))
    of_cell = sorted(comparisons, key=lambda comparison: order.index(comparison["cell"]))
    for cell, pairs in groupby(of_cell, key=lambda comparison: comparison["cell"]):
        table.add_row(cell)
        for pair in pairs:
            difference, ratio = text.difference(pair["metric_difference"]), text.ratio(pair["epochs_ratio"])
            p_value, shown = text.p_value(pair["test"]["p_holm"]), text.verdict(pair, margin)
            table.add_row(f"  vs {text.control(pair)}", text.differs(pair), difference, p_value, shown, ratio)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_wide(table: Table, console: Console) -> None:
    """Prints the table at full width even on a narrow terminal, because a number must not be cut off."""
    unlimited = console.options.update(max_width=10_000)
    console.width = max(Measurement.get(console, unlimited, table).maximum, console.width)
    console.print(table, crop=False)
