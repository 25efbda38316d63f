"""Samples that leave early."""

import math

import pytest
import torch

from step_ahsar import engine
from step_ahsar.compare import compare, load
from step_ahsar.config import load_config
from step_ahsar.engine import measure_early_exit, read_result, train
from step_ahsar.engine.early_exit import THRESHOLDS, certainty, chosen, exit_steps
from step_ahsar.errors import UserError
from tests.integration.test_cli import ok, refused
from tests.integration.test_conditions import TINY

pytestmark = pytest.mark.usefixtures("eager", "one_thread")


def tiny(*overrides, config="quickstart"):
    return load_config(config, [*TINY, "model.time_steps=3", *overrides])


def test_certainty_by_hand():
    logits = torch.tensor([[[math.log(3), 0.0]], [[0.0, math.log(27)]]])  # [T 2, B 1, K 2]
    # The means so far are [log 3, 0] and [log 3, log 27] / 2: probabilities 3/4, 1/4 and 1/4, 3/4.
    assert certainty(logits, "confidence").flatten().tolist() == pytest.approx([0.75, 0.75])
    entropy = 1 + (0.75 * math.log(0.75) + 0.25 * math.log(0.25)) / math.log(2)
    assert certainty(logits, "entropy").flatten().tolist() == pytest.approx([entropy, entropy], rel=1e-5)
    sure, unsure = torch.tensor([[[1000.0, 0.0, 0.0]]]), torch.zeros(1, 1, 3)
    for criterion, least in (("confidence", 1 / 3), ("entropy", 0.0)):
        assert certainty(sure, criterion).item() == pytest.approx(1)
        assert certainty(unsure, criterion).item() == pytest.approx(least, abs=1e-6)


def test_steps_by_hand():
    certain = torch.tensor([[0.5, 0.9, 0.1], [0.7, 0.2, 0.2], [0.6, 0.9, 0.3]])
    assert exit_steps(certain, 0.7).tolist() == [2, 1, 3]
    assert exit_steps(certain, 0.0).tolist() == [1, 1, 1]
    assert exit_steps(certain, None).tolist() == [3, 3, 3]
    assert certain[-1].tolist() == pytest.approx([0.6, 0.9, 0.3])  # as it was


def test_the_threshold_is_chosen_in_validation_alone():
    points = [
        {"threshold": threshold, "acc1": acc1, "validation_acc1": judged, "validation_time_steps": steps}
        for threshold, acc1, judged, steps in (
            (0.0, 1.0, 0.5, 1.0), (0.5, 0.1, 0.8, 2.0), (0.6, 0.1, 0.9, 2.0),
            (0.9, 0.9, 0.8, 3.0), (None, 0.9, 0.8, 4.0),
        )
    ]  # fmt: skip
    assert chosen(points) == 0.6
    assert chosen(points[-1:]) is None


@pytest.mark.parametrize("criterion", ["confidence", "entropy"])
def test_the_ends_of_the_curve_are_one_step_and_all_steps(criterion, tmp_path):
    train(tiny("train.epochs=2"), tmp_path / "run")
    found = measure_early_exit(tmp_path / "run", criterion)
    result = read_result(tmp_path / "run")
    first, *_, last = found["points"]
    assert [point["threshold"] for point in found["points"]] == list(THRESHOLDS)
    assert (first["time_steps"], first["shares"]) == (1, [1, 0, 0])
    assert (last["time_steps"], last["shares"]) == (3, [0, 0, 1])
    assert last["acc1"] == pytest.approx(result["metrics"]["acc1"], abs=1e-6)
    assert last["validation_acc1"] == pytest.approx(result["epochs"][-1]["metrics"]["acc1"], abs=1e-6)
    steps = [point["time_steps"] for point in found["points"]]
    assert steps == sorted(steps)
    assert last["operations"] == pytest.approx(result["operations"]["synaptic_operations"], rel=1e-3)
    assert 0 < found["operations"][0] < found["operations"][1] < found["operations"][2]
    for point in found["points"]:
        assert sum(point["shares"]) == pytest.approx(1)
        assert point["operations"] == pytest.approx(
            sum(share * each for share, each in zip(point["shares"], found["operations"], strict=True))
        )
    assert found["chosen"] == chosen(found["points"])


def test_after_one_step_a_sample_has_the_logits_of_one_step(tmp_path):
    """A model that runs for one step gives the accuracy of samples that all leave then."""
    train(tiny(), tmp_path / "run")
    first = measure_early_exit(tmp_path / "run")["points"][0]
    [_, one] = engine.measure_conditions(tmp_path / "run", ["time_steps:1"]).values()
    assert first["acc1"] == pytest.approx(one["metrics"]["acc1"], abs=0.021)  # rounding may flip a spike


def test_it_is_measured_once_for_each_criterion(tmp_path, monkeypatch):
    train(tiny(), tmp_path / "run")
    found = measure_early_exit(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("step_ahsar.engine.early_exit.restore", None)
        assert (
            measure_early_exit(tmp_path / "run") == found == engine.measured_early_exit(tmp_path / "run", "confidence")
        )
    assert engine.measured_early_exit(tmp_path / "run", "entropy") is None
    assert measure_early_exit(tmp_path / "run", "entropy")["criterion"] == "entropy"


def test_events_leave_after_their_first_frames(tmp_path):
    config = tiny("data.img_size=null", "model.name=spikformer_dvs_2_64", config="classification/event/digits_events")
    train(config, tmp_path / "run")
    found = measure_early_exit(tmp_path / "run")
    assert len(found["operations"]) == 3
    assert 0 < found["operations"][0] < found["operations"][2]


def test_on_the_command_line(tmp_path):
    train(tiny(), tmp_path / "run")
    said = ok("evaluate", tmp_path / "run", "--early-exit", "entropy")
    assert "all steps" in said
    assert "* chosen in validation" in said
    assert "unknown criterion of early exit 'entropie'" in refused(
        "evaluate", tmp_path / "run", "--early-exit", "entropie"
    )
    assert "cannot be changed here, because the results are kept" in refused(
        "evaluate", tmp_path / "run", "--early-exit", "entropy", "data.corruption=jpeg:3"
    )
    assert "--early-exit is a measurement of its own" in refused(
        "evaluate", tmp_path / "run", "--early-exit", "entropy", "--corruptions"
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.time_steps=1"], "needs model.time_steps >= 2"),
        (["data.validation=0"], "needs data.validation > 0"),
        (["model.neuron=psn"], "depends on later ones. Neurons such as psn see all steps at once"),
        (
            ["model.name=sglformer_2_64", "model.args={dim: 16, heads: 2, learnt_pool: true}"],
            "no logits for each time step",
        ),
    ],
)
def test_runs_that_cannot_exit_early(overrides, message, tmp_path):
    train(tiny(*overrides), tmp_path / "run")
    assert message in refused("evaluate", tmp_path / "run", "--early-exit", "confidence")


def test_in_comparisons(tmp_path):
    cells = (
        "compare={target: null, seeds: [0, 1], early_exit: confidence, cells: [{id: a}, {id: b, model.neuron: ahsar}]}"
    )
    config = load_config("quickstart", [*TINY[1:], cells])
    before = compare(load_config("quickstart", [*TINY[1:], cells.replace("confidence", "null")]), tmp_path)
    assert all(seed["early_exit"] is None for cell in before["cells"] for seed in cell["seeds"])
    summary = compare(config, tmp_path)  # which measures the runs that are there
    for cell in summary["cells"]:
        for seed in cell["seeds"]:
            assert seed["early_exit"]["points"][-1]["acc1"] == pytest.approx(seed["metrics"]["acc1"], abs=1e-5)
        assert set(cell["mean"]["early_exit"]) == {"acc1", "acc1_all", "time_steps", "operations_share"}
        assert 0 < cell["mean"]["early_exit"]["operations_share"] <= 1
    assert load(tmp_path) == summary
    detection = ["compare={early_exit: entropy, cells: [{id: a}]}", "model.time_steps=2"]
    with pytest.raises(UserError, match=r"compare\.cells 'a': early exit is for classification, not for detection"):
        compare(load_config("detection/static/digits_scenes", detection), tmp_path / "other")
