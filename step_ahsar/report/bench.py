"""The benchmark's results as lines, as Markdown, and as a picture. They are plain dicts, as bench.json has them."""

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from step_ahsar.errors import UserError
from step_ahsar.files import write_file

_AXES = {"time-steps": "time steps T", "batches": "batch size"}


def lines(row: Mapping[str, Any]) -> list[str]:
    """What was measured, and a line for each contender with its median and what the first one's is of it."""
    medians, width = row["medians"], max(map(len, [*row["medians"], *row["skipped"]]), default=0)
    found = [f"{row['part']}: {row['case']}"]
    for name, value in medians.items():
        found.append(f"  {name:<{width}}  {_number(value)} {row['unit']:<4}{_ratio(row['ratios'].get(name))}".rstrip())
    return found + [f"  {name:<{width}}  not measured: {reason}" for name, reason in row["skipped"].items()]


def as_markdown(found: Mapping[str, Any]) -> str:
    """A table for each part. Behind a contender's median stands the first one's, divided by it, with its interval."""
    machine, versions = found["hardware"], found["versions"]
    where = machine["accelerator"] if found["device"] != "cpu" else f"{machine['threads']} threads of {machine['cpu']}"
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = [f"{where}; {found['rounds']} rounds; {known}; {found['made'][:10]}.", ""]
    for part, rows in groupby(found["rows"], key=lambda row: row["part"]):
        of_part = list(rows)
        names = list(dict.fromkeys(name for row in of_part for name in [*row["medians"], *row["skipped"]]))
        text += [f"| {part} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
        for row in of_part:
            cells = [
                f"{_number(row['medians'][name]).strip()} {row['unit']}{_ratio(row['ratios'].get(name))}"
                if name in row["medians"]
                else "–"
                for name in names
            ]
            text.append(f"| {row['case']} | {' | '.join(cells)} |")
        text.append("")
    return "\n".join(text)


def write(found: Mapping[str, Any], directory: Path) -> None:
    """Writes bench.json, bench.md and, if there is something to draw, bench.png.

    Raises:
        UserError: the folder cannot be written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_file(directory / "bench.json", json.dumps(found, indent=1))
        write_file(directory / "bench.md", as_markdown(found))
        if (figure := draw(found)) is not None:
            figure.savefig(directory / "bench.png", dpi=130)
    except OSError as fault:
        raise UserError(f"cannot write to {directory}: {fault.strerror}") from fault


def draw(found: Mapping[str, Any]) -> Figure | None:
    """Time against T and against the batch size, on logarithmic axes; None if neither was measured."""
    parts = {part: [row for row in found["rows"] if row["part"] == part and row["medians"]] for part in _AXES}
    shown = {part: rows for part, rows in parts.items() if rows}
    if not shown:
        return None
    figure = Figure(figsize=(5.2 * len(shown), 3.6), layout="constrained")
    for panel, (part, rows) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown.items(), strict=True):
        for name in rows[0]["medians"]:
            points = [(row["at"], row["medians"][name]) for row in rows if name in row["medians"]]
            panel.loglog(*zip(*points, strict=True), marker="o", markersize=4, label=name)
        places = [row["at"] for row in rows]
        panel.set_xticks(places, [f"{place:g}" for place in places])
        panel.minorticks_off()
        panel.set_xlabel(_AXES[part])
        panel.set_ylabel("a training step, ms")
        panel.set_title(rows[0]["case"].rpartition(", ")[0], fontsize=9, loc="left")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False, fontsize=9)
    return figure


def _number(value: float) -> str:
    """Three significant digits, or all before the point, in a column."""
    return f"{f'{value:.0f}' if value >= 100 else f'{value:.3g}':>8}"


def _ratio(ratio: Mapping[str, Any] | None) -> str:
    if ratio is None:
        return ""
    interval = "" if ratio["low"] is None else f" [{ratio['low']:.2f}, {ratio['high']:.2f}]"
    return f" ({ratio['median']:.2f}{interval})"
