"""Which cells are compared with which."""

import pytest

from step_ahsar.compare.pairs import NEURON, check_factors, described, pairs_of, unpaired
from step_ahsar.config import Config
from step_ahsar.errors import UserError
from step_ahsar.report.text import differs

AHSAR = {"model.neuron": "ahsar"}


def cells(values, validated=None):
    """Cells {id: values}; `validated`, if it is given, has their accuracy in validation."""
    config = Config().with_values({"compare.cells": [{"id": name} | each for name, each in values.items()]})
    found = described(config.cells())
    for cell in found:
        epochs = [{"metrics": {"acc1": 1.0}}, {"metrics": {"acc1": (validated or {}).get(cell["id"], 0.5)}}]
        cell |= {"metric": "acc1", "seeds": [{"status": "ok", "epochs": epochs}, {"status": "failed", "epochs": []}]}
    return found


def pairs(values, factors=None, validated=None):
    """(cell, control, factor) of cells {id: values}."""
    found = pairs_of(cells(values, validated), factors)
    assert all(not pair.differs for pair in found if not pair.chosen_from)
    return [(pair.cell["id"], pair.control["id"], pair.factor) for pair in found if not pair.chosen_from]


@pytest.mark.parametrize(
    "values",
    [
        {"model.tau": 3.0},
        {"model.surrogate": "atan"},
        {"model.alpha": 2.0},
        {"model.reset": "soft"},
        {"model.detach_reset": False},
        {"model.args": {"drop_path_rate": 0.1}},
        {"model.name": "qkformer_3_64"},
        {"model.backend": "spikingjelly"},
        {"model.time_steps": 2},
        {"model.threshold": 2.0},
        {"model.norm": "tdbn"},
        {"data.encoder": "rate"},
        {"data.train_limit": 100},
        {"data.validation": 0.2},
        {"train.lr": 0.5},
        {"train.epochs": 3},
    ],
    ids=lambda values: next(iter(values)),
)
def test_cells_that_differ_in_two_settings_are_no_pair(values):
    """Fault: tau, surrogate, alpha and reset could differ under a sentence that said that the neuron alone does."""
    assert pairs({"plain": {}, "ahsar": AHSAR | values}) == []
    assert pairs({"plain": values, "ahsar": AHSAR}) == []
    assert pairs({"plain": values, "ahsar": AHSAR | values}) == [("ahsar", "plain", NEURON)]
    key = next(iter(values)) if "model.args" not in values else "model.args.drop_path_rate"
    assert pairs({"one": {}, "two": values}) == [("two", "one", key)]


def test_every_factor_has_its_pairs():
    """Each cell is compared with the first one that differs in the factor alone."""
    neurons = ("lif", "plif")
    grid = {f"{neuron}-{t}": {"model.neuron": neuron, "model.time_steps": t} for neuron in neurons for t in (1, 2, 4)}
    by_neuron = [(f"plif-{t}", f"lif-{t}", NEURON) for t in (1, 2, 4)]
    by_time = [(f"{neuron}-{t}", f"{neuron}-1", "model.time_steps") for neuron in neurons for t in (2, 4)]
    assert pairs(grid) == by_time + by_neuron
    assert pairs(grid, [NEURON]) == by_neuron
    assert pairs(grid, ["model.time_steps"]) == by_time


def test_a_control_has_the_neuron_that_is_regulated():
    """Settings of the regulation have no effect on the plain neuron."""
    found = {
        "ahsar": AHSAR | {"ahsar.eta": 0.3},
        "plif": {"model.neuron": "plif"},
        "lif": {},
        "ahsar-plif": AHSAR | {"model.base": "plif"},
    }
    assert pairs(found) == [("ahsar", "lif", NEURON), ("lif", "plif", NEURON), ("ahsar-plif", "plif", NEURON)]


def test_regulations_are_compared_among_each_other():
    found = {"weak": AHSAR | {"ahsar.eta": 0.1}, "strong": AHSAR | {"ahsar.eta": 0.3}, "lif": {}}
    assert pairs(found) == [("weak", "lif", NEURON), ("strong", "lif", NEURON), ("strong", "weak", "ahsar.eta")]


def best(values, validated):
    found = [pair for pair in pairs_of(cells(values, validated)) if pair.chosen_from]
    return [
        (pair.cell["id"], pair.control["id"], [each["id"] for each in pair.chosen_from], dict(pair.differs))
        for pair in found
    ]


def test_the_best_fixed_threshold_is_chosen_in_validation():
    """After the last epoch, among cells that differ from the regulated one in neuron and thresholds alone."""
    grid = {f"lif-{t}": {"model.threshold": t} for t in (0.5, 1.0, 2.0)} | {
        "default": {},
        "attention": {"model.threshold": 1.0, "model.attn_threshold": 1.0},
        "other": {"model.threshold": 4.0, "model.tau": 3.0},
        "plif": {"model.neuron": "plif", "model.threshold": 8.0},
        "ahsar": AHSAR | {"model.threshold": 2.0},
    }
    candidates = ["lif-0.5", "lif-1.0", "lif-2.0", "default", "attention"]
    validated = dict.fromkeys(grid, 0.1) | {"other": 0.9, "plif": 0.9, "attention": 0.3}
    assert best(grid, validated | {"lif-1.0": 0.4}) == [
        ("ahsar", "lif-1.0", candidates, {"model.threshold": (2.0, 1.0)})
    ]
    assert best(grid, validated) == [
        ("ahsar", "attention", candidates, {"model.threshold": (2.0, 1.0), "model.attn_threshold": (None, 1.0)})
    ]
    assert best(grid, validated | {"default": 0.5}) == [
        ("ahsar", "default", candidates, {"model.threshold": (2.0, None)})
    ]


def test_a_control_that_is_also_the_best_is_told_once():
    grid = {
        "lif-1": {"model.threshold": 1.0},
        "lif-2": {"model.threshold": 2.0},
        "ahsar": AHSAR | {"model.threshold": 1.0},
    }
    assert pairs(grid, [NEURON], {"lif-1": 0.9}) == []
    assert best(grid, {"lif-1": 0.9}) == [("ahsar", "lif-1", ["lif-1", "lif-2"], {})]
    assert pairs(grid, [NEURON], {"lif-2": 0.9}) == [("ahsar", "lif-1", NEURON)]


def test_one_threshold_is_no_choice():
    assert best({"lif": {}, "ahsar": AHSAR | {"model.threshold": 2.0}}, {}) == []


def test_cells_in_no_pair():
    found = cells({"a": {}, "b": {"model.tau": 3.0}, "c": {"model.tau": 4.0, "train.lr": 0.1}})
    assert unpaired(found, pairs_of(found)) == ["c"]
    assert unpaired(found, []) == ["a", "b", "c"]


def test_tasks_have_no_metric_in_common():
    found = cells({"a": {}, "b": {"task": "segmentation"}})
    assert pairs_of(found) == []
    assert len(pairs_of(found, ["task"])) == 1
    found[1]["metric"] = "miou"
    assert pairs_of(found, ["task"]) == []
    found[1]["metric"] = None  # it has not begun
    assert len(pairs_of(found, ["task"])) == 1


def test_data_sets_are_no_factor_unless_they_are_asked_for():
    found = {"a": {}, "b": {"data.name": "digits_events"}, "ahsar": AHSAR}
    assert pairs(found) == [("ahsar", "a", NEURON)]
    assert pairs(found, ["data.name"]) == [("b", "a", "data.name")]


def test_a_penalised_cell_is_compared_with_the_best_fixed_threshold():
    penalty = {"train.rate_penalty.budget": 0.02}
    grid = {
        "lif-1": {},
        "lif-2": {"model.threshold": 2.0},
        "penalty": penalty,
        "penalty-2": penalty | {"model.threshold": 2.0},
        "both": AHSAR | penalty,
    }
    validated = {"lif-2": 0.9, "penalty": 0.95}
    others = {"model.threshold": (None, 2.0)}
    assert best(grid, validated) == [
        ("penalty", "lif-2", ["lif-1", "lif-2"], others),
        ("penalty-2", "lif-2", ["lif-1", "lif-2"], {}),
        ("both", "lif-2", ["lif-1", "lif-2"], others | {"train.rate_penalty.budget": (0.02, None)}),
    ]
    factors = {pair.cell["id"]: pair.factor for pair in pairs_of(cells(grid)) if pair.chosen_from}
    budget = "train.rate_penalty.budget"
    assert factors == {"penalty": budget, "penalty-2": budget, "both": NEURON}
    assert all(pair.factor == NEURON for pair in pairs_of(cells(grid), [NEURON]))
    alike = {name: values | penalty for name, values in grid.items() if name.startswith("lif")}
    assert best(alike | {"ahsar": AHSAR | penalty}, {})  # a penalty that all cells have is no difference


@pytest.mark.parametrize(
    ("key", "values"), [("budget_ops", {"budget_ops": 1e6}), ("band", {"band": [0.1, 0.2], "weight": 1.0})]
)
def test_other_penalties_are_compared_with_the_best_fixed_threshold_too(key, values):
    penalty = {f"train.rate_penalty.{name}": value for name, value in values.items()}
    grid = {"lif-1": {}, "lif-2": {"model.threshold": 2.0}, "penalty": penalty}
    (found,) = [pair for pair in pairs_of(cells(grid, {"lif-2": 0.9})) if pair.chosen_from]
    assert (found.cell["id"], found.control["id"], found.factor) == ("penalty", "lif-2", f"train.rate_penalty.{key}")
    both = pairs_of(cells(grid | {"ahsar": AHSAR | penalty}))
    (chosen,) = [pair for pair in both if pair.cell["id"] == "ahsar" and pair.chosen_from]
    text = differs({"factor": chosen.factor, "differs": chosen.differs})
    assert text == f"neuron, {key} ({'1e+06' if key == 'budget_ops' else '[0.1, 0.2]'}, default)"


def test_a_section_is_one_factor():
    even, odd = (
        {"ahsar.shares": {"attention": a, "mlp": m}, "ahsar.budget": 0.1, **AHSAR} for a, m in ((1, 1), (2, 3))
    )
    default = {"ahsar.budget": 0.1, **AHSAR}
    other = odd | {"train.lr": 0.5}
    values = {"default": default, "even": even, "odd": odd, "other": other}
    expected = [("even", "default", "ahsar.shares"), ("odd", "default", "ahsar.shares")]
    assert pairs(values, ["ahsar.shares"]) == expected
    assert pairs(values, ["ahsar.shares.attention"]) == []  # mlp differs, too
    found = cells({"even": even, "other": other})
    with pytest.raises(UserError, match=r"no two cells differ in ahsar.shares alone: .* also differ in train.lr"):
        check_factors(found, ["ahsar.shares"])
    check_factors(cells(values), ["ahsar.shares"])
    with pytest.raises(UserError, match=r"unknown factor in compare\.pairs 'ahsar\.share'"):
        check_factors(found, ["ahsar.share"])
