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
    assert text.differs({"differs": {}}) == "neuron"
    differs = {"model.threshold": (2.0, 0.5), "model.attn_threshold": (None, 0.25)}
    assert text.differs({"differs": differs}) == "neuron, threshold (2, 0.5), attn_threshold (default, 0.25)"


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
