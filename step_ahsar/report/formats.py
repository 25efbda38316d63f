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
    """The cells, the pairs, and what else was measured. ± is half the 95 % Student-t interval over seeds."""
    return "\n\n".join(_markdown(rows) for rows in _tables(summary))


def as_latex(summary: Summary) -> str:
    r"""The same as ``tabular`` environments, with the rules of the package booktabs."""
    return "\n\n".join(_latex(rows) for rows in _tables(summary))


FORMATS: Mapping[str, Callable[[Summary], str]] = {
    "json": as_json,
    "csv": as_csv,
    "md": as_markdown,
    "latex": as_latex,
}


def _tables(summary: Summary) -> list[Rows]:
    """The tables that have rows, each with its head."""
    makers = (
        _cells,
        _pairs,
        _operations,
        _without_spikes,
        _at_equal_operations,
        _at_equal_rate,
        _robustness,
        _at_equal_accuracy,
        _early_exit,
    )
    return [rows for make in makers if len(rows := make(summary)) > 1]


def _run(cell: dict[str, Any], seed: dict[str, Any]) -> dict[str, Any]:
    best = seed["best"] or {"epoch": None, "metrics": {}}
    named = {"metric": seed["metrics"], "best": best["metrics"], "rate": seed["firing_rate"]}
    energies = {**(seed["energy"] or {}), **(seed["energy_without_spikes"] or {})}
    named |= {"operations": seed["operations"], "energy_uj": energies, "robustness": seed["robustness"]}
    tested = {name: row["metrics"] for name, row in (seed["conditions"] or {}).items() if row["metrics"]}
    named |= {"condition": {name: metrics[cell["metric"]] for name, metrics in tested.items()}}
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
            _id(cell),
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


def _operations(summary: Summary) -> Rows:
    cells = [cell for cell in summary["cells"] if cell["mean"]["operations"]]
    presets = text.presets(cells)
    head = ["of one sample", "synaptic operations, millions", "MACs of real numbers, millions"]
    rows = [[*head, *(f"{preset}, µJ" for preset in presets)]]
    for cell in cells:
        counts = [cell["mean"]["operations"][kind] / 1e6 for kind in ("synaptic_operations", "macs")]
        values = [*counts, *(cell["mean"]["energy"].get(preset) for preset in presets)]
        rows.append([_id(cell), *(text.NONE if value is None else text.significant(value) for value in values)])
    return rows


def _without_spikes(summary: Summary) -> Rows:
    """The energy of networks of the same shape, one row for cells that have the same."""
    cells = [cell for cell in summary["cells"] if cell["mean"]["energy_without_spikes"]]
    presets = text.presets(cells)
    kinds = {"relu": "ReLU", "quantised": "few bits"}
    alike: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        means = cell["mean"]["energy_without_spikes"]
        values = [means.get(f"{preset}.{kind}") for preset in presets for kind in kinds]
        row = tuple(text.NONE if value is None else text.significant(value) for value in values)
        alike.setdefault(row, []).append(_id(cell))
    head = [
        "the same shape without spikes",
        *(f"{preset}, {kind}, µJ" for preset in presets for kind in kinds.values()),
    ]
    return [head, *([_some(names), *row] for row, names in alike.items())]


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]} ({len(names)} cells)"


def _at_equal_rate(summary: Summary) -> Rows:
    return _beside_the_line(summary, "equal_rate", "at equal firing rate")


def _at_equal_operations(summary: Summary) -> Rows:
    return _beside_the_line(summary, "equal_operations", "at equal operations")


def _at_equal_accuracy(summary: Summary) -> Rows:
    return _beside_the_line(summary, "equal_accuracy", "corrupted, at equal clean accuracy")


def _beside_the_line(summary: Summary, line: str, heading: str) -> Rows:
    head = [heading, "beside the line of", "difference, points [95 %]", "p (Holm)", "shown"]
    return [head, *(list(row) for row in text.beside_the_line(summary["comparisons"], line))]


def _robustness(summary: Summary) -> Rows:
    cells = [cell for cell in summary["cells"] if cell["mean"]["robustness"]]
    known = text.scores(cells)
    head = ["robustness", *(", ".join(text.SCORES[name]) for name in known)]
    return [head, *([_id(cell), *_intervals(cell, "robustness", dict.fromkeys(known, 100.0))] for cell in cells)]


def _early_exit(summary: Summary) -> Rows:
    cells = [cell for cell in summary["cells"] if cell["mean"]["early_exit"]]
    columns = {"acc1_all": 100.0, "acc1": 100.0, "time_steps": 1.0, "operations_share": 100.0}
    head = ["early exit", "all steps, accuracy %", "early, accuracy %", "time steps", "operations, % of all steps"]
    return [head, *([_id(cell), *_intervals(cell, "early_exit", columns)] for cell in cells)]


def _intervals(cell: dict[str, Any], what: str, columns: Mapping[str, float]) -> list[str]:
    """Means with their intervals, each times its factor."""
    means, intervals = cell["mean"][what], cell["ci95"][what] or {}
    return [text.with_interval(means.get(name), intervals.get(name), scale) for name, scale in columns.items()]


def _id(cell: dict[str, Any]) -> str:
    return f"`{cell['id']}`"


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
