"""scripts/results_table.py: summaries as Markdown."""

import runpy
from pathlib import Path

import pytest

from step_ahsar.compare import write

SCRIPT = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "results_table.py"))


def rows(printed):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]


def test_a_line_for_each_cell(failed_summary, tmp_path, capsys):
    write(failed_summary, tmp_path)
    assert SCRIPT["main"]([str(tmp_path / "summary.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("**quickstart**\n\n| cell |")
    first, _, paired = printed.partition("\n\n| paired over seeds |")
    assert len(rows(paired)) == len(failed_summary["comparisons"]) + 1  # and what is left of the header
    header, line, *cells = rows(first)
    assert header == [
        "cell", "threshold", "accuracy %, mean ± 95 %", "n", "epochs to 90 %", "firing rate: stem / attention / mlp",
    ]  # fmt: skip
    assert {len(row) for row in (header, line, *cells)} == {6}
    assert [row[0].strip("`") for row in cells] == [cell["id"] for cell in failed_summary["cells"]]
    assert cells[2][1:5] == ["2", "55.5 ± 12.0", "2, 1 failed", "> 8"]
    assert cells[5][2:] == ["–", "0, 3 failed", "–", "–"]


def test_tasks_without_a_target(tasks_summary):
    summary = tasks_summary | {"manifest": tasks_summary["manifest"] | {"target": None}}
    header, _, *cells = rows(SCRIPT["table"](summary))
    assert header[2:4] == ["metric %, mean ± 95 %", "n"]
    assert len(header) == 5
    assert {row[2].split()[-1] for row in cells} == {"mIoU", "mAP"}


@pytest.mark.parametrize("name", ["summary.json", "nowhere/summary.json", "other.json", "."])
def test_what_is_no_summary_is_named(name, tmp_path, capsys):
    (tmp_path / "other.json").write_text("{}")
    assert SCRIPT["main"]([str(tmp_path / name)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
