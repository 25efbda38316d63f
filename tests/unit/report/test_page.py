"""The page stands alone, is well-formed, and says everything, whatever the state of the comparison."""

import copy
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from base64 import b64decode
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from step_ahsar.errors import UserError
from step_ahsar.report import print_table, render, text, write
from step_ahsar.report.page import LARGE
from step_ahsar.report.plots import _cliques, by_band, families
from step_ahsar.report.style import Theme
from tests.unit.report.conftest import rendered

STATES = ["summary", "failed_summary", "begun_summary", "single_summary", "tasks_summary", "ranked_summary"]
VOID = {"meta", "br", "img"}
PNG = b"\x89PNG\r\n\x1a\n"


pytestmark = pytest.mark.xdist_group("page")  # with test_browser.py, so that each page is rendered once


@pytest.fixture(params=STATES, scope="module")
def state(request):
    return request.param


@pytest.fixture(scope="module")
def page(state, request):
    return rendered(request.getfixturevalue(state))


class Nesting(HTMLParser):
    """Fails where tags do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parse(page):
    parser = Nesting()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_page_is_well_formed_and_stands_alone(page):
    parser = parse(page)
    assert len(parser.ids) == len(set(parser.ids))
    page = re.sub('(src|xlink:href)="data:image/(png|jpeg);base64,[^"]*"', "", page)
    assert not re.search(r"""(?:src|srcset|data|action)\s*=|@import|<script[^>]|<link|<iframe""", page)
    references = re.findall(r"""href=["']([^"']*)|url\(([^)]*)\)""", page)
    targets = {a or b for a, b in references}
    assert targets <= {f"#{name}" for name in parser.ids}  # every reference leads to somewhere on the page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)


def test_every_colour_is_declared_for_both_modes(page):
    style = page[page.index("<style>") : page.index("</style>")]
    light, dark = style.split("prefers-color-scheme: dark")
    used = set(re.findall(r"var\((--[\w-]+)\)", page))
    for mode in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", mode))
    assert not re.search("#fe0[0-9a-f]{3}", page)  # no stand-in colour is left over


def test_every_cell_is_on_the_page(state, page, request):
    text = "".join(parse(page).text)
    for cell in request.getfixturevalue(state)["cells"]:
        assert cell["id"] in text


def labels(page):
    """The descriptions of the page's figures."""
    return re.findall(r'aria-label="([^"]+)"', page)


def test_plots_are_those_that_have_something_to_show(summary, failed_summary, begun_summary, single_summary):
    full = labels(rendered(summary))
    assert sum(label.startswith("Validation accuracy and training loss") for label in full) == 2  # one for each model
    assert sum("of every layer" in label for label in full) == 7
    assert sum(label.startswith("Firing rate and threshold scale") for label in full) == 3  # the regulated cells
    assert sum("accuracy against firing rate" in label for label in full) == 1
    assert sum("accuracy against operations and energy" in label for label in full) == 1
    assert sum("against the starting threshold" in label for label in full) == 1
    assert sum("of every layer" in label for label in labels(rendered(failed_summary))) == 6  # one has no epoch
    assert len(labels(rendered(begun_summary))) == 2
    assert len(labels(rendered(single_summary))) == 6
    assert sum(label.startswith("Activity of") for label in full) == 7
    assert sum("under other conditions" in label for label in full) == 1
    earlier = copy.deepcopy(summary)  # of a version that did not measure distributions
    for cell in earlier["cells"]:
        for seed in cell["seeds"]:
            seed |= {"neurons": None, "synapses": None}
        cell["mean"] |= {"conditions": None, "robustness": None}
        for seed in cell["seeds"]:
            seed["early_exit"] = None
    page = render(earlier)
    assert "Activity by depth" not in page
    assert "Robustness" not in page
    assert "Early exit" not in page


def test_a_line_joins_only_cells_that_differ_in_their_threshold_alone(summary):
    """Fault: the plot against the threshold joined cells that differed in tau as well."""
    joined = families(summary["cells"])
    assert [[cell["id"] for cell in family] for family in joined] == [
        ["spikformer-lif-0.5", "spikformer-lif-1", "spikformer-lif-2"],
        ["spikformer-ahsar-1", "spikformer-ahsar-2"],
        ["qkformer-lif-1"],
        ["qkformer-ahsar-1"],
    ]
    changed = copy.deepcopy(summary["cells"])
    for cell in changed:
        cell["settings"]["model.tau"] = 4.0 if cell["id"] == "spikformer-lif-1" else None
    assert ["spikformer-lif-1"] in [[cell["id"] for cell in family] for family in families(changed)]


def test_the_page_says_on_which_set_epochs_were_judged(summary):
    text = "".join(parse(rendered(summary)).text)
    assert "the best epoch and AHSAR’s slow loop are based on a validation set" in text
    judged_on_test = copy.deepcopy(summary)
    for cell in judged_on_test["cells"]:
        cell["chosen_on"] = "test"
    page = render(judged_on_test)
    assert "Chosen on the test set (data.validation: 0)" in "".join(parse(page).text)
    assert 'aria-label="Test accuracy and training loss by epoch"' in page
    printed = io.StringIO()
    print_table(judged_on_test, Console(file=printed, width=200))
    assert "Chosen on the test set" in printed.getvalue()


def test_figures_at_the_best_epoch_stand_beside_those_of_the_last(summary):
    other = copy.deepcopy(summary)
    other["cells"][0]["mean"]["best_metrics"] = {"acc1": 0.98765}
    assert "<td>98.8" not in rendered(summary)
    assert "<td>98.8" in render(other)


def test_operations_and_energy_are_those_of_a_sample(summary):
    cell = summary["cells"][0]
    millions = 10 * sum(cell["mean"]["firing_rate"].values())
    page = rendered(summary)
    row = [0.009, millions, 4.5, 123456.0, 0.9 * millions, 700.0]
    assert "\n".join(f"<td>{text.significant(value)}</td>" for value in row) in page
    assert all(f"<th>{preset}<small>µJ</small></th>" in page for preset in ("compute-fp32", "memory"))
    earlier = copy.deepcopy(summary)  # of a version that did not count them
    for cell in earlier["cells"]:
        cell["mean"] |= {"operations": None, "energy": None}
    page = render(earlier)
    assert "µJ" not in page
    assert "of membranes, millions" not in page
    assert "Operations and energy" not in page
    earlier["cells"][0]["mean"] = summary["cells"][0]["mean"]  # some cells have them
    assert render(earlier).count("<td>700</td>") == 1


def test_robustness_has_scores_conditions_and_what_pairs_show(summary):
    page = rendered(summary)
    said = " ".join("".join(parse(page).text).split())
    [first, *_] = summary["cells"]
    clean = first["mean"]["conditions"]["clean"]
    assert first["mean"]["robustness"]["corrupted"] == pytest.approx(0.6 * clean, rel=1e-5)
    row = [60.0, 100.0, 100.0, 0.0, 20.0]  # relative, mCE, relative mCE, ECE of clean and of corrupted data
    found = re.search(r"<td>([\d. ±]+)</td>\n" * 7, page[page.index("<h2>Robustness") :])
    assert [float(cell.split()[0]) for cell in found.groups()[2:]] == pytest.approx(row, abs=0.05)
    assert float(found[1].split()[0]) == pytest.approx(100 * clean, abs=0.05)
    assert "Mean corruption errors are relative to spikformer-lif-0.5, seed by seed." in said
    assert "time_steps:8: it is bound to its <T>" in said
    assert said.count("it is bound to its <T>") == 1
    shown = r"Under corruption, in 10 pairs: .*; spikformer-ahsar-2 beside spikformer-lif-2 \+\d+\.\d points"
    assert re.search(shown, said)
    assert "7 conditions; accuracy in %, mean over seeds" in said


def test_regulated_cells_stand_beside_the_thresholds_at_equal_operations(summary):
    said = "".join(parse(rendered(summary)).text)
    found = {pair["cell"]: pair["equal_operations"] for pair in summary["comparisons"] if pair["equal_operations"]}
    assert set(found) == {"spikformer-ahsar-1", "spikformer-ahsar-2"}
    for cell, each in found.items():
        line = "spikformer-lif-0.5, spikformer-lif-1, spikformer-lif-2"
        assert f"{cell}{line}{text.difference(each['difference'])}" in said
    assert "Seeds with more or fewer operations than every threshold are left out." in said
    assert "At equal firing rate" in said
    rows = text.beside_the_line(summary["comparisons"], "equal_rate")
    assert [row[0] for row in rows] == sorted(found)
    assert all(said.count("".join(row[:3])) >= 1 for row in rows)
    outside = copy.deepcopy(summary["comparisons"])
    for pair in outside:
        if pair["equal_operations"]:
            pair["equal_operations"] |= {"difference": {"values": [], "mean": None, "ci95": None}, "outside": 3}
    [row, _] = text.beside_the_line(outside, "equal_operations")
    assert row[1] == "spikformer-lif-0.5, spikformer-lif-1, spikformer-lif-2"
    assert row[2] == text.NONE
    assert row[4] == "every seed is beyond the ends of the line"
    for pair in outside:
        pair["chosen_from"] = [f"{each}-of-a-grid-with-many-axes" for each in pair["chosen_from"]]
    assert text.beside_the_line(outside, "equal_operations")[0][1] == "3 fixed thresholds"


def test_cells_on_other_data_have_a_front_of_their_own(summary):
    """Fault: a page of three data sets had one Pareto front."""
    there = copy.deepcopy(summary)
    for cell in there["cells"][:2]:
        cell["dataset"] = "elsewhere"
    before, after = labels(rendered(summary)), labels(render(there))
    for what in ("against firing rate", "against operations and energy"):
        assert [sum(what in label for label in each) for each in (before, after)] == [1, 2], what
    said = "".join(parse(render(there)).text)
    for heading in ("against firing rate", "against cost", "Robustness", "Early exit"):
        assert f"{heading} on elsewhere" in said


def test_networks_without_spikes_stand_beside_the_energies(summary):
    said = "".join(parse(rendered(summary)).text)
    assert "Energy of the same networks without spikes" in said
    for cell in summary["cells"]:
        for kind in ("relu", "quantised"):
            assert text.significant(cell["mean"]["energy_without_spikes"][f"compute-fp32.{kind}"]) in said


def test_activity_is_also_told_by_group(summary):
    rate = summary["cells"][0]["mean"]["firing_rate"]["mlp"]
    line = text.activity(summary["cells"][0], ["stem", "mlp"])
    assert line.startswith(
        "silent stem 12.5 %, mlp 12.5 %; always firing stem 25.0 %, mlp 25.0 %; spikes per synapse stem "
    )
    assert line.endswith(f"mlp {4 * rate:.2f}")
    assert text.activity(summary["cells"][0], ["stem", "attention", "mlp"]) in rendered(summary)


def test_bands_are_a_line_of_their_own(summary):
    cells = [copy.deepcopy(summary["cells"][3]) for _ in range(3)]
    for cell, low in zip(cells, (0.3, 0.03, 0.1), strict=True):
        cell["band"] = dict.fromkeys(("stem", "mlp"), (low, 2 * low))
        cell["settings"] = cell["settings"] | {"ahsar.band": [low, 2 * low]}
    [line] = by_band([*summary["cells"][:3], *cells])
    assert [cell["settings"]["ahsar.band"][0] for cell in line] == [0.03, 0.1, 0.3]


def test_early_exit_is_a_table_and_a_curve(summary):
    page = rendered(summary)
    assert 'aria-label="Test accuracy of samples that leave early"' in page
    rows = re.findall(r"<td>([\d.]+) ± [\d.]+</td>\n" * 4, page[page.index("<h2>Early exit") :])
    assert len(rows) == len(summary["cells"])
    every, early, steps, share = map(float, rows[0])
    assert early == pytest.approx(0.9 * every, abs=0.1)
    assert (steps, share) == (2, 50)


def test_pairs_say_in_what_they_differ(summary):
    text = " ".join("".join(parse(rendered(summary)).text).split())
    assert "neuron, threshold (1, 0.5)" in text
    printed = io.StringIO()
    print_table(summary, Console(file=printed, width=200))
    assert "neuron, threshold (1, 0.5)" in printed.getvalue()


def test_each_task_has_its_metric_and_plots_of_its_own(tasks_summary):
    page = rendered(tasks_summary)
    labels = re.findall(r'aria-label="([^"]+)"', page)
    for name, task in (("mIoU", "segmentation"), ("mAP", "detection")):
        assert sum(label == f"Validation {name} and training loss by epoch" for label in labels) == 1
        assert sum(label.startswith(f"Final test {name} against firing rate") for label in labels) == 1
        assert f"<h2>{name} against firing rate on digits_scenes ({task})</h2>" in page
    text = "".join(parse(page).text)
    assert "digits_scenes (segmentation)" in text
    assert "digits_scenes (detection)" in text
    assert not re.search("accuracy(?<!pixel accuracy)", text)
    assert re.search(r"\d ± [\d.]+ mIoU", text)  # the tasks share a column
    assert re.search(r"\d ± [\d.]+ mAP", text)
    for name in ("pixel accuracy", "IoU background", "mAP 50", "mAP small"):
        assert name in text


def test_metrics_of_one_task_are_named_in_the_header(tasks_summary):
    one = tasks_summary | {"cells": tasks_summary["cells"][1:4], "comparisons": []}
    text = "".join(parse(render(one)).text)
    assert "test mIoU%, mean ± 95 %" in text
    assert not re.search(r"± [\d.]+ mIoU", text)


def test_files_left_out_are_counted_and_the_first_named(tasks_summary):
    text = "".join(parse(rendered(tasks_summary)).text)
    line = "5 files of digits_scenes left out: images/0.png: <not> an image; "
    assert text.count(line) == 1
    assert "images/2.png: <not> an image and 2 more" in text
    assert "images/3.png" not in text
    file = io.StringIO()
    print_table(tasks_summary, Console(file=file, width=200))
    assert file.getvalue().count(line) == 1


def predictions(folder, count):
    """Pictures as a run leaves them, each with its number in it."""
    (folder / "predictions").mkdir(parents=True)
    for i in range(count):
        (folder / "predictions" / f"{i:02d}.png").write_bytes(PNG + bytes([i]))


def shown(page):
    """The numbers of the pictures on a page, in order."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="[^"]+">', page)
    pictures = [b64decode(text) for text in found]
    assert all(picture.startswith(PNG) for picture in pictures)
    return [picture[-1] for picture in pictures]


def test_a_comparison_shows_the_first_pictures_of_the_first_seed_that_has_some(tasks_summary, tmp_path):
    first, second, *_ = [cell["id"] for cell in tasks_summary["cells"]]
    predictions(tmp_path / "runs" / first / "0", 6)
    predictions(tmp_path / "runs" / first / "1", 1)
    predictions(tmp_path / "runs" / second / "2", 2)
    page = write(tasks_summary, tmp_path).read_text(encoding="utf-8")
    assert shown(page) == [0, 1, 2, 0, 1]
    section = page[page.index("<h2>Predictions") :]
    assert section.index(first) < section.index(second)
    test_page_is_well_formed_and_stands_alone(page)


def of_pixels(summary):
    """The summary of a run of segmentation."""
    return summary | {"cells": [cell | {"task": "segmentation"} for cell in summary["cells"]]}


def test_a_single_run_shows_its_pictures(single_summary, tmp_path):
    single_summary = of_pixels(single_summary)
    predictions(tmp_path, 2)
    (tmp_path / "predictions" / "best-0.png").write_bytes(PNG + bytes([9]))  # is for the examples
    assert shown(write(single_summary, tmp_path).read_text(encoding="utf-8")) == [0, 1]


def test_pictures_of_single_images_are_for_the_page_of_their_run(summary, tmp_path):
    predictions(tmp_path / "runs" / summary["cells"][0]["id"] / "0", 3)
    assert not shown(write(summary, tmp_path).read_text(encoding="utf-8"))


def test_large_pictures_go_in_as_jpeg(single_summary, tmp_path):
    single_summary = of_pixels(single_summary)
    (tmp_path / "predictions").mkdir()
    noise = np.random.default_rng(0).normal(128, 12, (256, 784, 1)) + np.arange(3) * 30
    picture = Image.fromarray(noise.astype(np.uint8))
    path = tmp_path / "predictions" / "00.png"
    picture.save(path)
    assert path.stat().st_size > LARGE
    page = write(single_summary, tmp_path).read_text(encoding="utf-8")
    (found,) = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', page)
    jpeg = b64decode(found)
    assert len(jpeg) < path.stat().st_size / 2
    image = Image.open(io.BytesIO(jpeg))
    assert image.size == picture.size
    assert np.abs(np.asarray(image, float) - np.asarray(picture, float)).mean() < 5
    test_page_is_well_formed_and_stands_alone(page)
    assert page == write(single_summary, tmp_path).read_text(encoding="utf-8")


def test_a_damaged_picture_is_named(single_summary, tmp_path):
    single_summary = of_pixels(single_summary)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "00.png").write_bytes(PNG + bytes(LARGE))
    with pytest.raises(UserError, match=r"00\.png"):
        write(single_summary, tmp_path)


def test_without_pictures_there_is_no_such_section(begun_summary, tmp_path):
    predictions(tmp_path, 2)  # of whom?
    assert "Predictions" not in write(begun_summary, tmp_path).read_text(encoding="utf-8")
    assert "Predictions" not in rendered(begun_summary)


def test_failures_are_shown_as_text(failed_summary):
    page = rendered(failed_summary)
    text = "".join(parse(page).text)
    assert "4 of 21 runs failed" in text
    assert "loss is nan at epoch 4, step 12" in text
    assert text.count("RuntimeError: <b>out of memory</b> & more") == 3  # escaped, not markup
    assert "2, 1 failed" in text


def test_an_unfinished_comparison_says_so(begun_summary, summary):
    assert "0 of 21 runs are done" in "".join(parse(rendered(begun_summary)).text)
    assert "Not finished" not in rendered(summary)


def test_a_single_epoch_has_no_fractions_around_it(single_summary):
    """Fault: the axis of epochs ran from 0.945 to 1.050."""
    short = copy.deepcopy(single_summary)
    (seed,) = short["cells"][0]["seeds"]
    seed["epochs"] = seed["epochs"][:1]
    for layer in seed["layers"].values():
        for key in ("rate", "threshold_scale"):
            layer[key] = layer[key] and layer[key][:1]
    page = render(short)
    curves = next(svg for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "training loss by epoch" in svg)
    panels = json.loads(unescape(re.search('data-values="([^"]*)"', curves)[1]))["panels"]
    assert [(panel["first"], panel["last"]) for panel in panels] == [(0.5, 1.5)] * 2
    assert curves.count(">1</text>") == 2


def test_a_silent_network_can_be_drawn(single_summary):
    silent = copy.deepcopy(single_summary)
    for epoch in silent["cells"][0]["seeds"][0]["epochs"]:
        epoch["firing_rate"] = dict.fromkeys(epoch["firing_rate"], 0.0)
        epoch["metrics"] = {"acc1": 0.0}
    for layer in silent["cells"][0]["seeds"][0]["layers"].values():
        layer["rate"] = [0.0] * len(layer["rate"])
    assert "Firing rate and threshold scale of every layer" in render(silent)


def test_same_summary_same_page(summary):
    assert render(summary) == rendered(summary)


def test_writing_replaces_the_page_whole(begun_summary, tmp_path):
    path = write(begun_summary, tmp_path)
    path.write_text("old")
    assert write(begun_summary, tmp_path) == path
    assert path.read_text(encoding="utf-8") == rendered(begun_summary)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def luminance(colour):
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True])
def test_lines_stand_out_from_the_page(dark):
    """WCAG 2.1, 1.4.11: graphics have a contrast of 3:1; nearly so for the lightest shade of a hue."""
    neurons = ("ahsar", "a", "b", "c", "d", "e")
    cells = [
        {
            "id": f"{neuron}{t}",
            "model": "m",
            "task": "classification",
            "dataset": "d",
            "neuron": neuron,
            "regulated": neuron == "ahsar",
            "threshold": t,
            "time_steps": 4,
            "backend": "x",
        }
        for neuron in neurons
        for t in (0.5, 1.0, 2.0)
    ]
    theme = Theme(cells)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", theme.variables(dark)))
    page = luminance(colours["page"])
    for name, colour in colours.items():
        if name.startswith(("cell", "depth", "ink", "muted")):
            light, deep = sorted((luminance(colour), page), reverse=True)
            assert (light + 0.05) / (deep + 0.05) >= 2.3, (name, colour)
    assert len({colours[theme.cells[cell["id"]].colour] for cell in cells}) == len(cells)


def test_cells_that_differ_by_anything_look_different():
    base = {
        "model": "m", "task": "t", "dataset": "d", "neuron": "lif", "regulated": False, "threshold": 1.0,
        "time_steps": 4, "backend": "torch",
    }  # fmt: skip
    changes = [{}, {"threshold": 2.0}, {"time_steps": 2}, {"backend": "b"}, {"neuron": "plif"}, {"model": "n"}, {}]
    cells = [base | change | {"id": str(i)} for i, change in enumerate(changes)]
    theme = Theme(cells)
    variables = dict(re.findall(r"--(\w+): (#\w{6})", theme.variables(dark=False)))
    looks = {(variables[s.colour], s.marker) for s in theme.cells.values()}
    assert len(looks) == len(cells)


def test_rounding_changes_nothing_that_is_printed(summary, exact_summary):
    files = io.StringIO(), io.StringIO()
    for file, each in zip(files, (summary, exact_summary), strict=True):
        print_table(each, Console(file=file, width=200))
    assert summary["cells"] != exact_summary["cells"]
    assert files[0].getvalue() == files[1].getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminals_table_cuts_nothing_short(failed_summary, width):
    file = io.StringIO()
    print_table(failed_summary, Console(file=file, width=width))
    printed = file.getvalue()
    assert "…" not in printed
    for cell in failed_summary["cells"]:
        assert cell["id"] in printed
    assert "55.5 ± 12.0" in printed
    assert "0.35/0.28/0.23" in printed
    assert "failed: spikformer-lif-2, seed 1: loss is nan at epoch 4, step 12" in printed


def test_methods_are_ranked_across_data_sets(ranked_summary, summary):
    ranking = ranked_summary["ranking"]
    assert (len(ranking["methods"]), len(ranking["places"])) == (5, 3)
    page = rendered(ranked_summary)
    assert "Across data sets" in page
    words = " ".join(parse(page).text)
    for method in ranking["methods"]:
        assert f"{method['name']}  {method['rank']:.2f}" in words
    assert f"the critical difference {ranking['critical_difference']:.2f}" in words
    assert "Across data sets" not in rendered(summary)


def test_bars_join_methods_within_the_critical_difference():
    assert _cliques([1.0, 1.5, 2.5, 4.0], 1.6) == [(1.0, 2.5), (2.5, 4.0)]
    assert _cliques([1.0, 2.0, 3.0], 1.0) == []
    assert _cliques([1.0, 2.0, 3.0], 2.5) == [(1.0, 3.0)]


def test_the_page_begins_with_what_is_shown(summary, single_summary):
    page = rendered(summary)
    words = " ".join(" ".join(parse(page).text).split())
    for sentence in text.verdicts(summary["comparisons"], 0.01):
        assert sentence in words
    assert page.index("What is shown") < page.index("<h2>Results</h2>")
    assert "What is shown" not in rendered(single_summary)


def test_a_page_of_many_cells_stays_small(summary):
    """100 cells x 5 seeds are to be under 5 MB. Plots are nearly all of it; this is a fifth of the cells."""
    cells = [copy.deepcopy(summary["cells"][i % len(summary["cells"])]) for i in range(20)]
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
        cell["settings"] |= {"model.tau": 1 + i}
        cell["epochs"] = 20
        for seed in cell["seeds"]:
            seed["epochs"] = [seed["epochs"][i % len(seed["epochs"])] | {"epoch": i + 1} for i in range(20)]
            for layer in seed["layers"].values():
                for key in ("rate", "threshold_scale"):
                    layer[key] = layer[key] and (layer[key] * 20)[:20]
    page = render(summary | {"cells": cells, "comparisons": [], "unpaired": [], "ranking": None})
    assert len(page.encode()) < 1e6
    assert 'class="grid"' in page
    assert "svg .grid { fill: none; stroke: var(--rule)" in page
