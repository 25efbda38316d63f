#!/usr/bin/env python
"""Comparisons as Markdown tables, from their summaries: on the terminal, or in the document that has a place for them.

python scripts/results_table.py results/nmnist/summary.json ...   # prints
python scripts/results_table.py --write                           # after a summary in results/ has changed
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_ahsar.compare import load
from step_ahsar.compare.summary import SUMMARY
from step_ahsar.errors import UserError
from step_ahsar.report import text
from step_ahsar.report.plots import groups_of

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "results.md"
PLACE = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def table(summary: dict[str, Any]) -> str:
    """Markdown: a line for each cell. ± is half the 95 % Student-t interval over seeds."""
    manifest, cells = summary["manifest"], summary["cells"]
    metric, target, groups = text.common_metric(cells), manifest["target"], groups_of(cells)
    rows = [["cell", "threshold", f"{metric or 'metric'} %, mean ± 95 %", "n"]]
    rows += [
        [f"`{cell['id']}`", f"{cell['threshold']:g}", text.named_score(cell, metric), text.seeds(cell)]
        for cell in cells
    ]
    if target is not None:
        _append(rows, f"epochs to {100 * target:g} %", [text.epochs_to_target(cell, target) for cell in cells])
    rates = [text.by_group(cell["mean"]["firing_rate"], groups) for cell in cells]
    _append(rows, f"firing rate: {' / '.join(groups)}", rates)
    return _markdown(rows)


def pairs(summary: dict[str, Any]) -> str:
    """Markdown: cells beside their controls, paired over seeds; empty where there are none."""
    head = ["paired over seeds", "differs in", "difference, points [95 %]", "p (Holm)", "shown"]
    rows = [[*head, "epochs to target, ratio [95 %]"]]
    rows += [
        [
            f"`{pair['cell']}` vs {_control(pair)}",
            text.differs(pair),
            text.difference(pair["metric_difference"]),
            text.p_value(pair["test"]["p_holm"]),
            text.verdict(pair, summary["manifest"]["margin"]),
            text.ratio(pair["epochs_ratio"]),
        ]
        for pair in summary["comparisons"]
    ]
    return _markdown(rows) if len(rows) > 1 else ""


def _control(pair: dict[str, Any]) -> str:
    name, _, chosen = text.control(pair).partition(" ")
    return f"`{name}` {chosen}".strip()


def fresh() -> str:
    """The document as it should be."""
    return PLACE.sub(lambda place: place[1] + _both(load(ROOT / "results" / place[2])) + place[3], DOCUMENT.read_text())


def _both(summary: dict[str, Any]) -> str:
    return "\n\n".join(part for part in (table(summary), pairs(summary)) if part) + "\n"


def _markdown(rows: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def _append(rows: list[list[str]], header: str, values: Sequence[str]) -> None:
    for row, value in zip(rows, [header, *values], strict=True):
        row.append(value)


def main(arguments: Sequence[str]) -> int:
    """2 if no file was given or one is no summary, else 0."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        if list(arguments) == ["--write"]:
            DOCUMENT.write_text(fresh())
            return 0
        for path in map(Path, arguments):
            summary = load(path.parent if path.name == SUMMARY else path)
            print(f"**{summary['manifest']['title']}**\n\n{_both(summary)}")
    except UserError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
