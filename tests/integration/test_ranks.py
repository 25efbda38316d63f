"""One run in two real processes (gloo), compared with the same run in one. Both compute in fp64."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from step_ahsar import engine
from step_ahsar.files import unsealed
from tests.integration import ranks_worker as worker

pytestmark = pytest.mark.xdist_group("ranks")  # they share the runs of two processes

TIMES = ("step_ms", "seconds", "peak_memory_mib")  # what may differ between two runs


def start(folder, part):
    """Starts two processes without an agent such as torchrun, which would end one when the other has failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, worker.__file__, str(folder), part]
    return [
        subprocess.Popen(
            command,
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def seen(folder):
    """What each of the two processes saw."""
    torch.set_default_dtype(torch.float64)
    assert worker.stop(folder / "begun-by-one") == "stopped"
    torch.set_default_dtype(torch.float32)
    processes = start(folder, "main")
    errors = [process.communicate(timeout=400)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_what_processes_do_together(seen):
    first, second = (each["collectives"] for each in seen)
    for of_rank in (first, second):
        assert of_rank["total"].tolist() == [3.0]
        assert of_rank["mean"].tolist() == [7.5]  # (1 * 0 + 3 * 10) / 4
        assert of_rank["gathered"] == ["rank 0", "rank 1"]
        assert of_rank["agreed"] == "of rank 0"
        assert of_rank["joined"].tolist() == torch.arange(10).view(5, 2).tolist()
    assert first["error"] == ["UserError", "no"]
    assert second["error"] == ["ToldByMain", "no"]
    assert first["share"].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert second["share"].tolist() == [[2, 3], [6, 7]]
    assert (first["block"], second["block"]) == ([0, 1], [2, 3, 4])


def test_batch_norms_normalise_by_the_joined_batch(seen, double):
    """Output, gradients of input and parameters, and running averages are those of torch's norm on the whole batch."""
    for name, norm, x, grad, axis in worker.norms():
        out, grad_x, grads, averages = worker.through(norm, x, grad, axis)
        for of_rank in seen:
            joined_out, joined_x, joined_grads, joined_averages = of_rank["norms"][name]
            torch.testing.assert_close((joined_out, joined_x), (out, grad_x), msg=lambda text, name=name: name + text)
            torch.testing.assert_close(joined_grads, grads)
            torch.testing.assert_close(joined_averages, averages)


def differences(a, b, place=""):
    """The places at which two records differ by more than rounding in fp64."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        return [each for key in a if key not in TIMES for each in differences(a[key], b[key], f"{place}.{key}")]
    if isinstance(a, list):
        assert len(a) == len(b), place
        return [each for i, pair in enumerate(zip(a, b, strict=True)) for each in differences(*pair, f"{place}.{i}")]
    same = a == pytest.approx(b, rel=1e-9, abs=1e-12) if isinstance(a, float) else a == b
    return [] if same else [(place, a, b)]


def assert_same_weights(a, b):
    for file in ("model.safetensors", "ema.safetensors"):
        mine, other = (load_file(sorted(path.glob("checkpoints/*"))[-1] / file) for path in (a, b))
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("name", list(worker.RUNS))
def test_two_processes_train_as_one(seen, folder, double, tmp_path, name):
    """Losses, metrics, firing rates, thresholds and weights, for shares of different size, accumulation and mixing."""
    alone = engine.train(worker.config_of(name), tmp_path / name)
    for of_rank in seen:
        result, _ = of_rank["runs"][name]
        assert not differences(alone, result)
    assert_same_weights(folder / name, tmp_path / name)
    manifests = (unsealed((path / name / "manifest.json").read_bytes()) for path in (folder, tmp_path))
    assert [manifest["processes"] for manifest in manifests] == [2, 1]


def test_thresholds_moved(seen):
    result, _ = seen[0]["runs"]["plain"]
    assert any(abs(scale - 1) > 1e-3 for scale in result["threshold_scale"].values())


def test_the_first_process_alone_calls_the_hooks(seen):
    (_, first), (_, second) = (each["runs"]["plain"] for each in seen)
    assert first == 2 * (2 + 1)  # two epochs of two steps
    assert second == 0


def test_a_run_that_has_ended_is_not_trained_again(seen):
    for of_rank in seen:
        result, told = of_rank["again"]
        assert told == 0
        assert result == seen[0]["runs"]["plain"][0]


def test_an_interrupted_run_is_continued_by_two_processes_or_by_one(seen, folder, double):
    expected = seen[0]["runs"]["plain"][0]
    for of_rank in seen:
        told, result = of_rank["stopped"]
        assert told == "stopped"
        assert not differences(expected, result)
    copy = folder / "stopped-copy"
    assert len((copy / "metrics.jsonl").read_text().splitlines()) == 1
    assert not differences(expected, engine.train(worker.config_of("plain"), copy, resume=True))


def test_a_run_that_one_process_began_is_continued_by_two(seen):
    for of_rank in seen:
        assert not differences(seen[0]["runs"]["plain"][0], of_rank["begun by one"])


def test_errors_are_raised_in_both_processes(seen):
    text = "data.batch_size must be >= 2, the number of processes, which share every batch, got 1"
    assert [each["one sample"] for each in seen] == [("UserError", text)] * 2
    assert all("unknown dataset 'nothing'" in each["unknown"][1] for each in seen)


def test_without_sync_bn_all_evaluate_the_model_of_the_main_process(seen, folder, double):
    """Each process normalises by its own share, and their running averages differ until the epoch ends."""
    assert [each["apart"] for each in seen] == [None, None]
    (row,) = [unsealed(line) for line in (folder / "apart" / "metrics.jsonl").read_bytes().splitlines()]
    joined = unsealed((folder / "plain" / "metrics.jsonl").read_bytes().splitlines()[0])
    assert row["train_loss"] != pytest.approx(joined["train_loss"], rel=1e-6)
    kept = engine.evaluate(folder / "apart")
    for key in ("metrics", "firing_rate", "dead_fraction", "layers"):
        assert not differences(row[key], kept[key]), key


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_is_named(rank, folder, double, monkeypatch):
    """It ends the run; the last checkpoint is kept, from which one process goes on."""
    monkeypatch.setenv("RANK_THAT_DIES", str(rank))
    processes = start(folder, "die")
    dying, other = processes[rank], processes[1 - rank]
    error = other.communicate(timeout=200)[1]
    dying.communicate(timeout=20)
    assert dying.returncode == 9
    assert other.returncode == 1
    died = folder / f"died-{rank}"
    assert f"a process has ended: rank {rank} of 2; the last checkpoint in {died} is kept" in error
    assert [path.name for path in (died / "checkpoints").iterdir()] == ["epoch-0001"]
    torch.set_default_dtype(torch.float32)
    assert engine.train(worker.config_of("plain"), died, resume=True)["status"] == "ok"


def test_launchers_of_the_command(tmp_path):
    """Torchrun starts the command; the user's error is told once, and nothing is written."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "step_ahsar"]
    done = subprocess.run(
        [*command, "train", "classification/static/digits", "data.batch_size=1", "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr.count("error: data.batch_size must be >= 2") == 2
    assert "rank 1: error: data.batch_size" in done.stderr
    assert not out.exists()
