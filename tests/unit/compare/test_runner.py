"""The comparison's own work: order, resuming, failures. Training is stood in for, but for its files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from step_ahsar import engine
from step_ahsar.compare import Observer, Summary, collect, compare, load, worker, write
from step_ahsar.config import load_config
from step_ahsar.errors import UserError
from step_ahsar.files import sealed, unsealed
from step_ahsar.measure import PRESETS

CELLS = "[{id: lif-1}, {id: ahsar-1, model.neuron: ahsar}]"


def config(*overrides):
    return load_config("quickstart", ["train.epochs=2", "compare.seeds=[0,1]", f"compare.cells={CELLS}", *overrides])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def statuses(summary):
    return {(c["id"], s["seed"]): s["status"] for c in summary["cells"] for s in c["seeds"]}


def test_every_cell_is_trained_under_every_seed(training, tmp_path):
    summary = compare(config(), tmp_path / "out")
    assert training.runs == [("lif", 0), ("ahsar", 0), ("lif", 1), ("ahsar", 1)]
    assert set(statuses(summary).values()) == {"ok"}
    assert (
        load(tmp_path / "out")
        == summary
        == Summary.model_validate(summary).model_dump(mode="json", exclude={"checksum"})
    )
    assert summary["manifest"] | {"target": 0.9, "runs": 4, "runs_done": 4, "seeds": [0, 1]} == summary["manifest"]
    plain, regulated = summary["cells"]
    assert (plain["neuron"], plain["regulated"], plain["base"], plain["band"]) == ("lif", False, None, None)
    assert (regulated["neuron"], regulated["regulated"], regulated["base"]) == ("ahsar", True, "lif")
    assert regulated["band"] is None  # it is calibrated
    assert (plain["settings"], regulated["settings"]) == ({"model.neuron": "lif"}, {"model.neuron": "ahsar"})
    assert plain["chosen_on"] == "validation"
    assert plain["threshold"] == regulated["threshold"] == 1.0
    assert plain["mean"]["best_metrics"] == {"acc1": 0.4}
    assert plain["parameters"] == 7
    assert plain["metric"] == "acc1"
    assert [seed["epochs_to_target"] for seed in plain["seeds"]] == [2, 2]  # 0.9 in the second of two epochs


def test_it_is_started_in_one_process(training, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as under torchrun
    with pytest.raises(UserError, match="a comparison is started in one process; its option --jobs"):
        compare(config(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_are_told_once_with_a_value_for_each_epoch(training, tmp_path):
    training.faults |= {("ahsar", 1): RuntimeError("no memory")}  # behind its first epoch
    plain, regulated = compare(config(), tmp_path)["cells"]
    layer = {"group": "mlp", "rate": [0.1, 0.2], "threshold_scale": None, "dead_fraction": [0.25, 0.5]}
    assert plain["seeds"][0]["layers"] == {"block.mlp": layer}
    assert regulated["seeds"][0]["layers"] == {"block.mlp": layer | {"threshold_scale": [0.5, 0.5]}}
    assert regulated["seeds"][1]["layers"] == {
        "block.mlp": layer | {"rate": [0.1], "threshold_scale": [0.5], "dead_fraction": [0.25]}
    }
    assert all("layers" not in epoch for epoch in plain["seeds"][0]["epochs"])
    assert "layers" in (tmp_path / "runs" / "lif-1" / "0" / "metrics.jsonl").read_text()


def test_pairs_are_in_the_summary(training, tmp_path):
    cells = (
        "[{id: lif-2, model.threshold: 2.0}, {id: rate, data.encoder: rate}, {id: tau, model.tau: 4.0, train.lr: 0.1}, "
        "{id: ahsar, model.neuron: ahsar}, {id: ahsar-rate, model.neuron: ahsar, data.encoder: rate}]"
    )
    summary = compare(config(f"compare.cells={cells}"), tmp_path / "any")
    assert [(pair["cell"], pair["control"], pair["factor"]) for pair in summary["comparisons"]] == [
        ("ahsar-rate", "ahsar", "data.encoder"),
        ("ahsar-rate", "rate", "model.neuron"),
    ]
    assert summary["unpaired"] == ["lif-2", "tau"]
    given = ["compare.pairs=[model.neuron]", "compare.margin=0.02"]
    summary = compare(config(f"compare.cells={cells}", *given), tmp_path / "neuron")
    assert [(pair["cell"], pair["control"]) for pair in summary["comparisons"]] == [("ahsar-rate", "rate")]
    assert (summary["manifest"]["pairs"], summary["manifest"]["margin"]) == (["model.neuron"], 0.02)


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        ("model.nouron", "unknown factor in compare.pairs 'model.nouron'; did you mean 'model.neuron'?"),
        ("model.tau", "no two cells differ in model.tau alone: 'lif-1' and 'slow' also differ in train.lr"),
    ],
)
def test_factors_of_which_there_is_no_pair(training, tmp_path, factor, words):
    cells = "[{id: lif-1}, {id: ahsar, model.neuron: ahsar}, {id: slow, model.tau: 4.0, train.lr: 0.1}]"
    with pytest.raises(UserError, match=re.escape(words)):
        compare(config(f"compare.cells={cells}", f"compare.pairs=[{factor}]"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_summary_says_what_its_epochs_were_judged_on(training, tmp_path):
    summary = compare(config("data.validation=0"), tmp_path)
    assert {cell["chosen_on"] for cell in summary["cells"]} == {"test"}


def test_what_has_ended_is_not_trained_again(training, tmp_path):
    first = compare(config(), tmp_path)
    training.runs.clear()
    again = compare(config(), tmp_path)
    assert training.runs == []
    assert again["cells"] == first["cells"]


def test_a_run_that_breaks_off_is_recorded_and_tried_again_next_time(training, tmp_path):
    training.faults["lif", 0] = RuntimeError("no\n memory")
    summary = compare(config(), tmp_path)
    assert statuses(summary)["lif-1", 0] == "failed"
    assert len(training.runs) == 4
    failed = summary["cells"][0]["seeds"][0]
    assert failed["error"] == "RuntimeError: no memory"
    assert [epoch["epoch"] for epoch in failed["epochs"]] == [1]
    assert summary["cells"][0]["n"] == 1
    assert summary["manifest"]["runs_done"] == 4
    assert "Traceback" in (tmp_path / "runs" / "lif-1" / "0.error.txt").read_text()
    training.faults.clear()
    training.runs.clear()
    summary = compare(config(), tmp_path)
    assert training.runs == [("lif", 0)]
    assert set(statuses(summary).values()) == {"ok"}
    assert not (tmp_path / "runs" / "lif-1" / "0.error.txt").exists()


def test_a_run_that_fails_before_it_begins_is_recorded(training, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise UserError("train.amp: fp16 needs an accelerator")

    monkeypatch.setattr(engine, "train", refuse)
    summary = compare(config(), tmp_path)
    assert set(statuses(summary).values()) == {"failed"}
    assert summary["cells"][0]["seeds"][0]["error"] == "train.amp: fp16 needs an accelerator"
    assert summary["cells"][0]["parameters"] is summary["cells"][0]["metric"] is None


def test_a_run_that_diverged_stays_diverged(training, tmp_path):
    training.faults["ahsar", 1] = engine.NonFiniteLoss("loss is nan", 2, 5)
    summary = compare(config(), tmp_path)
    assert statuses(summary)["ahsar-1", 1] == "failed"
    assert summary["cells"][1]["seeds"][1]["error"] == "loss is nan at epoch 2, step 5"
    assert len(training.runs) == 4
    training.runs.clear()
    assert compare(config(), tmp_path)["cells"] == summary["cells"]
    assert training.runs == []


def test_an_interrupted_comparison_keeps_its_epochs_and_goes_on(training, tmp_path):
    training.faults["ahsar", 0] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare(config(), tmp_path)
    kept = load(tmp_path)
    assert statuses(kept) == {("lif-1", 0): "ok", ("ahsar-1", 0): "unfinished"}
    assert [epoch["epoch"] for epoch in kept["cells"][1]["seeds"][0]["epochs"]] == [1]
    assert kept["manifest"]["runs_done"] == 1
    training.faults.clear()
    training.runs.clear()
    summary = compare(config(), tmp_path)
    assert training.runs == [("ahsar", 0), ("lif", 1), ("ahsar", 1)]
    assert set(statuses(summary).values()) == {"ok"}


class Told(Observer):
    """Keeps what it is told of cells that have changed."""

    lines: tuple[str, ...] = ()

    def changed(self, lines):
        self.lines = tuple(lines)


@pytest.mark.parametrize("change", ["train.lr=0.5", "compare.cells=[{id: lif-1, model.tau: 3.0}]"])
def test_other_cells_of_the_same_name_are_left_alone(training, tmp_path, change):
    compare(config(), tmp_path)
    before = contents(tmp_path)
    key = "train.lr is 0.002 there and 0.5 here" if "lr" in change else "model.tau is None there and 3.0 here"
    with pytest.raises(UserError, match=f"holds runs of another cell 'lif-1': {key}; give the cell another id"):
        compare(config(change), tmp_path)
    assert contents(tmp_path) == before


def test_a_changed_comparison_keeps_its_runs(training, tmp_path):
    compare(config(), tmp_path)
    training.runs.clear()
    told = Told()
    summary = compare(config("compare.seeds=[1,2]", "compare.target=0.4"), tmp_path, told)
    assert told.lines == ("cells kept: lif-1, ahsar-1",)
    assert training.runs == [("lif", 2), ("ahsar", 2)]
    assert statuses(summary) == {(cell, seed): "ok" for cell in ("lif-1", "ahsar-1") for seed in (1, 2)}
    assert summary["cells"][0]["seeds"][0]["epochs_to_target"] == 1


def test_energy_is_estimated_anew_for_runs_that_are_there(training, tmp_path):
    [seed, *_] = compare(config(), tmp_path)["cells"][0]["seeds"]
    kinds = {"macs", "macs_repeated", "synaptic_operations", "dense_macs", "updates", "spikes"}
    assert set(seed["operations"]) == kinds
    assert set(seed["energy"]) == set(PRESETS)
    assert seed["energy"]["compute-fp32"] == pytest.approx(9e-6)
    assert seed["synapses"] == {"block.fc": {"group": "mlp", "spikes": 1.0}}
    assert seed["neurons"]["block.mlp"]["dead"] == 0.1
    training.runs.clear()
    summary = compare(config("energy.mine={like: compute-int8, add: 2}"), tmp_path)
    assert training.runs == []
    assert all(run["energy"]["mine"] == pytest.approx(20e-6) for cell in summary["cells"] for run in cell["seeds"])
    assert summary["cells"][0]["mean"]["energy"]["mine"] == pytest.approx(20e-6)
    assert summary["cells"][0]["mean"]["energy"]["compute-fp32"] == pytest.approx(9e-6)


def test_cells_are_renamed_added_and_left_out(training, tmp_path):
    compare(config(), tmp_path)
    before = contents(tmp_path / "runs" / "lif-1")
    training.runs.clear()
    told = Told()
    cells = "[{id: ahsar-1, model.neuron: plif}, {id: plain}, {id: more, model.neuron: if}, "
    cells += "{id: regulated, model.neuron: ahsar}]"
    summary = compare(config(f"compare.cells={cells}"), tmp_path, told)
    assert told.lines == (
        "cells kept: plain, regulated",
        "cells renamed: lif-1 is now plain, ahsar-1 is now regulated",
        "cells new: ahsar-1, more",
    )
    assert training.runs == [(neuron, seed) for seed in (0, 1) for neuron in ("plif", "if")]
    assert contents(tmp_path / "runs" / "plain") == before
    assert set(statuses(summary).values()) == {"ok"}
    told = Told()
    assert [cell["id"] for cell in compare(config("compare.cells=[{id: plain}]"), tmp_path, told)["cells"]] == ["plain"]
    assert told.lines == ("cells kept: plain", "cells left out, their runs stay: ahsar-1, more, regulated")
    assert (tmp_path / "runs" / "regulated").is_dir()


def test_cells_that_change_places_in_a_row_are_moved_one_by_one(training, tmp_path):
    compare(config("compare.cells=[{id: a}, {id: b, model.tau: 3.0}]"), tmp_path)
    training.runs.clear()
    summary = compare(config("compare.cells=[{id: b}, {id: c, model.tau: 3.0}]"), tmp_path)  # a to b, b to c
    assert training.runs == []
    assert [cell["settings"] for cell in summary["cells"]] == [{"model.tau": None}, {"model.tau": 3.0}]


def test_a_folder_that_cannot_be_made(training, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to output folder"):
        compare(config(), tmp_path / "file" / "out")


def test_a_twin_of_a_cell_is_new(training, tmp_path):
    compare(config(), tmp_path)
    training.runs.clear()
    told = Told()
    compare(config("compare.cells=[{id: lif-1}, {id: twin}, {id: ahsar-1, model.neuron: ahsar}]"), tmp_path, told)
    assert told.lines == ("cells kept: lif-1, ahsar-1", "cells new: twin")
    assert training.runs == [("lif", 0), ("lif", 1)]


def test_each_data_set_is_opened_once(training, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(worker, "open_data", lambda config: opened.append(config.data.validation))
    compare(config("compare.cells=[{id: a}, {id: b, model.tau: 3.0}, {id: c, data.validation: 0.2}]"), tmp_path)
    assert len(training.runs) == 6
    assert opened == [0.1, 0.2]


def test_cells_that_exchange_their_names_are_refused(training, tmp_path):
    compare(config(), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="have exchanged their ids"):
        compare(config("compare.cells=[{id: lif-1, model.neuron: ahsar}, {id: ahsar-1}]"), tmp_path)
    assert contents(tmp_path) == before


def test_a_run_that_another_process_trains_is_waited_for(training, tmp_path, monkeypatch):
    """Until it has ended, or until it is interrupted: then it is trained here."""
    waited = []
    training.faults["lif", 0] = engine.InUse("another process is training the run")

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            training.faults.clear()

    monkeypatch.setattr(worker.time, "sleep", wait)
    summary = compare(config("compare.seeds=[0]"), tmp_path)
    assert set(statuses(summary).values()) == {"ok"}
    assert training.runs == [("lif", 0)] * 3 + [("ahsar", 0)]
    assert waited == [1.0, 1.0]


def test_foreign_folders_and_files_are_left_alone(training, tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(UserError, match="not empty"):
        compare(config(), tmp_path)
    with pytest.raises(UserError, match="is a file"):
        compare(config(), tmp_path / "thesis.tex")
    assert contents(tmp_path) == {"thesis.tex": b"..."}


@pytest.mark.parametrize(
    "overrides",
    [
        ["compare.cells=[{id: a, model.neuron: liff}]"],
        ["data.name=digitz"],
        ["compare=null"],
        ["energy.mine.like=memmory"],
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_written(training, tmp_path, overrides):
    with pytest.raises(UserError):
        compare(config(*overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_observers_hear_of_everything(training, tmp_path):
    heard = []

    class Log(Observer):
        def planned(self, runs):
            heard.append(len(runs))

        def run_started(self, run):
            heard.append((run.cell, run.seed))

        def epoch_ended(self, run, metrics):
            heard.append(metrics["epoch"])

        def run_ended(self, run, result):
            heard.append(result["status"])

    training.faults["ahsar", 0] = RuntimeError("x")
    compare(config("compare.seeds=[0]"), tmp_path, Log())
    assert heard == [2, ("lif-1", 0), 1, 2, "ok", ("ahsar-1", 0), 1, "failed"]


def test_a_run_that_has_only_begun_to_begin_is_none(training, tmp_path):
    """The manifest is the last file that a starting run writes."""
    compare(config(), tmp_path)
    started = tmp_path / "runs" / "ahsar-1" / "1"
    for name in ("manifest.json", "metrics.jsonl", "result.json"):
        (started / name).unlink()
    assert statuses(collect(tmp_path)) == {("lif-1", 0): "ok", ("lif-1", 1): "ok", ("ahsar-1", 0): "ok"}


def test_runs_of_an_earlier_version_are_named(training, tmp_path):
    compare(config(), tmp_path)
    path = tmp_path / "runs" / "ahsar-1" / "1" / "manifest.json"
    manifest = unsealed(path.read_bytes())
    del manifest["metric"]
    path.write_text(sealed(json.dumps(manifest)))
    for folder in (tmp_path, path.parent):
        with pytest.raises(UserError, match=re.escape(str(path.parent))):
            collect(folder)


def test_collect_reads_single_runs_and_bare_summaries(training, tmp_path):
    summary = compare(config(), tmp_path / "out")
    single = collect(tmp_path / "out" / "runs" / "ahsar-1" / "1")
    assert (single["manifest"]["runs"], single["manifest"]["target"]) == (1, None)
    assert single["cells"][0]["mean"]["metrics"] == pytest.approx({"acc1": 0.9})
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "summary.json").write_bytes((tmp_path / "out" / "summary.json").read_bytes())
    assert collect(bare) == summary
    write(collect(bare), bare)
    assert contents(bare) == {"summary.json": (tmp_path / "out" / "summary.json").read_bytes()}
    with pytest.raises(UserError, match=r"summary\.json"):
        collect(tmp_path)


def test_data_that_have_changed_since_a_run_began_are_refused(training, tmp_path):
    """Fault: a cell that was added later was trained on other data than the cells that it was compared with."""
    file = tmp_path / "mine.npz"
    x, y = np.random.default_rng(0).normal(size=(120, 2, 32)).astype("f4"), np.arange(120) % 2
    of_series = ["data.name=series/mine", f"data.root={file}", "model.name=spikformer_seq_2_64", "data.img_size=null"]
    more = "compare.cells=[{id: a}, {id: b, model.neuron: plif}]"
    np.savez(file, x=x, y=y, classes=["cat", "dog"])
    compare(config(*of_series, "compare.cells=[{id: a}]"), tmp_path / "out")
    before = contents(tmp_path / "out")
    np.savez(file, x=x, y=y, classes=["dog", "cat"])
    with pytest.raises(UserError, match=r"the classes of dataset 'series' in .* now they are dog, cat"):
        compare(config(*of_series, more), tmp_path / "out")
    with pytest.raises(UserError, match="the classes of dataset"):  # also of a cell that has another name now
        compare(config(*of_series, more.replace("id: a", "id: c")), tmp_path / "out")
    x[-1] += 1
    np.savez(file, x=x, y=y, classes=["cat", "dog"])
    with pytest.raises(UserError, match=r"dataset 'series' in .* is not what .*/a/0 was trained on"):
        compare(config(*of_series, more), tmp_path / "out")
    assert contents(tmp_path / "out") == before
