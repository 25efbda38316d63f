"""Summaries as text for other programs."""

import csv
import io
import json

from step_ahsar.report.formats import as_csv, as_json, as_latex, as_markdown


def rows(printed):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]


def test_markdown_has_a_line_for_each_cell_and_pair(failed_summary):
    first, _, paired = as_markdown(failed_summary).partition("\n\n| paired over seeds |")
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
    summary = tasks_summary | {"manifest": tasks_summary["manifest"] | {"target": None}, "comparisons": []}
    header, _, *cells = rows(as_markdown(summary))
    assert header[2:4] == ["metric %, mean ± 95 %", "n"]
    assert len(header) == 5
    assert {row[2].split()[-1] for row in cells} == {"mIoU", "mAP"}


def test_a_single_run_has_no_pairs(single_summary):
    assert "paired" not in as_markdown(single_summary)
    assert as_latex(single_summary).count(r"\begin{tabular}") == 1


def test_latex_is_the_same_table_with_its_signs_escaped(failed_summary):
    cells, pairs = as_latex(failed_summary).split("\n\n")
    assert cells.splitlines()[:4] == [
        r"\begin{tabular}{lrrrrr}",
        r"\toprule",
        r"cell & threshold & accuracy \%, mean $\pm$ 95 \% & n & epochs to 90 \% & "
        r"firing rate: stem / attention / mlp \\",
        r"\midrule",
    ]
    assert cells.splitlines()[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert r"spikformer-lif-2 & 2 & 55.5 $\pm$ 12.0 & 2, 1 failed & $>$ 8" in cells
    assert len(pairs.splitlines()) == len(failed_summary["comparisons"]) + 6
    for sign in "±−≤≥`<>":
        assert sign not in cells.replace("$<$", "").replace("$>$", "")
    every = {line.count(" & ") for line in pairs.splitlines() if line.endswith(r"\\")}
    assert every == {5}


def test_csv_has_a_line_for_each_run(failed_summary):
    found = list(csv.DictReader(io.StringIO(as_csv(failed_summary))))
    runs = [(cell, seed) for cell in failed_summary["cells"] for seed in cell["seeds"]]
    assert len(found) == len(runs)
    for row, (cell, seed) in zip(found, runs, strict=True):
        assert (row["cell"], int(row["seed"]), row["status"]) == (cell["id"], seed["seed"], seed["status"])
        assert row["model.neuron"] == cell["settings"]["model.neuron"]
        assert row["error"] == (seed["error"] or "")
        if seed["status"] == "ok":
            assert float(row["metric.acc1"]) == seed["metrics"]["acc1"]
            assert float(row["best.acc1"]) == seed["best"]["metrics"]["acc1"]
            assert float(row["rate.attention"]) == seed["firing_rate"]["attention"]
            assert float(row["operations.macs"]) == seed["operations"]["macs"]
            assert float(row["energy_uj.memory"]) == seed["energy"]["memory"]
        else:
            assert row["metric.acc1"] == ""


def test_json_is_the_summary(failed_summary):
    assert json.loads(as_json(failed_summary)) == json.loads(json.dumps(failed_summary))
