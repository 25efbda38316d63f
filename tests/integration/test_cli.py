"""The command line from outside: what it prints, what it leaves on disk, how it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from step_ahsar import engine
from step_ahsar.cli import app
from step_ahsar.compare import Summary
from step_ahsar.measure import PRESETS

pytestmark = [
    pytest.mark.xdist_group("cli"),  # they share a comparison
    pytest.mark.usefixtures("eager"),
]

SMALL = ["train.epochs=2", "data.batch_size=256", "data.img_size=4", "model.time_steps=1"]
PROGRAM = [sys.executable, "-c", "from step_ahsar.cli import main; main()"]


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


def ok(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments):
    """The one line of a user's error."""
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file, with its time of change: rewriting it with the same bytes counts as well."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# -- looking around ----------------------------------------------------------------------------------------------------


def test_help_answers_at_once():
    def seconds():
        began = time.perf_counter()
        shown = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
        assert all(
            command in shown.stdout for command in ("list", "train", "evaluate", "compare", "report", "validate")
        )
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 1


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("neurons", ["if", "lif", "plif", "ahsar", "torch"]),
        ("models", ["spikformer_4_384", "qkformer_10_768", "3 x 224 x 224"]),
        ("surrogates", ["sigmoid", "atan", "piecewise_quadratic", "rectangle", "triangle"]),
        ("datasets", ["digits", "static"]),
        ("configs", ["quickstart", "quick start"]),
    ],
)
def test_list(what, some):
    shown = ok("list", what)
    assert all(name in shown for name in some)


@pytest.mark.parametrize(
    ("pattern", "expected"), [("qk*r_4_384", ["qkformer_4_384"]), ("spikformer_8", 3), ("qkformer_seq", 2)]
)
def test_models_by_part_of_a_name_or_by_pattern(pattern, expected):
    names = [line.split()[0] for line in ok("list", "models", pattern).splitlines()[1:]]
    assert (names if isinstance(expected, list) else len(names)) == expected


def test_no_model_matches():
    assert "resnet" in refused("list", "models", "resnet")


def test_version():
    assert re.fullmatch(r"step-ahsar \S+\n", ok("--version"))


def test_validate():
    assert ok("validate", "quickstart") == "valid: a comparison of 8 cells x 3 seeds\n"
    assert ok("validate", "quickstart", "compare=null", "train.epochs=3") == "valid: one run of 3 epochs\n"


# -- bad input ---------------------------------------------------------------------------------------------------------

BAD = {
    "model": ("model.name=spikformer_2_65", "spikformer_2_65", "did you mean 'spikformer_2_64'"),
    "neuron": ("model.neuron=liff", "'liff'", "did you mean 'lif'"),
    "backend": ("model.backend=torhc", "'torhc'", "did you mean 'torch'"),
    "surrogate": ("model.surrogate=sigmoyd", "'sigmoyd'", "did you mean 'sigmoid'"),
    "dataset": ("data.name=digit", "'digit'", "did you mean 'digits'"),
    "key": ("model.treshold=1", "model.treshold", "did you mean 'model.threshold'"),
    "section": ("modle.threshold=1", "modle", "did you mean 'model'"),
    "shape": ("data.img_size=2", "2"),
    "threshold 0": ("model.threshold=0", "model.threshold", "> 0", "got 0"),
    "threshold -1": ("model.threshold=-1", "model.threshold", "> 0", "got -1"),
    "tau 1": ("model.tau=1", "model.tau", "> 1", "got 1"),
    "T 0": ("model.time_steps=0", "model.time_steps", ">= 1", "got 0"),
    "option": ("model.neuron=if model.tau=2", "tau"),
    "band": ("ahsar.band=[0.5,0.2]", "ahsar.band"),
    "no value": ("train.lr", "key=value"),
    "YAML": ("train.lr=[", "train.lr"),
    "type": ("train.epochs=many", "train.epochs", "'many'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_in_one_line(case, tmp_path):
    override, *parts = BAD[case]
    overrides = override.split(" ") if case == "option" else [override]
    for arguments in (["validate"], ["train", "--out", tmp_path / "out"]):
        line = refused(*arguments, "quickstart", "compare=null", *overrides)
        assert all(part in line for part in parts), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("compare.cells=[{id: a, model.neuron: liff}]", ["'a'", "'liff'", "did you mean 'lif'"]),
        ("compare.cells=[{id: a, model.treshold: 1}]", ["'a'", "did you mean 'model.threshold'"]),
        ("compare.cells=[{id: a}, {id: a}]", ["compare.cells", "twice"]),
        ("compare.cells=[{id: ../a}]", ["compare.cells", "../a"]),
        ("compare.seeds=[]", ["compare.seeds"]),
        ("compare=null", ["compare"]),
    ],
)
def test_bad_comparisons_are_refused_before_anything_is_written(override, parts, tmp_path):
    line = refused("compare", "quickstart", override, "--out", tmp_path / "out")
    assert all(part in line for part in parts), line
    assert list(tmp_path.iterdir()) == []


def test_configs_that_are_not_there(tmp_path):
    assert "did you mean 'quickstart'" in refused("validate", "quickstar")
    assert "unknown condition of static data 'hot_pixels'" in refused(
        "validate", "quickstart", "compare.conditions=[hot_pixels]"
    )
    assert "nowhere.yaml" in refused("validate", tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_folders_without_a_run(command, tmp_path):
    assert str(tmp_path) in refused(command, tmp_path)
    assert str(tmp_path / "nowhere") in refused(command, tmp_path / "nowhere")


# -- one run -----------------------------------------------------------------------------------------------------------


def test_a_run_is_trained_evaluated_and_reported(tmp_path):
    out, run = tmp_path / "run", ["train", "quickstart", "compare=null", "model.neuron=ahsar", *SMALL]
    accuracy = re.search(r"epoch 2, test accuracy (\S+) %", ok(*run, "--out", out))[1]
    assert f"epoch 2, test accuracy {accuracy} %" in ok("evaluate", out)
    assert re.search(r"epoch [12], test accuracy", ok("evaluate", out, "--checkpoint", "best"))
    counted = ok("evaluate", out, "--operations")
    assert counted.startswith(ok("evaluate", out))
    assert re.search(r"blocks\.0\.attn +product +attention +0\.\d+ x 0\.\d+ +spikes", counted)
    # 3x3 kernels on 4x4 pixels: 4 of 9 weights, 8 of 6 and 4 of 4, to 8 channels. Behind it there are spikes alone.
    assert re.search(r"a sample, mean of 500: 800 MACs of real numbers, [\d,]+ synaptic operations", counted)
    assert re.search(r"energy, µJ +spiking +ReLU +1-bit activations", counted)  # one time step
    assert all(re.search(rf"\n{preset} +[\d.e-]+ +[\d.e-]+ +[\d.e-]+ *\n", counted) for preset in PRESETS)
    assert str(out / "report.html") in ok("report", out)
    assert "<h2>Examples" in (out / "report.html").read_text(encoding="utf-8")
    summary = Summary.model_validate_json((out / "summary.json").read_bytes())
    assert f"{100 * summary.cells[0].seeds[0].metrics['acc1']:.2f}" == accuracy

    before = contents(out)
    ok(*run, "--out", out)  # it has ended: nothing is trained again
    assert "holds a run of another config" in refused(*run, "train.lr=0.5", "--out", out)
    assert "not empty" in refused(*run, "--out", tmp_path)
    assert "'first'" in refused("evaluate", out, "--checkpoint", "first")
    assert contents(out) == before

    (out / "result.json").unlink()  # as if it had been stopped behind its last epoch
    assert "unfinished run" in refused(*run, "--out", out)
    assert accuracy in ok(*run, "--out", out, "--resume")


def test_a_run_that_diverges_says_where_and_keeps_its_checkpoint(tmp_path):
    result = call("train", "quickstart", "compare=null", *SMALL, "train.lr=1e30", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert re.search(r"error: training diverged: .* at epoch \d+, step \d+", result.stderr)
    assert "Traceback" not in result.output


# -- a comparison ------------------------------------------------------------------------------------------------------

CELLS = (
    "compare.cells=[{id: lif-1}, {id: ahsar-1, model.neuron: ahsar}, "
    "{id: diverges, train.lr: 1.0e+30}, {id: qk, model.name: qkformer_3_64}]"
)
COMPARE = ["compare", "quickstart", *SMALL, CELLS, "compare.seeds=[3,5]", "compare.target=0.1"]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A small real comparison, one cell of which diverges: its folder, and what the command printed."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEP_AHSAR_COMPILE", "0")
        result = call(*COMPARE, "--out", out)
    assert result.exit_code == 0, result.output
    return out, result


def test_a_comparison_leaves_a_valid_summary(comparison):
    out, _ = comparison
    summary = Summary.model_validate_json((out / "summary.json").read_bytes())
    assert [cell.id for cell in summary.cells] == ["lif-1", "ahsar-1", "diverges", "qk"]
    assert all([seed.seed for seed in cell.seeds] == [3, 5] for cell in summary.cells)
    plain, regulated, diverged, _ = summary.cells
    assert plain.n == regulated.n == 2
    assert all(len(seed.epochs) == 2 for seed in (*plain.seeds, *regulated.seeds))
    assert set(plain.mean.firing_rate) == {"stem", "attention", "mlp"}
    assert plain.mean.threshold_scale is None
    assert set(regulated.mean.threshold_scale) == {"stem", "attention", "mlp"}
    assert plain.parameters == regulated.parameters > 100_000
    assert diverged.n == 0
    assert all(re.search(r"at epoch \d+, step \d+$", seed.error) for seed in diverged.seeds)
    pairs = {(pair.cell, pair.control): pair for pair in summary.comparisons}
    assert list(pairs) == [("qk", "lif-1"), ("ahsar-1", "lif-1"), ("diverges", "lif-1")]
    assert pairs["ahsar-1", "lif-1"].seeds == [3, 5]
    assert pairs["diverges", "lif-1"].seeds == []
    assert summary.manifest.runs == summary.manifest.runs_done == 8
    assert summary.manifest.datasets[0]["fingerprint"].startswith("sha256:")


def test_a_comparison_prints_its_table_and_its_failures(comparison):
    out, result = comparison
    for name in ("accuracy %", "epochs to", "firing rate", "ms per", "lif-1", "ahsar-1", "0, 2 failed", "vs lif-1"):
        assert name in result.stdout
    assert result.stdout.count("failed: diverges, seed") == 2
    assert str(out / "report.html") in result.stdout
    assert "run 8/8, qk, seed 5: done" in result.stderr


def test_a_comparison_that_has_ended_is_only_summarised_again(comparison):
    out, first = comparison
    runs = contents(out / "runs")
    again = call(*COMPARE, "--out", out)
    assert again.stdout == first.stdout
    assert contents(out / "runs") == runs


def test_a_folder_with_another_comparison_or_run_is_left_alone(comparison):
    out, _ = comparison
    before = contents(out)
    assert "holds runs of another cell 'lif-1': train.lr is" in refused(*COMPARE, "train.lr=1", "--out", out)
    assert "holds no comparison" in refused(*COMPARE, "--out", out / "runs" / "lif-1" / "3")
    assert "holds no run" in refused("train", "quickstart", "compare=null", "--out", out)
    assert contents(out) == before


def test_a_report_is_rebuilt_from_the_files_of_the_runs(comparison):
    out, first = comparison
    old = json.loads((out / "summary.json").read_text())
    for name in ("summary.json", "report.html"):
        (out / name).unlink()
    assert ok("report", out) == first.stdout
    new = json.loads((out / "summary.json").read_text())
    assert new["cells"] == old["cells"]
    assert "<svg" in (out / "report.html").read_text(encoding="utf-8")
    single = out / "runs" / "ahsar-1" / "5"
    ok("report", single)
    assert "ahsar" in (single / "report.html").read_text(encoding="utf-8")


def test_a_report_in_other_formats(comparison):
    out, _ = comparison
    before = contents(out)
    assert json.loads(ok("report", out, "--format", "json"))["cells"][0]["id"] == "lif-1"
    assert ok("report", out, "--format", "csv").startswith("cell,model.name,")
    assert ok("report", out, "--format", "md").startswith("| cell |")
    assert ok("report", out, "--format", "latex").startswith(r"\begin{tabular}")
    assert "unknown format 'xml'; known: csv, json, latex, md" in refused("report", out, "--format", "xml")
    assert contents(out) == before


def test_several_folders_go_into_one_page(comparison, tmp_path):
    out, _ = comparison
    single = out / "runs" / "ahsar-1" / "5"
    page = tmp_path / "new" / "joined"
    before = contents(out)
    shown = ok("report", out, single, "--out", page)
    assert str(page / "report.html") in shown
    assert contents(out) == before
    summary = json.loads((page / "summary.json").read_text())
    assert [part["name"] for part in summary["manifest"]["parts"]] == [out.name, "5"]
    text = (page / "report.html").read_text(encoding="utf-8")
    assert f"<dd>{out.name}, 5</dd>" in text
    assert f"The whole configuration of <code>{out.name}</code>" in text
    assert f"In the folder <code>{out.name}</code>, under the first seed." in text
    assert ok("report", page).startswith(shown[:100])  # from nothing but its summary.json
    assert ok("report", out, single, "--format", "csv").count("\n") == ok("report", out, "--format", "csv").count("\n")
    assert "needs a folder of its own: --out DIR" in refused("report", out, single)
    assert f"{out} is given twice" in refused("report", out, out, "--out", page)
    assert "whose page would be lost" in refused("report", single, out, "--out", out)
    assert "--format prints and --out writes" in refused("report", out, "--format", "md", "--out", page)


def test_nothing_that_ended_well_is_a_failure(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("broken")

    monkeypatch.setattr(engine, "train", fail)
    result = call(*COMPARE, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: every run failed"
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupted_comparison_says_how_to_go_on_and_does(tmp_path):
    out = tmp_path / "out"
    command = ["compare", "quickstart", *SMALL, "train.epochs=30", "compare.cells=[{id: a}]", "compare.seeds=[0]"]
    running = subprocess.Popen(
        [*PROGRAM, *command, "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore SIGINT, and this would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    metrics = out / "runs" / "a" / "0" / "metrics.jsonl"
    try:
        deadline = time.monotonic() + 60
        while not (metrics.exists() and metrics.read_text().endswith("\n")) and time.monotonic() < deadline:
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted; all finished epochs are kept; continue with the same command"
    assert "Traceback" not in errors
    seed = Summary.model_validate_json((out / "summary.json").read_bytes()).cells[0].seeds[0]
    assert (seed.status, seed.epochs[0].epoch) == ("unfinished", 1)
    assert 1 <= len(seed.epochs) < 30
    ok("report", out)
    assert "Not finished" in (out / "report.html").read_text(encoding="utf-8")
    kept = metrics.read_text().splitlines()[: len(seed.epochs) - 1]
    ok(*command, "--out", out)
    assert metrics.read_text().splitlines()[: len(kept)] == kept
    assert Summary.model_validate_json((out / "summary.json").read_bytes()).cells[0].n == 1
