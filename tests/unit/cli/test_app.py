"""What the commands print. The engine is replaced by functions that return fixed measurements."""

import errno
import os
import platform
import subprocess
import sys
from importlib.metadata import metadata

import pytest
from typer.testing import CliRunner

from step_ahsar import engine, plugins
from step_ahsar.cli import app, doctor
from step_ahsar.config import load_config
from step_ahsar.libraries import list_libraries

FIRING = {"firing_rate": {"mlp": 0.1234}, "dead_fraction": 0.05}
FOUND = {"epoch": 4, "layers": {}, "samples": [], "operations": None, **FIRING}
LINE = "firing rate: mlp 0.123; 5.0 % of neurons silent"


def ok(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.fixture
def evaluated(monkeypatch):
    """`engine.evaluate` of a run of segmentation, and what it was asked for."""
    asked = []

    def evaluate(run, which, overrides=(), operations=False):
        asked.append((which, list(overrides), operations))
        metrics = {"miou": 0.612, "pixel_accuracy": 0.9, "iou_car": 0.5}
        return {"metric": "miou", "metrics": metrics, **FOUND}

    monkeypatch.setattr(engine, "evaluate", evaluate)
    return asked


def test_evaluate_shows_the_metric_that_counts_then_the_others(evaluated):
    assert ok("evaluate", "run") == ["run: epoch 4, test mIoU 61.20 %", "pixel accuracy 90.00 %, IoU car 50.00 %", LINE]
    assert evaluated == [("last", [], False)]


def trained(monkeypatch, best):
    def train(config, out, resume, on_epoch, on_step):
        run = engine.Run.open(out, config, resume)
        dataset = {"name": "digits", "fingerprint": "sha256:0"}
        dataset |= {"skipped": ["1.png: cut short", "2.png: empty"], "length": 29, "padded_to": 32}
        run.begin(dict.fromkeys(engine.run._MANIFEST) | {"dataset": dataset})
        return {
            "status": "ok", "metric": "acc1", "epochs": [{"epoch": 1}, {"epoch": 2}], "metrics": {"acc1": 0.931},
            "best": {"epoch": best, "metrics": {"acc1": 0.945}}, **FIRING,
        }  # fmt: skip

    monkeypatch.setattr(engine, "train", train)


def test_train_shows_its_test_metrics_and_the_files_left_out(monkeypatch, tmp_path):
    trained(monkeypatch, best=2)
    assert ok("train", "quickstart", "compare=null", "--out", tmp_path / "run") == [
        f"{tmp_path / 'run'}: epoch 2, test accuracy 93.10 %",
        LINE,
        "2 files of digits left out: 1.png: cut short; 2.png: empty",
        "series of digits: the model pads length 29 with zeros to 32",
    ]


def test_train_shows_the_best_epoch_if_it_is_not_the_last(monkeypatch, tmp_path):
    trained(monkeypatch, best=1)
    line, *_ = ok("train", "quickstart", "compare=null", "--out", tmp_path / "run")
    assert line == f"{tmp_path / 'run'}: epoch 2, test accuracy 93.10 %; best epoch 1, test accuracy 94.50 %"


def test_many_classes_are_a_table(monkeypatch):
    """Fault: detection on 80 classes ended in one line of 80 figures."""
    metrics = {"map": 0.25, "map_50": 0.5} | {f"ap_class_{i}": i / 100 for i in range(80)}

    def evaluate(run, which, overrides=(), operations=False):
        return {"metric": "map", "metrics": metrics, **FOUND}

    monkeypatch.setattr(engine, "evaluate", evaluate)
    first, second, third, *table = ok("evaluate", "run")
    assert [first, second, third] == ["run: epoch 4, test mAP 25.00 %", "mAP 50 50.00 %", LINE]
    assert all(len(line) <= 80 for line in table)
    for i in range(80):
        assert sum(f"AP class {i} " in f"{line} " for line in table) == 1
    assert "AP class 7    7.0 %" in "\n".join(table)


def test_ctrl_c_is_one_line(monkeypatch):
    """Fault: it was a traceback."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "evaluate", interrupted)
    monkeypatch.setattr(engine, "train", interrupted)
    result = CliRunner().invoke(app, ["evaluate", "run"])
    assert (result.exit_code, result.output) == (130, "interrupted\n")
    result = CliRunner().invoke(app, ["train", "quickstart", "compare=null", "--out", "run"])
    assert (result.exit_code, result.output) == (
        130,
        "interrupted; continue with the same command and --resume\n",
    )


COMMANDS = (
    ["validate", "quickstart"],
    ["train", "quickstart", "compare=null", "--out", "run"],
    ["compare", "quickstart", "--out", "run"],
    ["evaluate", "run"],
    ["export", "run", "--to", "torch"],
    ["report", "run"],
    ["list", "neurons"],
)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_ctrl_c_while_numpy_is_imported(command, in_new_process, tmp_path):
    """Fault: torch goes on with half of numpy, which ended in a RecursionError."""
    in_new_process(f"""
import contextlib, io, os, sys
os.chdir({str(tmp_path)!r})

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy.linalg":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
from step_ahsar.cli import main
assert "numpy" not in sys.modules
sys.argv = ["step-ahsar", *{command!r}]
said = io.StringIO()
try:
    with contextlib.redirect_stderr(said):
        main()
except SystemExit as end:
    assert end.code == 130, end.code
assert said.getvalue() == "interrupted\\n", said.getvalue()
""")


LONG = "a" * 300


@pytest.mark.parametrize(
    "command",
    [
        ["report", LONG],
        ["report", "a/" * 3000],
        ["export", "run", "--to", "torch", "--out", LONG],
        ["train", "quickstart", "compare=null", "data.name=images", f"data.root={LONG}", "--out", "run"],
        ["train", "quickstart", "compare=null", "data.name=folder", f"data.root={LONG}", "--out", "run"],
    ],
)
def test_long_names_are_one_line(command, monkeypatch, tmp_path):
    """Fault: they were tracebacks."""
    monkeypatch.chdir(tmp_path)
    if command[0] == "export":
        engine.Run.open(tmp_path / "run", load_config("quickstart", ["compare=null"]), resume=False).begin({})
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2, result.output
    assert result.output.startswith("error: File name too long: a" if "data.root" not in str(command) else "error: ")
    assert result.output.count("\n") == 1
    assert len(result.output) < 200


def test_other_errors_of_the_system_are_no_users_errors(monkeypatch):
    def broken(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr(engine, "evaluate", broken)
    assert isinstance(CliRunner().invoke(app, ["evaluate", "run"]).exception, FileNotFoundError)


def test_export_names_the_libraries_that_have_layouts():
    shown = " ".join(CliRunner().invoke(app, ["export", "--help"]).output.split())
    assert f"torch, {', '.join(list_libraries('layouts'))}, timm, pt2 or onnx." in shown


@pytest.mark.parametrize("command", ["train", "compare"])
def test_names_that_the_file_system_refuses_are_one_line(command):
    """Fault: they were tracebacks."""
    arguments = [command, "quickstart", "--out", "a" * 300, *(["compare=null"] if command == "train" else [])]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.output.startswith("error: output folder aaa")
    assert result.output.count("\n") == 1
    assert "too long" in result.output
    assert not os.path.lexists("a" * 200)


def test_data_sets_are_listed_with_their_tasks():
    lines = ok("list", "datasets")
    assert lines[0].split() == ["dataset", "modality", "tasks", "classes"]
    assert ["digits", "static", "classification", "10"] in [line.split() for line in lines]


@pytest.mark.parametrize(
    ("what", "some"),
    [
        ("encoders", {"direct", "rate"}),
        ("representations", {"time", "window"}),
        ("tasks", {"classification", "segmentation", "detection"}),
        ("losses", {"ce", "tet", "dice"}),
        ("heads", {"fpn", "fcos"}),
    ],
)
def test_registries_are_listed(what, some):
    assert some <= {line.split()[0] for line in ok("list", what)}


def test_corruptions_are_listed_with_the_data_that_have_them():
    lines = [line.split() for line in ok("list", "corruptions")]
    assert lines[0] == ["corruption", "static", "event", "series"]
    assert ["gaussian_noise", "yes", "-", "yes"] in lines
    assert all(set(line[1:]) <= {"yes", "-"} and "yes" in line for line in lines[1:])


def test_doctor_names_what_is_missing_and_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "a.npz").write_bytes(bytes(2_500_000))
    monkeypatch.setattr("step_ahsar.data.cache_folder", lambda config: tmp_path / "frames")
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    known = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "tonic" else known(name))

    class Entry:
        name, value = "broken", "nowhere"

        def load(self):
            raise ImportError("no such thing")

    for module in (plugins, doctor):
        monkeypatch.setattr(module, "entry_points", lambda group: [Entry()])
    monkeypatch.setattr(plugins, "_begun", False)
    done = CliRunner().invoke(app, ["doctor"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = {line.split("  ")[1].strip(): line for line in done.output.splitlines() if line.startswith("  ")}
    assert lines["Python"].split()[1] == platform.python_version()
    assert "OMP_NUM_THREADS=1 is set" in lines["CPU"]
    assert "no  -> STEP_AHSAR_COMPILE=0 is set; unset it" in lines["compiled"]
    assert "missing  -> pip install 'step-ahsar[events]' if you need it" in lines["events"]
    assert "-> " not in lines["onnx"]
    assert (
        "cannot be loaded  -> plugin 'broken' (nowhere) cannot be loaded and is left out: ImportError: no such"
        in (lines["broken"])
    )
    assert f"{tmp_path / 'frames'}, 2.5 MB  -> may be removed" in lines["frames of events"]
    assert "24 neurons" in lines["backend torch"]
    assert sum(not line.startswith("  ") for line in done.output.splitlines()) == doctor.SECTIONS


def test_doctor_knows_every_extra():
    extras = metadata("step-ahsar").get_all("Provides-Extra")
    assert set(doctor._EXTRAS) == set(extras) - {"all", "test"}


def test_doctor_tells_why_neurons_are_not_compiled_and_a_backend_is_of_no_use(monkeypatch):
    monkeypatch.delenv("STEP_AHSAR_COMPILE", raising=False)
    monkeypatch.setattr("step_ahsar.neurons.kernels.compiling.compiler_available", lambda device: False)
    monkeypatch.setattr("step_ahsar.neurons.list_backends", lambda: ["elsewhere", "torch"])
    monkeypatch.setattr("step_ahsar.neurons.list_neurons", lambda backend: ["lif"])
    found = {row.name: row for row in doctor._neurons()}
    assert found["compiled"].advice == "no C++ compiler is found; install g++ or clang, or name one by CXX"
    assert found["backend torch"] == ("backend torch", "1 neurons", "")
    assert found["backend elsewhere"].value == "1 neurons, of no use"
    assert "unknown backend 'elsewhere'" in found["backend elsewhere"].advice


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_configs(shell):
    begun = "step-ahsar train classification/static/dig"
    words = {
        "COMP_WORDS": begun,
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": begun,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [sys.executable, "-c", "import sys; sys.argv = ['step-ahsar']; from step_ahsar.cli import main; main()"]
    environment = {**os.environ, **words, "_STEP_AHSAR_COMPLETE": f"complete_{shell}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "classification/static/digits" in done.stdout
