import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from step_ahsar.compare import load, write
from step_ahsar.compare.schema import RESULTS, Cell, Summary
from step_ahsar.compare.statistics import mean
from step_ahsar.compare.summary import summarise
from step_ahsar.errors import UserError

MANIFEST = {
    "title": "t", "target": 0.9, "margin": 0.01, "pairs": None, "places": ["data", "task", "model.name"],
    "seeds": [0, 1], "runs": 2, "runs_done": 2, "started": "", "updated": "", "versions": {}, "hardware": {},
    "git_commit": None, "datasets": [], "config": {},
}  # fmt: skip


OPTIONS = ("threshold", "time_steps")


def run(seed, acc1=0.9, to_target=2, epochs=3, **changes):
    line = {
        "train_loss": 0.5, "metrics": {"acc1": acc1}, "lr": 0.1, "step_ms": 2.0, "firing_rate": {"mlp": 0.1},
        "dead_fraction": 0.0, "seconds": 1.0,
    }  # fmt: skip
    return {
        "seed": seed, "status": "ok", "error": None, "epochs": [line | {"epoch": e + 1} for e in range(epochs)],
        "layers": {"fc1": {"group": "mlp", "rate": [0.1] * epochs, "threshold_scale": None}},
        "metrics": {"acc1": acc1}, "best": {"epoch": 1, "metrics": {"acc1": acc1 / 2}},
        "epochs_to_target": to_target, "step_ms": 2.0, "peak_memory_mib": None,
        "firing_rate": {"mlp": 0.1}, "threshold_scale": None, "dead_fraction": 0.0,
    } | changes  # fmt: skip


def failed(seed):
    return run(seed) | dict.fromkeys(RESULTS) | {"status": "failed", "error": "loss is nan", "epochs": [], "layers": {}}


def cell(id, seeds, neuron="lif", **changes):
    settings = {"model.neuron": neuron} | {f"model.{key}": value for key, value in changes.items() if key in OPTIONS}
    return {
        "id": id, "task": "classification", "metric": "acc1", "modality": "static", "dataset": "digits", "model": "m",
        "neuron": neuron, "regulated": neuron == "ahsar", "base": "lif" if neuron == "ahsar" else None,
        "backend": "torch", "threshold": 1.0, "time_steps": 4, "settings": settings, "chosen_on": "validation",
        "parameters": 10, "epochs": 3, "band": None, "seeds": seeds,
    } | changes  # fmt: skip


def test_means_and_intervals_are_over_the_seeds_that_ended_well():
    found = summarise(MANIFEST, [cell("a", [run(0, 0.8), failed(1), run(2, 0.9)])])["cells"][0]
    assert found["n"] == 2
    assert found["mean"]["metrics"]["acc1"] == pytest.approx(0.85)
    low, high = found["ci95"]["metrics"]["acc1"]
    assert (low + high) / 2 == pytest.approx(0.85)
    assert (high - low) / 2 == pytest.approx(12.706 * 0.05, rel=1e-3)  # t(1) times the standard error of 0.8, 0.9
    assert found["mean"]["best_metrics"]["acc1"] == pytest.approx(0.425)
    assert found["mean"]["firing_rate"] == {"mlp": pytest.approx(0.1)}
    assert found["mean"]["threshold_scale"] is None
    assert found["mean"]["peak_memory_mib"] is None


def test_epochs_to_target_have_no_mean_where_a_seed_never_got_there():
    reached, not_all = summarise(
        MANIFEST, [cell("a", [run(0, to_target=2), run(1, to_target=3)]), cell("b", [run(0), run(1, to_target=None)])]
    )["cells"]
    assert (reached["n_reached"], reached["mean"]["epochs_to_target"]) == (2, 2.5)
    assert (not_all["n_reached"], not_all["mean"]["epochs_to_target"]) == (1, None)
    assert (reached["median_epochs_to_target"], not_all["median_epochs_to_target"]) == (2, 2)


def test_a_run_that_ended_early_keeps_its_last_metric_in_the_area():
    early = run(0, epochs=2)
    early["epochs"][0]["metrics"] = {"acc1": 0.3}
    pair = summarise(MANIFEST, [cell("a", [run(0)]), cell("b", [early], neuron="ahsar")])["comparisons"][0]
    assert pair["area_difference"]["values"] == pytest.approx([(0.3 + 0.9 + 0.9) / 3 - 0.9])


def test_a_cell_of_failures_has_nothing_to_average():
    found = summarise(MANIFEST, [cell("a", [failed(0), failed(1)])])["cells"][0]
    assert found["n"] == found["n_reached"] == 0
    assert set(found["mean"].values()) == set(found["ci95"].values()) == {None}


def test_settings_are_not_rounded():
    """Fault: learning rates of 1e-3 and 1.0000004e-3 were equal in a summary, and their cells a pair."""
    plain, regulated = cell("a", [run(0)]), cell("b", [run(0)], neuron="ahsar")
    plain["settings"]["train.lr"], regulated["settings"]["train.lr"] = 1e-3, 1.0000004e-3
    found = summarise(MANIFEST, [plain, regulated])
    assert found["comparisons"] == []
    assert [each["settings"]["train.lr"] for each in found["cells"]] == [1e-3, 1.0000004e-3]
    regulated["settings"]["train.lr"] = 1e-3
    assert len(summarise(MANIFEST, [plain, regulated])["comparisons"]) == 1


def test_cells_are_compared_seed_by_seed():
    ours = cell("ours", [run(0, 0.9, 2), run(1, 0.8, 3), run(2, 0.7, 1)], "ahsar")
    theirs = cell("theirs", [run(1, 0.5, None), run(0, 0.6, 3), failed(2)])
    (pair,) = summarise(MANIFEST, [theirs, ours])["comparisons"]
    assert (pair["cell"], pair["control"], pair["seeds"]) == ("ours", "theirs", [0, 1])
    assert pair["metric_difference"]["values"] == pytest.approx([0.3, 0.3])
    assert pair["epochs_ratio"]["values"] == pytest.approx([2 / 3, 3 / 4])  # the second control needs 4 or more
    assert pair["epochs_ratio"]["bounds"] == ["exact", "at_most"]
    assert pair["epochs_ratio"]["bound"] == "at_most"


def test_every_difference_is_the_cells_minus_the_controls():
    """A better cell has a positive difference and a ratio below 1, of each seed and of the mean."""
    ours = cell("ours", [run(0, 0.9, 2), run(1, 0.8, 2)], "ahsar")
    theirs = cell("theirs", [run(0, 0.6, 3), run(1, 0.7, 1)])
    (pair,) = summarise(MANIFEST, [ours, theirs])["comparisons"]
    assert pair["metric_difference"]["values"] == pytest.approx([0.3, 0.1])
    assert pair["metric_difference"]["mean"] == pytest.approx(0.2)
    assert pair["epochs_ratio"]["values"] == pytest.approx([2 / 3, 2.0])
    assert pair["epochs_ratio"]["mean"] == pytest.approx((4 / 3) ** 0.5)
    assert pair["epochs_ratio"]["bound"] == "exact"


def test_runs_that_missed_the_target_count_by_their_own_epochs():
    """Each bound comes from the epochs of the run that missed the target, not from those of the other run."""
    (pair,) = summarise(
        MANIFEST, [cell("ours", [run(0, 0.9, None, epochs=5)], "ahsar"), cell("theirs", [run(0, 0.6, 2, epochs=3)])]
    )["comparisons"]
    assert (pair["epochs_ratio"]["values"], pair["epochs_ratio"]["bounds"]) == ([3.0], ["at_least"])
    (pair,) = summarise(
        MANIFEST, [cell("ours", [run(0, 0.9, 2, epochs=5)], "ahsar"), cell("theirs", [run(0, 0.6, None, epochs=3)])]
    )["comparisons"]
    assert (pair["epochs_ratio"]["values"], pair["epochs_ratio"]["bounds"]) == ([0.5], ["at_most"])


def test_what_a_pair_shows():
    """Differences of 0.1, 0.2 and 0.3: t = 0.2 / (0.1 / sqrt 3), and all three seeds are won."""
    metrics = ((0.9, 0.8), (0.8, 0.6), (0.7, 0.4))
    ours = cell("ours", [run(seed, a) for seed, (a, _) in enumerate(metrics)], "ahsar")
    theirs = cell("theirs", [run(seed, b) for seed, (_, b) in enumerate(metrics)])
    (pair,) = summarise(MANIFEST, [theirs, ours])["comparisons"]
    assert pair["factor"] == "model.neuron"
    assert pair["wins"] == {"win": 3, "tie": 0, "loss": 0}
    assert pair["test"]["p_t"] == pair["test"]["p_holm"] == pytest.approx(0.0742, abs=1e-4)
    assert pair["test"]["p_permutation"] == 0.25
    assert pair["area_difference"]["values"] == pytest.approx([0.1, 0.2, 0.3])
    (pair,) = summarise(MANIFEST, [theirs, cell("ours", theirs["seeds"], "ahsar")])["comparisons"]
    assert pair["wins"] == {"win": 0, "tie": 3, "loss": 0}
    assert pair["test"]["p_equivalence"] == 0


def test_the_learning_curve_is_that_of_validation():
    ours, theirs = (cell(name, [run(0, 0.9)], neuron) for name, neuron in (("ours", "ahsar"), ("theirs", "lif")))
    for epoch, metric in zip(ours["seeds"][0]["epochs"], (0.3, 0.6, 0.9), strict=True):
        epoch["metrics"] = {"acc1": metric}
    (pair,) = summarise(MANIFEST, [theirs, ours])["comparisons"]
    assert pair["area_difference"]["values"] == pytest.approx([0.6 - 0.9])


def test_p_values_are_corrected_for_the_pairs_of_their_factor():
    def of(name, metrics, **changes):
        return cell(name, [run(seed, metric) for seed, metric in enumerate(metrics)], **changes)

    control = of("control", (0.5, 0.5, 0.5))
    cells = [control, of("a", (0.6, 0.7, 0.8), neuron="plif"), of("b", (0.6, 0.6, 0.7), neuron="if")]
    found = summarise(MANIFEST, [*cells, of("c", (0.6, 0.62, 0.7), time_steps=2)])["comparisons"]
    by_cell = {pair["cell"]: pair["test"] for pair in found}
    smaller, larger = sorted((by_cell["a"], by_cell["b"]), key=lambda test: test["p_t"])
    assert smaller["p_holm"] == pytest.approx(2 * smaller["p_t"], rel=1e-5)
    assert larger["p_holm"] == pytest.approx(max(larger["p_t"], 2 * smaller["p_t"]), rel=1e-5)
    assert by_cell["c"]["p_holm"] == by_cell["c"]["p_t"]  # the only pair of time steps


def test_metrics_are_averaged_by_name_and_compared_by_the_one_that_counts():
    def seen(seed, **metrics):
        found = run(seed)
        return found | {"metrics": metrics, "epochs": [epoch | {"metrics": metrics} for epoch in found["epochs"]]}

    ours = cell("ours", [seen(0, miou=0.6, iou_car=0.5), seen(1, miou=0.7)], "ahsar", metric="miou")
    theirs = cell("theirs", [seen(0, miou=0.5, iou_car=0.9), seen(1, miou=0.4, iou_car=0.9)], metric="miou")
    summary = summarise(MANIFEST, [ours, theirs])
    assert summary["cells"][0]["mean"]["metrics"] == pytest.approx({"miou": 0.65, "iou_car": 0.5})
    assert set(summary["cells"][0]["ci95"]["metrics"]) == {"miou"}  # one value has no interval
    assert summary["comparisons"][0]["metric_difference"]["values"] == pytest.approx([0.1, 0.3])


def test_a_metric_out_of_range_is_refused():
    with pytest.raises(ValueError, match="metrics"):
        summarise(MANIFEST, [cell("a", [run(0, acc1=-1.0)])])


def test_the_best_of_several_thresholds_is_a_row_of_its_own():
    at = [cell(f"at-{t}", [run(0, metric)], threshold=t) for t, metric in ((0.5, 0.6), (1.0, 0.8), (2.0, 0.7))]
    ours = cell("ours", [run(0)], "ahsar", threshold=0.5)
    found = {
        pair["control"]: pair for pair in summarise(MANIFEST, [ours, *at])["comparisons"] if pair["cell"] == "ours"
    }
    assert list(found) == ["at-0.5", "at-1.0"]
    assert (found["at-0.5"]["chosen_from"], found["at-0.5"]["differs"]) == ([], {})
    assert found["at-1.0"]["chosen_from"] == ["at-0.5", "at-1.0", "at-2.0"]
    assert found["at-1.0"]["differs"] == {"model.threshold": [0.5, 1.0]}


def costly(seed, acc1, operations):
    kinds = ("macs", "macs_repeated", "dense_macs", "updates")
    return run(seed, acc1, operations=dict.fromkeys(kinds, 0.0) | {"synaptic_operations": operations})


def test_at_equal_operations_a_regulated_cell_is_beside_the_line_of_thresholds():
    """Two seeds lie on the line, halfway and at its end; the third has more operations than any threshold."""
    at = [
        cell(f"at-{t}", [costly(s, acc1 + 0.01 * s, operations) for s in (0, 1, 2)], threshold=t)
        for t, acc1, operations in ((0.5, 0.8, 400.0), (1.0, 0.6, 200.0), (2.0, 0.1, 0.0))
    ]
    ours = cell("ours", [costly(0, 0.75, 300.0), costly(1, 0.83, 400.0), costly(2, 0.9, 401.0)], "ahsar", threshold=1.0)
    pairs = [pair for pair in summarise(MANIFEST, [ours, *at])["comparisons"] if pair["cell"] == "ours"]
    [found] = [pair["equal_operations"] for pair in pairs if pair["chosen_from"]]
    assert found["difference"]["values"] == pytest.approx([0.75 - 0.7, 0.83 - 0.81])
    assert found["outside"] == 1
    assert found["test"]["p_holm"] == found["test"]["p_t"] is not None
    assert all(pair["equal_operations"] is None for pair in pairs if not pair["chosen_from"])
    at[0]["seeds"][0]["operations"] = None
    pairs = summarise(MANIFEST, [ours, *at])["comparisons"]
    [found] = [pair["equal_operations"] for pair in pairs if pair["chosen_from"]]
    assert found["outside"] == 2  # seed 0 has the thresholds 1 and 2 alone


def test_at_equal_rates_a_regulated_cell_is_beside_the_line_of_thresholds():
    """The rate is that of all neurons: spikes divided by updates. Operations may tell another story."""

    def fired(seed, acc1, operations, spikes, updates=1000.0):
        found = costly(seed, acc1, operations)
        return found | {"operations": found["operations"] | {"spikes": spikes, "updates": updates}}

    at = [
        cell(f"at-{t}", [fired(0, acc1, operations, spikes)], threshold=t)
        for t, acc1, operations, spikes in ((0.5, 0.8, 400.0, 200.0), (1.0, 0.6, 200.0, 100.0))
    ]
    ours = cell("ours", [fired(0, 0.75, 250.0, 300.0, updates=2000.0)], "ahsar", threshold=1.0)
    [pair] = [pair for pair in summarise(MANIFEST, [ours, *at])["comparisons"] if pair["chosen_from"]]
    assert pair["equal_rate"]["difference"]["values"] == pytest.approx([0.75 - 0.7])
    assert pair["equal_operations"]["difference"]["values"] == pytest.approx([0.75 - 0.65])
    del at[0]["seeds"][0]["operations"]["spikes"]  # a summary of an earlier version
    [pair] = [pair for pair in summarise(MANIFEST, [ours, *at])["comparisons"] if pair["chosen_from"]]
    assert pair["equal_rate"]["outside"] == 1


def under(seed, clean, corrupted):
    values = {"clean": clean, "jpeg:1": corrupted}
    none = {"firing_rate": None, "dead_fraction": None, "error": None}
    return run(seed, clean, conditions={name: {"metrics": {"acc1": value}} | none for name, value in values.items()})


def test_at_equal_accuracy_a_regulated_cell_is_beside_the_line_of_thresholds():
    """Clean accuracy is the place along the line, accuracy under corruption the height."""
    at = [
        cell(f"at-{t}", [under(s, clean, corrupted) for s in (0, 1)], threshold=t)
        for t, clean, corrupted in ((0.5, 0.6, 0.3), (1.0, 0.8, 0.5), (2.0, 0.7, 0.2))
    ]
    ours = cell("ours", [under(0, 0.75, 0.45), under(1, 0.9, 0.8)], "ahsar", threshold=1.0)
    pairs = [pair for pair in summarise(MANIFEST, [ours, *at])["comparisons"] if pair["cell"] == "ours"]
    [found] = [pair["equal_accuracy"] for pair in pairs if pair["chosen_from"]]
    assert found["difference"]["values"] == pytest.approx([0.45 - 0.35])
    assert found["outside"] == 1
    assert all(pair["equal_accuracy"] is None for pair in pairs if not pair["chosen_from"])


def test_scores_of_robustness_are_relative_to_the_same_seed_of_the_reference():
    ours = cell("ours", [under(0, 0.8, 0.6), under(1, 0.8, 0.7)], "ahsar")
    theirs = cell("theirs", [under(0, 0.9, 0.2), under(1, 0.9, 0.1)])
    found = summarise(MANIFEST | {"reference": "theirs"}, [ours, theirs])
    scores = [seed["robustness"] for seed in found["cells"][0]["seeds"]]
    assert [each["corrupted"] for each in scores] == [0.6, 0.7]
    assert [each["relative"] for each in scores] == [0.75, 0.875]
    assert [each["mce"] for each in scores] == pytest.approx([0.4 / 0.8, 0.3 / 0.9], abs=1e-5)
    assert found["cells"][0]["mean"]["robustness"]["corrupted"] == pytest.approx(0.65)
    assert found["cells"][0]["mean"]["conditions"] == {"clean": 0.8, "jpeg:1": pytest.approx(0.65)}
    [pair] = found["comparisons"]
    assert pair["robustness"]["corrupted"]["difference"]["values"] == pytest.approx([0.4, 0.6])
    assert pair["robustness"]["corrupted"]["test"]["p_holm"] == pair["robustness"]["corrupted"]["test"]["p_t"]
    assert "mce" not in summarise(MANIFEST, [ours, theirs])["cells"][0]["seeds"][0]["robustness"]


def test_a_score_that_some_seed_lacks_has_no_mean():
    """Fault: a relative corruption error of one seed of three stood as the mean."""
    ours = cell("ours", [under(0, 0.8, 0.6), under(1, 0.8, 0.7)], "ahsar")
    theirs = cell("theirs", [under(0, 0.9, 0.2), under(1, 0.9, 0.9)])  # which loses nothing under seed 1
    found = summarise(MANIFEST | {"reference": "theirs"}, [ours, theirs])["cells"][0]
    assert ["relative_mce" in seed["robustness"] for seed in found["seeds"]] == [True, False]
    assert "relative_mce" not in found["mean"]["robustness"]
    assert "mce" in found["mean"]["robustness"]


def numbers(value):
    """All floats in a JSON value."""
    if isinstance(value, float):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from numbers(item)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1e-9, 1e9)), min_size=1, max_size=4), st.floats(0, 1))
def test_numbers_have_six_digits_and_rounding_twice_changes_nothing(runs, third):
    seeds = [run(seed, acc1, step_ms=step_ms) for seed, (acc1, step_ms) in enumerate(runs)]
    cells = [cell("ours", seeds, "ahsar", band={"mlp": (0.2, 0.4)}), cell("theirs", [run(0, third)])]
    manifest = MANIFEST | {"config": {"lr": 0.123456789}}
    summary = summarise(manifest, cells)
    assert summary["manifest"]["config"] == {"lr": 0.123456789}
    assert all(number == float(f"{number:.6g}") for number in numbers([summary["cells"], summary["comparisons"]]))
    assert summary["cells"][0]["mean"]["metrics"]["acc1"] == pytest.approx(mean([a for a, _ in runs]), rel=1e-5)
    keys = Cell.model_fields.keys() - {"n", "n_reached", "mean", "ci95"}
    again = [{key: found[key] for key in keys} for found in summary["cells"]]
    assert summarise(manifest, again) == summary


def test_rewriting_leaves_every_byte(tmp_path):
    write(summarise(MANIFEST, [cell("a", [run(0, 2 / 3), run(1, 1e-7 / 3), failed(2)])]), tmp_path)
    before = (tmp_path / "summary.json").read_bytes()
    write(load(tmp_path), tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == before


def test_what_is_written_is_read_and_is_strict_json(tmp_path):
    summary = summarise(MANIFEST, [cell("a", [run(0), failed(1)])])
    write(summary, tmp_path)
    assert load(tmp_path) == summary
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    json.loads((tmp_path / "summary.json").read_text(), parse_constant=pytest.fail)  # neither NaN nor Infinity


def test_a_faulty_summary_leaves_the_old_one(tmp_path):
    summary = summarise(MANIFEST, [cell("a", [run(0)])])
    write(summary, tmp_path)
    with pytest.raises(ValueError, match="manifest"):
        write({"cells": []}, tmp_path)
    assert load(tmp_path) == summary


@pytest.mark.parametrize("text", ["{", "[]", '{"manifest": {}, "cells": [], "comparisons": []}'])
def test_a_file_that_is_no_summary_is_named(tmp_path, text):
    (tmp_path / "summary.json").write_text(text)
    with pytest.raises(UserError, match=r"summary\.json"):
        load(tmp_path)


def test_a_folder_without_a_summary_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        load(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        load(tmp_path / "file")


def test_every_field_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "summary.md").read_text(encoding="utf-8")
    models, seen = [Summary], set()
    while models:
        model = models.pop()
        for name, field in model.model_fields.items():
            assert f"`{name}`" in page, f"{model.__name__}.{name} is not in docs/summary.md"
            found = {t for t in _types(field.annotation) if isinstance(t, type) and issubclass(t, BaseModel)}
            models += found - seen
            seen |= found
    assert len(seen) > 8


def _types(annotation):
    yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _types(inner)
