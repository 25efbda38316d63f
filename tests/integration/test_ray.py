"""Comparisons on a real Ray cluster. scripts/test-ray starts one of two nodes on this machine, and runs these tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from step_ahsar.compare import compare, load
from step_ahsar.config import load_config
from step_ahsar.engine import Run
from step_ahsar.errors import UserError

pytestmark = pytest.mark.skipif("STEP_AHSAR_RAY" not in os.environ, reason="see scripts/test-ray")

SMALL = [
    *("data.batch_size=256", "data.img_size=4", "model.time_steps=1", "compare.target=null", "launch.threads=1"),
    "compare.cells=[{id: lif}, {id: ahsar, model.neuron: ahsar}]",
    "launch.launcher=ray",
    "launch.jobs=2",
]
MEASURED = ("step_ms", "seconds")


def given(*overrides, epochs=2, seeds="[0]"):
    return [*SMALL, f"train.epochs={epochs}", f"compare.seeds={seeds}", *overrides]


def start(out, overrides):
    command = [sys.executable, "-m", "step_ahsar", "compare", "quickstart", *overrides, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.1)


def rows(run):
    return [{key: row[key] for key in row if key not in MEASURED} for row in Run.existing(run).metrics()]


def epochs(run):
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def workers():
    """The processes that train."""
    return [p for p in psutil.process_iter(["cmdline"]) if "ray::_train" in " ".join(p.info["cmdline"] or ())]


def alone(tmp_path, overrides):
    out = tmp_path / "alone"
    compare(load_config("quickstart", [*overrides, "launch.launcher=local", "launch.jobs=1"]), out)
    return out


def test_tasks_train_what_one_process_trains_on_both_nodes(tmp_path):
    out, overrides = tmp_path / "out", given(epochs=10)
    head = start(out, overrides)
    wait_for(lambda: len(workers()) == 2)  # each node has one CPU
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 0, text
    reference = alone(tmp_path, overrides)
    for cell in ("lif", "ahsar"):
        run = Path("runs") / cell / "0"
        assert rows(out / run) == rows(reference / run)


def test_a_lost_process_is_started_again_and_goes_on(tmp_path):
    out, overrides = tmp_path / "out", given("launch.jobs=1", "compare.cells=[{id: lif}]", epochs=25)
    head, run = start(out, overrides), out / "runs/lif/0"
    wait_for(lambda: epochs(run) >= 2)
    (worker,) = workers()
    worker.kill()
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 0, text
    assert rows(run) == rows(alone(tmp_path, overrides) / "runs/lif/0")


def test_without_retries_its_cell_fails(tmp_path):
    out = tmp_path / "out"
    head = start(out, given("launch.retries=0", epochs=25))
    wait_for(lambda: epochs(out / "runs/lif/0") >= 1 and len(workers()) == 2)
    lost = min(workers(), key=lambda p: p.create_time())
    lost.kill()
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 0, text
    errors = [cell["seeds"][0]["error"] for cell in load(out)["cells"]]
    (error,) = [error for error in errors if error is not None]
    assert error.startswith("its Ray task was lost: WorkerCrashedError")


def test_tasks_end_with_the_head_and_the_same_command_goes_on(tmp_path):
    out, overrides = tmp_path / "out", given(epochs=20)
    for number in (signal.SIGKILL, signal.SIGINT):
        head = start(out, overrides)
        before = epochs(out / "runs/lif/0")
        wait_for(lambda before=before: epochs(out / "runs/lif/0") > before)
        head.send_signal(number)
        head.communicate(timeout=60)
        wait_for(lambda: not workers())
    text = (head := start(out, overrides)).communicate(timeout=300)[0]
    assert head.returncode == 0, text
    assert rows(out / "runs/lif/0") == rows(alone(tmp_path, overrides) / "runs/lif/0")


def test_what_no_node_has_is_refused(tmp_path):
    with pytest.raises(UserError, match="no node of the Ray cluster has the 1 CPUs and 1 GPUs"):
        compare(load_config("quickstart", given("launch.gpus=1")), tmp_path / "out")
    with pytest.raises(UserError, match="in one process, on one GPU"):
        compare(load_config("quickstart", given("launch.gpus=2")), tmp_path / "out")
