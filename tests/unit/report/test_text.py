import pytest

from step_ahsar.report import text


def cell(**changes):
    return {
        "n": 3,
        "n_reached": 3,
        "epochs": 8,
        "mean": {"epochs_to_target": 4.333},
        "seeds": [{"status": "ok"}] * 3,
    } | changes


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "4.3"),
        ({"n_reached": 0}, "> 8"),
        ({"n_reached": 1}, "> 8 (2 of 3)"),
        ({"n_reached": 2, "median_epochs_to_target": 5.0}, "> 8 (1 of 3), median 5"),
        ({"n": 0, "n_reached": 0}, "–"),
    ],
)
def test_epochs_to_target_never_hide_a_seed_that_missed_it(changes, shown):
    assert text.epochs_to_target(cell(**changes), 0.9) == shown
    assert text.epochs_to_target(cell(**changes), None) == "–"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.031, "+3.1"), (-0.004, "−0.4"), (-0.0001, "0.0"), (0.0, "0.0")]
)  # a true minus, no negative zero
def test_signed_points(value, shown):
    assert text.signed(value) == shown


def test_intervals():
    assert text.with_interval(0.955, [0.943, 0.967], scale=100) == "95.5 ± 1.2"
    assert text.with_interval(0.955, None, scale=100) == "95.5"
    assert text.with_interval(None, None) == "–"


@pytest.mark.parametrize(
    ("bound", "shown"), [("exact", "0.50 [0.40, 0.62]"), ("at_most", "≤ 0.50"), ("at_least", "≥ 0.50")]
)
def test_ratios_say_what_they_bound(bound, shown):
    interval = [0.4, 0.62] if bound == "exact" else None
    assert text.ratio({"mean": 0.5, "bound": bound, "ci95": interval}) == shown


def test_unknown_ratios_are_dashes():
    assert text.ratio({"mean": None, "bound": "unknown", "ci95": None}) == "–"
    assert text.ratios({"values": [0.5, None], "bounds": ["at_most", "unknown"]}) == "≤ 0.50, –"


def test_small_rates_are_not_nothing():
    rates = {"stem": 0.134, "attention": 0.0044, "mlp": 0.00002}
    assert text.by_group(rates, ["stem", "attention", "mlp", "head"]) == "0.13 / 0.004 / <0.001 / –"
    assert text.by_group({"mlp": 0.0}, ["mlp"]) == "0.00"
    assert text.by_group(None, ["mlp"]) == "–"


def test_seeds_are_counted_by_how_they_ended():
    assert text.seeds(cell()) == "3"
    runs = [{"status": status} for status in ("failed", "ok", "unfinished", "failed")]
    assert text.seeds(cell(n=1, seeds=runs)) == "1, 2 failed, 1 unfinished"


@pytest.mark.parametrize(
    ("name", "shown", "title"),
    [
        ("acc1", "accuracy", "Accuracy"),
        ("miou", "mIoU", "mIoU"),
        ("map", "mAP", "mAP"),
        ("iou_traffic_light", "IoU traffic light", "IoU traffic light"),
        ("ap_map", "AP map", "AP map"),
        ("mask_map", "mask mAP", "mask mAP"),
        ("pixel_accuracy", "pixel accuracy", "Pixel accuracy"),
    ],
)
def test_metrics_have_names_for_readers(name, shown, title):
    assert (text.metric(name), text.title(name)) == (shown, title)


def scored(metric, mean, interval):
    metrics = (None if mean is None else {metric: mean, "other": 0.5}), interval and {metric: interval}
    return {"metric": metric, "mean": {"metrics": metrics[0]}, "ci95": {"metrics": metrics[1]}}


def test_scores_are_named_where_cells_differ():
    one, two = scored("miou", 0.6, [0.5, 0.7]), scored("map", 0.3, None)
    unknown, failed = scored(None, None, None), scored("miou", None, None)
    assert text.common_metric([one, unknown, failed]) == "mIoU"
    assert text.common_metric([one, two]) is text.common_metric([unknown]) is None
    assert text.named_score(one, "mIoU") == text.score(one) == "60.0 ± 10.0"
    assert text.named_score(one, None) == "60.0 ± 10.0 mIoU"
    assert text.named_score(two, None) == "30.0 mAP"
    assert text.score(one, "other") == "50.0"
    assert [text.named_score(cell, None) for cell in (unknown, failed)] == ["–", "–"]


def test_what_was_done_to_the_data():
    assert text.about_data([{"name": "a", "skipped": []}, {"name": "b"}]) == []
    one = {"name": "a", "skipped": ["x.png: cut short"]}
    assert text.about_data([one, one]) == ["1 file of a left out: x.png: cut short"]
    padded = {"name": "a", "length": 29, "padded_to": 32}
    assert text.about_data([padded]) == ["series of a: the model pads length 29 with zeros to 32"]


def test_a_pair_says_in_what_it_differs():
    assert text.differs({"factor": "model.neuron", "differs": {}}) == "neuron"
    assert text.differs({"factor": "model.args.stem", "differs": {}}) == "stem"
    assert text.differs({"factor": "model.name", "differs": {}}) == "model"
    differs = {"model.threshold": (2.0, 0.5), "model.attn_threshold": (None, 0.25)}
    assert (
        text.differs({"factor": "model.neuron", "differs": differs})
        == "neuron, threshold (2, 0.5), attn_threshold (default, 0.25)"
    )


def shown(mean, p_holm, p_equivalence):
    return {
        "metric_difference": {"mean": mean},
        "test": {"p_holm": p_holm, "p_equivalence": p_equivalence},
    }


@pytest.mark.parametrize(
    ("pair", "verdict"),
    [
        (shown(0.05, 0.049, 0.9), "better"),
        (shown(-0.05, 0.049, 0.9), "worse"),
        (shown(0.05, 0.051, 0.9), "not shown"),
        (shown(0.005, 0.9, 0.049), "equal within 2.5 points"),
        (shown(0.005, 0.01, 0.01), "equal within 2.5 points"),  # a difference that does not matter
        (shown(0.005, 0.9, 0.051), "not shown"),
        (shown(0.05, None, None), "not shown"),
        (shown(None, None, None), "–"),
    ],
)
def test_a_verdict_says_what_is_shown(pair, verdict):
    assert text.verdict(pair, 0.025) == verdict


def paired(cell, mean, p_holm, p_equivalence=0.9, factor="model.neuron", chosen_from=(), seeds=(0, 1)):
    return shown(mean, p_holm, p_equivalence) | {
        "cell": cell, "control": "c", "factor": factor, "chosen_from": chosen_from, "differs": {}, "seeds": seeds,
    }  # fmt: skip


def test_verdicts_count_what_the_pairs_of_a_factor_show():
    pairs = [
        paired("a", 0.1, 0.01),
        paired("b", -0.1, 0.01),
        paired("c", 0.1, 0.3),
        paired("d", 0.001, 0.9, 0.01),
        paired("e", 0.1, 0.01),
        paired("f", 0.1, 0.01, factor="model.name"),
        paired("a", 0.1, 0.4, chosen_from=["x", "y"]),
        paired("g", 0.1, 0.01, seeds=()),  # nothing is known of it yet
    ]
    assert text.verdicts(pairs, 0.01) == [
        "neuron: better than its control in 2 of 5 pairs (a, e); worse than its control in 1 (b); equal to its control "
        "within 1 point in 1 (d); no difference shown in 1.",
        "model: better than its control in 1 of 1 pair (f).",
        "neuron against the best fixed threshold: no difference shown in 1 of 1 pair.",
    ]
    many = text.verdicts([paired(name, 0.1, 0.01) for name in "abcde"], 0.01)
    assert many == ["neuron: better than its control in 5 of 5 pairs (a, b, c and 2 more)."]
    assert text.verdicts([], 0.01) == []


def test_p_values_and_points():
    assert [text.p_value(p) for p in (None, 0.0004, 0.031, 1.0)] == ["–", "< 0.001", "0.031", "1.000"]
    assert [text.points(p) for p in (0.01, 0.005, 0.02)] == ["1 point", "0.5 points", "2 points"]


def test_a_control_that_was_chosen_says_so():
    assert text.control({"control": "lif-1", "chosen_from": []}) == "lif-1"
    chosen = {"control": "lif-1", "chosen_from": ["lif-1", "lif-2"]}
    assert text.control(chosen | {"chosen_on": "validation"}) == "lif-1 (best of 2 in validation)"
    assert text.control(chosen | {"chosen_on": "test"}) == "lif-1 (best of 2 on the test set)"


def test_how_small_a_difference_could_have_been_shown():
    def pair(detectable, seeds=3):
        return {"test": {"detectable": detectable}, "seeds": list(range(seeds))}

    assert text.detectable([pair(None)]) is None
    assert "With 3 seeds" in text.detectable([pair(0.021)])
    assert "out of five is 2.1 points. “Not" in text.detectable([pair(0.021)])
    several = text.detectable([pair(0.021), pair(0.1, 5), pair(0.043), pair(None)])
    assert "With 3 to 5 seeds" in several
    assert "4.3 points in the median pair (2.1 to 10.0). " in several


def test_figures_that_were_chosen_on_the_test_set_say_so():
    validation, test = {"chosen_on": "validation"}, {"chosen_on": "test"}
    assert "based on a validation set" in text.chosen_on([validation, validation])
    assert text.chosen_on([test]).startswith("Chosen on the test set (data.validation: 0)")
    assert "of the cells without a validation set" in text.chosen_on([validation, test])


def test_scores_at_the_best_epoch():
    cell = {
        "metric": "acc1",
        "mean": {"metrics": {"acc1": 0.5}, "best_metrics": {"acc1": 0.75}},
        "ci95": {"metrics": None, "best_metrics": {"acc1": [0.7, 0.8]}},
    }
    assert (text.score(cell), text.score(cell, at_best=True)) == ("50.0", "75.0 ± 5.0")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.0082639, "0.00826"), (4.6912, "4.69"), (99.96, "100.0"), (1234.0, "1,230"), (123456.0, "123,000")],
)
def test_three_digits(value, shown):
    assert text.significant(value) == shown
