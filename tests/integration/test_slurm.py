"""Comparisons on a real Slurm cluster. scripts/test-slurm starts one on this machine, and runs these tests."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from step_ahsar.compare import compare
from step_ahsar.config import load_config
from step_ahsar.engine import Run
from step_ahsar.errors import UserError

pytestmark = pytest.mark.skipif("STEP_AHSAR_SLURM" not in os.environ, reason="see scripts/test-slurm")

PROGRAM = [sys.executable, "-m", "step_ahsar"]
SMALL = [
    *("data.batch_size=256", "data.img_size=4", "model.time_steps=1", "compare.target=null", "launch.threads=1"),
    "compare.cells=[{id: lif}, {id: ahsar, model.neuron: ahsar}]",
]
SLURM = ["launch.launcher=slurm", "launch.jobs=2"]
MEASURED = ("step_ms", "seconds")


@pytest.fixture(autouse=True)
def settings(monkeypatch, tmp_path):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    yield
    subprocess.run(["scancel", "--me"], check=False)


def given(*overrides, epochs=2, seeds="[0]"):
    return [*SMALL, *SLURM, f"train.epochs={epochs}", f"compare.seeds={seeds}", *overrides]


def start(out, overrides):
    command = [*PROGRAM, "compare", "quickstart", *overrides, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"nothing happened:\n{told('squeue')}"
        time.sleep(0.2)


def told(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def rows(run):
    return [{key: row[key] for key in row if key not in MEASURED} for row in Run.existing(run).metrics()]


def epochs(run):
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def job_of(out, cell):
    return (out / "runs" / cell / "0.job.txt").read_text()


def alone(tmp_path, overrides):
    """The same comparison in this process."""
    out = tmp_path / "alone"
    compare(load_config("quickstart", [*overrides, "launch.launcher=local", "launch.jobs=1"]), out)
    return out


def errors(out):
    from step_ahsar.compare import load

    return {cell["id"]: cell["seeds"][0]["error"] for cell in load(out)["cells"]}


def test_jobs_train_what_one_process_trains(tmp_path):
    out, overrides = tmp_path / "out", given(seeds="[0, 1]")
    head = start(out, overrides)
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 0, text
    reference = alone(tmp_path, overrides)
    for cell in ("lif", "ahsar"):
        for seed in "01":
            run = Path("runs") / cell / seed
            assert rows(out / run) == rows(reference / run)
    assert job_of(out, "lif").partition("_")[0] == job_of(out, "ahsar").partition("_")[0], "one array"
    assert (out / "report.html").exists()


def test_a_requeued_job_goes_on_from_its_epoch(tmp_path):
    out, overrides = tmp_path / "out", given(epochs=25)
    head, run = start(out, overrides), out / "runs/ahsar/0"
    wait_for(lambda: epochs(run) >= 2)
    job = job_of(out, "ahsar")
    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_for(lambda: f"{job} PENDING" in told("squeue", "--array", "--noheader", "--format=%i %T"))
    before = epochs(run)
    assert before < 25
    # Slurm lets a requeued job wait for two minutes.
    subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], check=True)
    text = head.communicate(timeout=400)[0]
    assert head.returncode == 0, text
    assert "Restarts=1" in told("scontrol", "show", "job", job)
    reference = alone(tmp_path, overrides)
    assert rows(run) == rows(reference / "runs/ahsar/0")


def test_jobs_that_others_displace_go_on_from_their_epochs(tmp_path):
    """A job of a partition with a higher priority takes the whole node; the displaced ones are requeued by Slurm."""
    out, overrides = tmp_path / "out", given(epochs=25)
    head = start(out, overrides)
    wait_for(lambda: all(epochs(out / f"runs/{cell}/0") >= 2 for cell in ("lif", "ahsar")))
    jobs = [job_of(out, cell) for cell in ("lif", "ahsar")]
    urgent = ["sbatch", "--wait", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"]
    subprocess.run(urgent, check=True, timeout=120)
    before = [epochs(out / f"runs/{cell}/0") for cell in ("lif", "ahsar")]
    assert all(count < 25 for count in before)
    for job in jobs:
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], check=True)
    text = head.communicate(timeout=400)[0]
    assert head.returncode == 0, text
    assert all("Restarts=1" in told("scontrol", "show", "job", job) for job in jobs)
    reference = alone(tmp_path, overrides)
    for cell in ("lif", "ahsar"):
        assert rows(out / f"runs/{cell}/0") == rows(reference / f"runs/{cell}/0")


def test_a_cancelled_job_fails_its_cell_alone(tmp_path):
    out = tmp_path / "out"
    head = start(out, given(epochs=15))
    wait_for(lambda: epochs(out / "runs/lif/0") >= 1)
    subprocess.run(["scancel", job_of(out, "lif")], check=True)
    assert head.wait(300) == 0
    found = errors(out)
    assert found["ahsar"] is None
    assert found["lif"].startswith(f"Slurm job {job_of(out, 'lif')} ended as CANCELLED: it was cancelled")


def test_a_job_without_time_or_memory_says_so(tmp_path):
    out = tmp_path / "out"
    head = start(out, given("launch.time=1", "train.epochs=100000", "compare.cells=[{id: lif}]"))
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 1, text
    assert "ended as TIMEOUT: it ran out of time, launch.time" in errors(out)["lif"]
    assert epochs(out / "runs/lif/0") > 0

    out = tmp_path / "small"
    head = start(out, given("launch.memory=0.1", "compare.cells=[{id: lif}]"))
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 1, text
    # Where Slurm limits memory by cgroups, the state is OUT_OF_MEMORY.
    assert "(Exceeded job memory limit)" in errors(out)["lif"]


def test_another_head_finds_the_jobs_of_the_first(tmp_path):
    out, overrides = tmp_path / "out", given(epochs=20)
    head = start(out, overrides)
    wait_for(lambda: epochs(out / "runs/lif/0") >= 1)
    head.kill()
    head.wait()
    jobs = {cell: job_of(out, cell) for cell in ("lif", "ahsar")}
    second = start(out, overrides)
    text = second.communicate(timeout=400)[0]
    assert second.returncode == 0, text
    assert jobs == {cell: job_of(out, cell) for cell in jobs}
    assert all("Restarts=0" in told("scontrol", "show", "job", job) for job in jobs.values())
    assert errors(out) == {"lif": None, "ahsar": None}


def test_ctrl_c_cancels_the_jobs(tmp_path):
    out = tmp_path / "out"
    head = start(out, given(epochs=100))
    wait_for(lambda: epochs(out / "runs/lif/0") >= 1)
    head.send_signal(signal.SIGINT)
    assert head.wait(60) == 130
    wait_for(lambda: not told("squeue", "--noheader", "--me"), 30)


def test_a_run_on_two_gpus_has_two_processes(tmp_path):
    """The cluster's GPUs are none, so the processes train on its cores."""
    out = tmp_path / "out"
    head = start(out, given("launch.gpus=2", "launch.jobs=1", "compare.cells=[{id: lif}]"))
    text = head.communicate(timeout=300)[0]
    assert head.returncode == 0, text
    assert Run.existing(out / "runs/lif/0").manifest()["processes"] == 2


def test_what_slurm_refuses(tmp_path):
    config = load_config("quickstart", given("launch.partition=nowhere"))
    with pytest.raises(UserError, match=r"Slurm has refused the jobs: .*nvalid partition"):
        compare(config, tmp_path / "out")
