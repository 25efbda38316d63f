"""scripts/gpu_check without a GPU. Compiling takes too long here, so the uncompiled passes stand beside themselves."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.exc import TorchDynamoException

from step_ahsar.ahsar import Controller
from step_ahsar.bench.networks import TINY
from step_ahsar.bench.timing import Row
from step_ahsar.neurons.kernels import compiling
from step_ahsar.neurons.torch.leaky import LIF

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.py"
CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def check(monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(compiling, "_compiler_available", lambda device_type: False)
    return module


@pytest.fixture
def report(check, tmp_path):
    return check.Report(tmp_path, CPU, rounds=1)


class Extra(LIF):
    """On the other device one of its spikes is another."""

    def simulate(self, x):
        spikes, count = super().simulate(x)
        if os.environ["STEP_AHSAR_COMPILE"] == "1":
            spikes = spikes + torch.zeros_like(spikes).index_fill(0, torch.tensor([0]), 1.0) * (x == x.max())
        return spikes, count


class Slope(LIF):
    """On the other device the slope of its surrogate is another."""

    def slope(self, x):
        return super().slope(x) * (1.0001 if os.environ["STEP_AHSAR_COMPILE"] == "1" else 1)


@pytest.mark.parametrize("name", ["lif", "ds_atgo", "hodgkin_huxley"])
def test_neurons_are_the_same_for_every_t_and_with_a_norm(check, name):
    if name == "hodgkin_huxley":  # slow
        check.KINDS = ((4, False),)
    line = check.equality_of(name, CPU, time.time() + 60)
    kinds = ", ".join(f"T {t}{' normed' if normed else ''}" for t, normed in check.KINDS)
    assert line == ("equality", name, "ok", f"spikes equal, gradients to 0.0e+00: {kinds}")


@pytest.mark.parametrize(("broken", "told"), [(Extra, "1 spikes differ"), (Slope, "0 spikes differ, gradients by 9")])
def test_a_neuron_that_is_not_the_same_has_failed(check, monkeypatch, broken, told):
    monkeypatch.setattr(check, "create_neuron", lambda name, **options: broken())
    monkeypatch.setattr(check, "KINDS", ((1, False),))
    line = check.equality_of("lif", CPU, time.time() + 60)
    assert line.outcome == "FAILED"
    assert told in line.found


def test_a_neuron_for_which_there_is_no_time_is_left_out_and_one_that_raises_has_failed(check, monkeypatch):
    assert check.equality_of("lif", CPU, time.time() - 1).outcome == "skipped"
    monkeypatch.setattr(check, "compare", lambda *_: 1 / 0)
    assert "ZeroDivisionError: division by zero" in check.equality_of("lif", CPU, time.time() + 60).found


def test_passes_that_cannot_be_compiled_have_failed_each_of_them(check, monkeypatch):
    def fails(*_):
        raise TorchDynamoException("no such instruction")

    monkeypatch.setattr(compiling, "_compiler_available", lambda device_type: True)
    monkeypatch.setattr(compiling, "_test_instruction_sets", lambda: False)
    monkeypatch.setattr(compiling, "_compiled", fails)
    monkeypatch.setattr(check, "KINDS", ((1, False), (4, False)))
    line = check.equality_of("lif", CPU, time.time() + 60)
    assert line.outcome == "FAILED"
    assert line.found.count("spiking neurons run uncompiled on cpu, which is slower: no such instruction") == 2


def test_an_input_has_no_membrane_at_its_threshold(check, monkeypatch):
    monkeypatch.setattr(torch, "randn", lambda *shape, generator: torch.full(shape, 1.0))  # 2 / tau = the threshold
    with pytest.raises(RuntimeError, match="a membrane is nearer to its threshold than 1e-05"):
        check.compare("lif", 1, False, CPU)


def test_mixed_precision(check, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    outcome, found = check.trained_in("bf16", TINY[0], steps=4)
    assert outcome == "ok", found
    assert "spikes in bfloat16" in found
    monkeypatch.setattr(Controller, "step", lambda controller: None)
    outcome, found = check.trained_in("bf16", replace(TINY[0], batch=1), steps=2)
    assert outcome == "FAILED"
    assert "not so: " in found
    assert "thresholds move" in found


def test_a_check_that_raises_ends_neither_the_others_nor_the_report(check, report, tmp_path):
    def raises(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    def times(report, *_):
        report.row(Row("neuron", "LIF", "ms", {"ours": [1.0], "theirs": [2.0]}))

    check.run_check("first", check.Check(raises, 1, 1, can_fail=False), report, CPU, most=9)
    assert not report.has_failed
    check.run_check("second", check.Check(raises, 1, 1), report, CPU, most=9)
    check.run_check("third", check.Check(times, 1, 1), report, CPU, most=9)
    check.run_check("fourth", check.Check(raises, 1, 1), report, CPU, most=0)
    assert report.has_failed
    stored = json.loads((tmp_path / "gpu_check.json").read_text())
    found = "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert [(each["check"], each["outcome"], each["found"]) for each in stored["checks"]] == [
        ("first", "skipped", found),
        ("second", "FAILED", found),
        ("fourth", "skipped", "no time"),
    ]
    table = (tmp_path / "gpu_check.md").read_text()
    assert f"| second |  | FAILED | {found} |" in table
    assert "| LIF | 1 ms | 2 ms (0.50) |" in table


@pytest.mark.parametrize("name", ["waits", "graphs"])
def test_what_needs_a_gpu_is_said(check, report, name):
    getattr(check, name)(report, CPU, 1)
    assert [(line.outcome, line.found) for line in report.lines] == [("skipped", "needs a GPU")]


def test_the_wrapper_runs_it(tmp_path):
    python = tmp_path / "python"  # starting the real one takes seconds
    python.write_text('#!/bin/sh\necho "$PYTHONPATH" "$@"\n')
    python.chmod(0o755)
    root = tmp_path / "checkout"  # without .venv
    (root / "scripts").mkdir(parents=True)
    (root / "scripts" / "gpu_check").write_bytes(SCRIPT.with_suffix("").read_bytes())
    command, env = ["bash", root / "scripts" / "gpu_check", "DIR"], {"PYTHON": str(python), "PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == f"{root} scripts/gpu_check.py DIR\n"
    assert os.access(SCRIPT.with_suffix(""), os.X_OK)
