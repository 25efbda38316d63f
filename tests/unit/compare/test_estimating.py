"""What a comparison will cost. Measuring is stood in for, but for one test."""

import pytest
import timm
import torch

from step_ahsar.compare import compare, estimate
from step_ahsar.config import load_config
from step_ahsar.data import find_dataset, list_corruptions, open_data
from step_ahsar.engine import Cost, probe

CELLS = "[{id: lif-1}, {id: lif-2, model.threshold: 2.0}, {id: ahsar-1, model.neuron: ahsar}]"


def config(tmp_path, *overrides):
    given = ["train.epochs=2", "compare.seeds=[0,1]", f"compare.cells={CELLS}", f"data.cache={tmp_path / 'cache'}"]
    return load_config("quickstart", [*given, *overrides])


@pytest.fixture
def measured(monkeypatch):
    """The neurons that were measured. Each costs 1 s to start, 10 s an epoch, 2 s a test and 100 bytes."""
    neurons = []

    def stand_in(config, data):
        neurons.append(config.model.neuron)
        return Cost(start=1.0, epoch=10.0, test=2.0, state=100)

    monkeypatch.setattr("step_ahsar.engine.probe", stand_in)
    return neurons


def of(found):
    return {cell.cell: (cell.runs, cell.epochs, cell.seconds, cell.bytes) for cell in found.cells}


def test_nothing_is_measured_twice_or_written(measured, tmp_path):
    found = estimate(config(tmp_path), tmp_path / "out")
    # Each of two runs: 1 s, two epochs of 10 s, and two tests of 2 s. Three checkpoints of 100 bytes are kept.
    assert of(found) == dict.fromkeys(("lif-1", "lif-2", "ahsar-1"), (2, 4, 50.0, 600))
    assert (found.runs, found.changes) == (6, [])
    assert measured == ["lif", "ahsar"]  # a threshold changes no time
    assert estimate(config(tmp_path), tmp_path / "out") == found
    assert measured == ["lif", "ahsar"]
    assert not (tmp_path / "out").exists()
    estimate(config(tmp_path, "model.time_steps=2"), tmp_path / "out")
    assert measured == ["lif", "ahsar"] * 2


def test_conditions_and_early_exit_are_tests(measured, tmp_path):
    """Beside the two tests of its training: each corruption at five severities, T, FGSM with one gradient, PGD with ten
    (each as long as three tests), and early exit of four steps with two tests and four counts of 1.4, on average of
    two and a half steps of four."""
    settings = (
        "model.time_steps=4",
        "compare.cells=[{id: lif-1}]",
        "compare.early_exit=confidence",
        "compare.conditions=[corruptions,'time_steps:8','fgsm:8','pgd:8']",
    )
    found = estimate(config(tmp_path, *settings), tmp_path / "out")
    tests = 2 + (1 + len(list_corruptions(find_dataset("digits"))) * 5) + 1 + 4 + 31 + 2 + 4 * 1.4 * 2.5 / 4
    assert of(found)["lif-1"][2] == pytest.approx(2 * (1 + tests * 2) + 4 * 10)


def test_a_damaged_cache_is_made_again(measured, tmp_path):
    found = estimate(config(tmp_path), tmp_path / "out")
    (tmp_path / "cache" / "costs.json").write_text("{")
    assert estimate(config(tmp_path), tmp_path / "out") == found
    assert measured == ["lif", "ahsar"] * 2


def test_epochs_that_were_trained_are_the_measure(training, measured, tmp_path):
    """Of the runs of lif-1, one has ended and one was interrupted after its first epoch; the second took 1 s."""
    training.faults["lif", 1] = KeyboardInterrupt()
    alone = "compare.cells=[{id: lif-1}]"
    with pytest.raises(KeyboardInterrupt):
        compare(config(tmp_path, alone), tmp_path / "out")
    found = estimate(config(tmp_path, "compare.cells=[{id: plain}, {id: new, model.neuron: ahsar}]"), tmp_path / "out")
    assert found.changes == ["cells kept: plain", "cells renamed: lif-1 is now plain", "cells new: new"]
    assert of(found) == {"plain": (1, 1, 1 + 2 * 2 + 1.0, 300), "new": (2, 4, 50.0, 600)}
    training.faults.clear()
    compare(config(tmp_path, alone), tmp_path / "out")
    measured.clear()
    assert of(estimate(config(tmp_path, alone), tmp_path / "out")) == {"lif-1": (0, 0, 0.0, 0)}
    assert measured == []


def test_a_real_measurement(monkeypatch):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    small = load_config("quickstart", ["data.img_size=4", "model.time_steps=1", "compare=null", "data.batch_size=32"])
    cost = probe(small, open_data(small))
    assert min(cost.start, cost.epoch, cost.test) > 0
    with torch.device("meta"):
        model = timm.create_model("spikformer_2_64", in_chans=1)
    weights = 4 * sum(p.numel() for p in model.parameters())
    assert 3 * weights < cost.state < 3.1 * weights  # AdamW has two moments of each weight
    assert cost.epoch > 3 * cost.test  # 36 steps of 32 images, against 4 batches of 128
