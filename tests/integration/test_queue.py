"""Comparisons whose runs are trained in processes of their own, which may be killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from step_ahsar.compare import compare, load
from step_ahsar.config import load_config
from step_ahsar.engine import InUse, Run, train
from step_ahsar.errors import UserError
from step_ahsar.files import is_locked

PROGRAM = [sys.executable, "-c", "from step_ahsar.cli import main; main()"]
SMALL = ["train.epochs=2", "data.batch_size=256", "data.img_size=4", "model.time_steps=1", "compare.target=null"]
CELLS = "compare.cells=[{id: lif}, {id: ahsar, model.neuron: ahsar}]"
MEASURED = ("step_ms", "seconds")

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="sends signals"),
    pytest.mark.xdist_group("processes"),
    pytest.mark.usefixtures("eager"),
]


def config(*overrides):
    return load_config("quickstart", [*SMALL, CELLS, "compare.seeds=[0]", *overrides])


def rows(path):
    return [{key: row[key] for key in row if key not in MEASURED} for row in Run.existing(path).metrics()]


def weights(path):
    return {
        name: value.tolist() for name, value in load_file(path / "checkpoints/epoch-0002/model.safetensors").items()
    }


def wait_for(what, seconds=90):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def has_epochs(path: Path, number: int) -> bool:
    file = path / "metrics.jsonl"
    return file.exists() and file.read_bytes().count(b"\n") >= number


def start(out, *arguments):
    command = ["compare", "quickstart", *SMALL, CELLS, "compare.seeds=[0]", *arguments, "--out", str(out)]
    return subprocess.Popen(
        [*PROGRAM, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore SIGINT, and this would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_results_do_not_depend_on_the_number_of_jobs(tmp_path):
    for jobs in (1, 2):
        summary = compare(config("launch.threads=2", f"launch.jobs={jobs}"), tmp_path / str(jobs))
        assert [cell["n"] for cell in summary["cells"]] == [1, 1]
    for cell in ("lif", "ahsar"):
        one, two = (tmp_path / jobs / "runs" / cell / "0" for jobs in "12")
        assert rows(one) == rows(two)
        assert weights(one) == weights(two)
        assert Run.existing(one).result()["metrics"] == Run.existing(two).result()["metrics"]
        assert [Run.existing(run).manifest()["hardware"]["threads"] for run in (one, two)] == [2, 2]


def interrupt(process):
    """The last line that a comparison prints when `kill` ends it, of which its processes are not told."""
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    return errors.splitlines()[-1]


def test_whatever_is_killed_the_same_command_goes_on(tmp_path):
    out = tmp_path / "out"
    runs = {cell: out / "runs" / cell / "0" for cell in ("lif", "ahsar")}
    errors = {cell: path.with_name("0.error.txt") for cell, path in runs.items()}
    long = ["train.epochs=5000", "--jobs", "2"]
    process = start(out, *long)
    try:
        wait_for(lambda: process.poll() is not None or all(has_epochs(path, 1) for path in runs.values()))
        assert process.poll() is None, process.communicate()

        # A second process is refused, of the comparison and of one of its runs.
        with pytest.raises(UserError, match=r"another process writes a comparison into .*; wait for it, or end it"):
            compare(config("train.epochs=5000"), out)
        with pytest.raises(InUse, match=r"another process is training the run in .*; wait for it, or end it"):
            train(Run.existing(runs["lif"]).config, runs["lif"], resume=True)

        # A process that is killed costs its run alone.
        workers = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        wait_for(lambda: any(file.exists() for file in errors.values()))
        [lost] = [cell for cell, file in errors.items() if file.exists()]
        [other] = set(runs) - {lost}
        error = errors[lost].read_text().splitlines()[0]
        assert error == "its process was ended from outside, as it is when memory runs out"
        done = len(rows(runs[other]))
        wait_for(lambda: has_epochs(runs[other], done + 2))

        # If the comparison itself is killed, its processes end.
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert alive == []
        assert not any(map(is_locked, runs.values()))

        # The same command goes on with both runs, until `kill` ends it and its processes.
        before = {cell: rows(path)[:-1] for cell, path in runs.items()}  # the last one may have no checkpoint
        process = start(out, *long)
        wait_for(lambda: process.poll() is not None or all(len(rows(runs[c])) > len(before[c]) + 2 for c in runs))
        workers = psutil.Process(process.pid).children(recursive=True)
        assert interrupt(process) == "interrupted; all finished epochs are kept; continue with the same command"
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert alive == []
        for cell, path in runs.items():
            assert rows(path)[: len(before[cell])] == before[cell]
            assert not errors[cell].exists()
        assert [cell["seeds"][0]["status"] for cell in load(out)["cells"]] == ["unfinished", "unfinished"]
    finally:
        process.kill()
        process.communicate()
