"""Summaries as text for other programs."""

import csv
import io
import json

from step_ahsar.report import text
from step_ahsar.report.formats import as_csv, as_json, as_latex, as_markdown


def rows(printed):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]


def test_markdown_has_a_line_for_each_cell_and_pair(failed_summary):
    first, _, further = as_markdown(failed_summary).partition("\n\n| paired over seeds |")
    paired = further.split("\n\n")[0]
    assert len(rows(paired)) == len(failed_summary["comparisons"]) + 1  # and what is left of the header
    header, line, *cells = rows(first)
    assert header == [
        "cell", "threshold", "accuracy %, mean ± 95 %", "n", "epochs to 90 %", "firing rate: stem / attention / mlp",
    ]  # fmt: skip
    assert {len(row) for row in (header, line, *cells)} == {6}
    assert [row[0].strip("`") for row in cells] == [cell["id"] for cell in failed_summary["cells"]]
    assert cells[2][1:5] == ["2", "55.5 ± 12.0", "2, 1 failed", "> 8"]
    assert cells[5][2:] == ["–", "0, 3 failed", "–", "–"]


def test_what_else_was_measured_has_tables_of_its_own(summary):
    tables = {found[0][0]: found for part in as_markdown(summary).split("\n\n") if (found := rows(part))}
    names = ["cell", "paired over seeds", "of one sample", "the same shape without spikes", "at equal operations"]
    names += ["at equal firing rate", "robustness", "corrupted, at equal clean accuracy", "early exit"]
    assert list(tables) == names
    for found in tables.values():
        assert len({len(row) for row in found}) == 1
    cell = summary["cells"][0]
    operations, robustness, exits = (tables[name][2] for name in ("of one sample", "robustness", "early exit"))
    assert operations[1] == text.significant(cell["mean"]["operations"]["synaptic_operations"] / 1e6)
    assert operations[-1] == "700"  # the energy by memory
    assert robustness[1].split(" ± ")[0] == f"{100 * cell['mean']['robustness']['corrupted']:.1f}"
    assert [value.split(" ± ")[0] for value in exits[3:]] == ["2.0", "50.0"]
    assert len(tables["at equal operations"]) == len(tables["corrupted, at equal clean accuracy"]) == 4
    [_, _, alike] = tables["the same shape without spikes"]  # of all cells, which have the same
    assert alike[1:] == ["50.0"] * 4


def test_tasks_without_a_target(tasks_summary):
    summary = tasks_summary | {"manifest": tasks_summary["manifest"] | {"target": None}, "comparisons": []}
    header, _, *cells = rows(as_markdown(summary).split("\n\n")[0])
    assert header[2:4] == ["metric %, mean ± 95 %", "n"]
    assert len(header) == 5
    assert {row[2].split()[-1] for row in cells} == {"mIoU", "mAP"}


def test_a_single_run_has_no_pairs(single_summary):
    assert "paired" not in as_markdown(single_summary)
    assert (
        as_latex(single_summary).count(r"\begin{tabular}") == 5
    )  # and operations, without spikes, robustness, early exit


def test_latex_is_the_same_table_with_its_signs_escaped(failed_summary):
    cells, pairs, *_ = as_latex(failed_summary).split("\n\n")
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
            assert float(row["condition.jpeg:1"]) == seed["conditions"]["jpeg:1"]["metrics"]["acc1"]
            assert float(row["robustness.corrupted"]) == seed["robustness"]["corrupted"]
        else:
            assert row["metric.acc1"] == ""


def test_json_is_the_summary(failed_summary):
    assert json.loads(as_json(failed_summary)) == json.loads(json.dumps(failed_summary))
