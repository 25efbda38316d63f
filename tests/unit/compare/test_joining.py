"""Joined summaries: the same as if all cells had been trained in one comparison."""

import copy
import random

import pytest

from step_ahsar.compare import collect, compare, join
from step_ahsar.config import load_config
from step_ahsar.errors import UserError

GRID = "compare.grid={model.neuron: [lif, ahsar], model.threshold: [0.5, 1.0]}"


@pytest.fixture
def varied(training, monkeypatch):
    """Results that depend on the cell and the seed."""
    plain, train = training._row, type(training).__call__

    def remember(self, config, *arguments, **more):
        self.drawn = random.Random(f"{config.model.neuron} {config.model.threshold} {config.data.name} {config.seed}")
        return train(self, config, *arguments, **more)

    def row(epoch, neuron):
        value = epoch * (0.2 + 0.3 * training.drawn.random())
        return plain(epoch, neuron) | {"metrics": {"acc1": value}}

    monkeypatch.setattr(type(training), "__call__", remember)
    training._row = row
    return training


def trained(tmp_path, name, *overrides):
    """The summary of a comparison of two epochs and three seeds, in the folder `name`."""
    common = ["train.epochs=2", "compare.seeds=[0, 1, 2]", "compare.target=0.6", "compare.cells=[]"]
    compare(load_config("quickstart", [*common, *overrides]), tmp_path / name)
    return collect(tmp_path / name)


def without_place(summary):
    """What does not depend on where the cells were trained."""
    comparisons = sorted(summary["comparisons"], key=lambda pair: (pair["cell"], pair["control"]))
    cells = sorted(summary["cells"], key=lambda cell: cell["id"])
    return cells, comparisons, summary["ranking"], sorted(summary["unpaired"])


def test_cells_of_two_folders_are_paired_like_those_of_one(tmp_path, varied):
    whole = trained(tmp_path, "whole", GRID)
    plain = trained(tmp_path, "plain", "compare.grid={model.neuron: [lif], model.threshold: [0.5, 1.0]}")
    regulated = trained(tmp_path, "regulated", "compare.grid={model.neuron: [ahsar], model.threshold: [0.5, 1.0]}")
    joined = join({"plain": plain, "regulated": regulated}, "both")
    assert len(joined["comparisons"]) == len(whole["comparisons"]) > 2
    assert [cell["id"] for cell in joined["cells"]] == [
        f"{part}/{cell}" for part in ("plain", "regulated") for cell in ("threshold0.5", "threshold1")
    ]
    # The ids are the only thing that is different.
    renamed = copy.deepcopy(joined)
    names = {
        "plain/threshold0.5": "lif-threshold0.5",
        "plain/threshold1": "lif-threshold1",
        "regulated/threshold0.5": "ahsar-threshold0.5",
        "regulated/threshold1": "ahsar-threshold1",
    }
    for cell in renamed["cells"]:
        cell["id"] = names[cell["id"]]
    for pair in renamed["comparisons"]:
        pair |= {key: names[pair[key]] for key in ("cell", "control")}
        pair["chosen_from"] = [names[id] for id in pair["chosen_from"]]
    assert without_place(renamed) == without_place(whole)
    manifest = joined["manifest"]
    assert (manifest["title"], manifest["runs"], manifest["runs_done"], manifest["config"]) == ("both", 12, 12, {})
    assert [part["name"] for part in manifest["parts"]] == ["plain", "regulated"]
    assert manifest["parts"][1]["cells"] == {
        "regulated/threshold0.5": "threshold0.5", "regulated/threshold1": "threshold1"
    }  # fmt: skip
    assert manifest["parts"][1]["config"] == regulated["manifest"]["config"]


def test_a_cell_in_two_folders_is_one_cell_with_the_seeds_of_both(tmp_path, varied):
    whole = trained(tmp_path, "whole", GRID, "compare.seeds=[0, 1, 2, 3]")
    first = trained(tmp_path, "first", GRID, "compare.seeds=[0, 1]")
    second = trained(tmp_path, "second", GRID, "compare.seeds=[1, 2, 3]")
    joined = join({"first": first, "second": second}, "both")
    assert without_place(joined) == without_place(whole)
    assert joined["manifest"]["seeds"] == [0, 1, 2, 3]
    assert (joined["manifest"]["runs"], joined["manifest"]["runs_done"]) == (16, 16)


def test_a_seed_is_taken_from_the_first_folder_in_which_it_ended_well(tmp_path, varied):
    plan = "compare.grid={model.neuron: [lif, ahsar]}"
    varied.faults = {("ahsar", 1): RuntimeError("broken")}
    first = trained(tmp_path, "first", plan)
    varied.faults = {("lif", 2): RuntimeError("broken")}
    second = trained(tmp_path, "second", plan)
    for cell in second["cells"]:
        for seed in cell["seeds"]:
            seed["step_ms"] = 99.0
    lif, ahsar = join({"first": first, "second": second}, "both")["cells"]
    assert [seed["status"] for seed in (*lif["seeds"], *ahsar["seeds"])] == ["ok"] * 6
    assert [seed["step_ms"] for seed in (*lif["seeds"], *ahsar["seeds"])] == [3.0, 3.0, 3.0, 3.0, 99.0, 3.0]


def test_a_cell_that_the_first_folder_has_not_begun(tmp_path, varied):
    plan = "compare.grid={model.neuron: [lif, ahsar]}"
    first, second = trained(tmp_path, "first", plan), trained(tmp_path, "second", plan)
    for cell in first["cells"]:
        cell.update(seeds=[], metric=None, parameters=None)
    joined = join({"first": first, "second": second}, "both")
    assert [(cell["metric"], cell["parameters"], cell["n"]) for cell in joined["cells"]] == [("acc1", 7, 3)] * 2
    assert joined["manifest"]["parts"][0]["cells"] == {"lif": "lif", "ahsar": "ahsar"}


def test_different_data_sets_are_places_with_the_settings_of_their_own(tmp_path, varied):
    plan = "compare.grid={model.neuron: [lif, plif, ahsar]}"
    static = trained(tmp_path, "static", plan, "model.time_steps=4")
    events = trained(tmp_path, "events", plan, "data.name=digits_events", "model.time_steps=8")
    joined = join({"static": static, "events": events}, "both")
    assert [cell["id"] for cell in joined["cells"]][:2] == ["static/lif", "static/plif"]
    assert joined["ranking"]["places"] == ["digits", "digits_events"]
    assert [method["name"] for method in joined["ranking"]["methods"]] == ["lif", "plif", "ahsar"]
    assert {pair["factor"] for pair in joined["comparisons"]} == {"model.neuron"}
    assert all(pair["cell"].split("/")[0] == pair["control"].split("/")[0] for pair in joined["comparisons"])


def test_parts_with_the_same_data_have_no_places_of_their_own(tmp_path, varied):
    plan = "compare.grid={model.threshold: [0.5, 1.0, 2.0]}"
    parts = {name: trained(tmp_path, name, plan, f"model.neuron={name}") for name in ("lif", "plif")}
    assert join(parts, "both")["ranking"] is None
    assert join(parts, "both")["manifest"]["places"] == parts["lif"]["manifest"]["places"]


def test_targets_that_differ_are_left_out(tmp_path, varied):
    plan = "compare.grid={model.neuron: [lif, ahsar]}"
    first = trained(tmp_path, "first", plan)
    second = trained(tmp_path, "second", plan, "model.time_steps=2", "compare.target=0.5")
    joined = join({"first": first, "second": second}, "both")
    assert joined["manifest"]["target"] is None
    assert {seed["epochs_to_target"] for cell in joined["cells"] for seed in cell["seeds"]} == {None}
    assert join({"first": first, "again": first}, "both")["manifest"]["target"] == 0.6


def test_asked_factors_of_all_parts(tmp_path, varied):
    plan = "compare.grid={model.neuron: [lif, ahsar], model.threshold: [0.5, 1.0]}"
    neuron = trained(tmp_path, "neuron", plan, "compare.pairs=[model.neuron]")
    both = trained(tmp_path, "both", plan, "compare.pairs=[model.threshold, model.neuron]", "model.time_steps=2")
    every = trained(tmp_path, "every", plan, "model.time_steps=3")
    assert join({"a": neuron, "b": both}, "")["manifest"]["pairs"] == ["model.neuron", "model.threshold"]
    assert join({"a": neuron, "b": every}, "")["manifest"]["pairs"] is None


def moved(summary, root, fingerprint=None):
    """The same comparison with its data in another place."""
    summary = copy.deepcopy(summary)
    summary["manifest"]["config"]["data"]["root"] = root
    if fingerprint is not None:
        summary["manifest"]["datasets"][0]["fingerprint"] = fingerprint
    return summary


def test_the_same_data_in_another_place_are_the_same_data(tmp_path, varied):
    plain = trained(tmp_path, "plain", "compare.grid={model.neuron: [lif]}")
    regulated = trained(tmp_path, "regulated", "compare.grid={model.neuron: [ahsar]}")
    elsewhere = moved(regulated, "/elsewhere")
    elsewhere["manifest"]["config"]["data"] |= {"cache": "/cache", "workers": 2}
    [pair] = join({"plain": plain, "regulated": elsewhere}, "")["comparisons"]
    assert (pair["factor"], pair["seeds"], pair["differs"]) == ("model.neuron", [0, 1, 2], {})
    other = moved(regulated, "/elsewhere", "sha256:1")
    assert join({"plain": plain, "regulated": other}, "")["comparisons"] == []


def test_fingerprints_of_different_versions_say_nothing(tmp_path, varied):
    plain = trained(tmp_path, "plain", "compare.grid={model.neuron: [lif]}")
    regulated = moved(trained(tmp_path, "regulated", "compare.grid={model.neuron: [ahsar]}"), None, "sha256:1")
    regulated["manifest"]["datasets"][0]["fingerprint_version"] = 0
    assert len(join({"plain": plain, "regulated": regulated}, "")["comparisons"]) == 1


def test_refusals(tmp_path, varied):
    plain = trained(tmp_path, "plain", "compare.grid={model.neuron: [lif]}")
    regulated = trained(tmp_path, "regulated", "compare.grid={model.neuron: [ahsar]}")
    with pytest.raises(UserError, match=r"plain and regulated were trained on different data: digits has another"):
        join({"plain": plain, "regulated": moved(regulated, None, "sha256:1")}, "")
    wider = copy.deepcopy(regulated)
    wider["manifest"]["margin"] = 0.05
    with pytest.raises(UserError, match=r"different margins of equivalence \(plain: 0.01, wider: 0.05\)"):
        join({"plain": plain, "wider": wider}, "")
    joined = join({"plain": plain, "regulated": regulated}, "")
    with pytest.raises(UserError, match="old is itself joined from plain, regulated; name these folders"):
        join({"plain": plain, "old": joined}, "")
    old = copy.deepcopy(regulated)
    old["manifest"]["config"]["train"]["gone"] = 1
    with pytest.raises(UserError, match=r"old: its config is not one of this version: .*gone"):
        join({"plain": plain, "old": old}, "")


def test_the_folder_of_a_single_run(tmp_path, varied):
    trained(tmp_path, "both", "compare.grid={model.neuron: [lif, ahsar]}")
    runs = {name: collect(tmp_path / "both" / "runs" / name / "1") for name in ("lif", "ahsar")}
    joined = join(runs, "")
    [pair] = joined["comparisons"]
    assert (pair["cell"], pair["control"], pair["seeds"]) == ("spikformer_2_64-ahsar", "spikformer_2_64-lif", [1])
    assert joined["manifest"]["seeds"] == [1]
    [cell] = join({str(seed): collect(tmp_path / "both" / "runs" / "lif" / str(seed)) for seed in (2, 0)}, "")["cells"]
    assert [seed["seed"] for seed in cell["seeds"]] == [2, 0]
