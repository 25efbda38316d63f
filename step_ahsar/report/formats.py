"""A summary as text for other programs: JSON, CSV, and tables in Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

from step_ahsar.report import text
from step_ahsar.report.plots import groups_of

Summary = dict[str, Any]
Rows = list[list[str]]


def as_json(summary: Summary) -> str:
    """The summary itself (docs/summary.md), with indents."""
    return json.dumps(summary, indent=1)


def as_csv(summary: Summary) -> str:
    """A line for each run: its cell, what its cell is configured with, and its results, with the digits of the summary.

    ``metric.*`` are those of the test set after the last epoch, ``best.*`` those of the best one.
    """
    rows = [_run(cell, seed) for cell in summary["cells"] for seed in cell["seeds"]]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def as_markdown(summary: Summary) -> str:
    """The cells, and below them the pairs if there are any. ± is half the 95 % Student-t interval over seeds."""
    return "\n\n".join(_markdown(rows) for rows in (_cells(summary), _pairs(summary)) if len(rows) > 1)


def as_latex(summary: Summary) -> str:
    r"""The same as two ``tabular`` environments, with the rules of the package booktabs."""
    return "\n\n".join(_latex(rows) for rows in (_cells(summary), _pairs(summary)) if len(rows) > 1)


FORMATS: Mapping[str, Callable[[Summary], str]] = {
    "json": as_json,
    "csv": as_csv,
    "md": as_markdown,
    "latex": as_latex,
}


def _run(cell: dict[str, Any], seed: dict[str, Any]) -> dict[str, Any]:
    best = seed["best"] or {"epoch": None, "metrics": {}}
    named = {"metric": seed["metrics"], "best": best["metrics"], "rate": seed["firing_rate"]}
    named |= {"operations": seed["operations"], "energy_uj": seed["energy"]}
    return {
        "cell": cell["id"],
        **cell["settings"],
        "seed": seed["seed"],
        "status": seed["status"],
        "error": seed["error"],
        **{f"{what}.{name}": value for what, values in named.items() for name, value in (values or {}).items()},
        "best_epoch": best["epoch"],
        **{key: seed[key] for key in ("epochs_to_target", "step_ms", "peak_memory_mib", "dead_fraction")},
    }


def _cells(summary: Summary) -> Rows:
    manifest, cells = summary["manifest"], summary["cells"]
    metric, target, groups = text.common_metric(cells), manifest["target"], groups_of(cells)
    goal = [] if target is None else [f"epochs to {100 * target:g} %"]
    head = ["cell", "threshold", f"{metric or 'metric'} %, mean ± 95 %", "n", *goal]
    return [[*head, f"firing rate: {' / '.join(groups)}"]] + [
        [
            f"`{cell['id']}`",
            text.threshold(cell),
            text.named_score(cell, metric),
            text.seeds(cell),
            *([] if target is None else [text.epochs_to_target(cell, target)]),
            text.by_group(cell["mean"]["firing_rate"], groups),
        ]
        for cell in cells
    ]


def _pairs(summary: Summary) -> Rows:
    head = ["paired over seeds", "differs in", "difference, points [95 %]", "p (Holm)", "shown"]
    return [[*head, "epochs to target, ratio [95 %]"]] + [
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


def _control(pair: dict[str, Any]) -> str:
    name, _, chosen = text.control(pair).partition(" ")
    return f"`{name}` {chosen}".strip()


def _markdown(rows: Rows) -> str:
    rule = ["---", *["---:"] * (len(rows[0]) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


_ESCAPED = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "±": r"$\pm$", "−": "$-$", "≤": r"$\leq$", "≥": r"$\geq$", "<": "$<$", ">": "$>$", "–": "--", "`": "",
}  # fmt: skip


def _latex(rows: Rows) -> str:
    lines = [" & ".join("".join(_ESCAPED.get(sign, sign) for sign in cell) for cell in row) + r" \\" for row in rows]
    begin = rf"\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}"
    return "\n".join([begin, r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}"])
