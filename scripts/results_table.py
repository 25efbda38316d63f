#!/usr/bin/env python
"""Prints the cells of comparisons as Markdown tables, from their summaries.

python scripts/results_table.py results/*/summary.json
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_ahsar.compare import load
from step_ahsar.compare.summary import SUMMARY
from step_ahsar.errors import UserError
from step_ahsar.report import text
from step_ahsar.report.plots import groups_of


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
    rows.insert(1, ["---", *["---:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _append(rows: list[list[str]], header: str, values: Sequence[str]) -> None:
    for row, value in zip(rows, [header, *values], strict=True):
        row.append(value)


def main(paths: Sequence[str]) -> int:
    """2 if no file was given or one is no summary, else 0."""
    if not paths:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        for path in map(Path, paths):
            summary = load(path.parent if path.name == SUMMARY else path)
            print(f"**{summary['manifest']['title']}**\n\n{table(summary)}\n")
    except UserError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
