"""The page of a single run: examples, confusions, one sample through the model, layers by depth."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from step_ahsar.errors import UserError
from step_ahsar.files import sealed
from step_ahsar.report import find_single, write
from step_ahsar.report.single import confusion_matrix, confusions, layers_by_depth
from step_ahsar.report.style import Theme
from tests.unit.report import test_page

COUNTS = [[0, 0, 8], [0, 1, 2], [1, 1, 3], [1, 2, 7], [2, 2, 5]]


def leave(folder: Path, **changes: Any) -> None:
    """What a run leaves for a reader."""
    left = folder / "predictions"
    left.mkdir()
    examples = []
    for number, (kind, name) in enumerate([("first", "00.png"), ("best", "best-0.png"), ("worst", "worst-0.png")]):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(left / name)
        shown = {"truth": "<cat>", "prediction": "dog", "confidence": 0.98765}
        examples.append({"kind": kind, "sample": 10 * number, "score": 0.125 * number, "picture": name, "shown": shown})
    Image.new("L", (8, 8), 9).save(left / "input.png")
    record = {
        "epoch": 8,
        "classes": ["<cat>", "dog", "eel"],
        "confusions": COUNTS,
        "examples": examples,
        "look": {
            "sample": 0,
            "truth": examples[0]["shown"],
            "layers": {
                "stem.neuron": {"group": "stem", "rates": [0.0, 0.5]},
                "a.attn.neuron": {"group": "attention", "rates": [0.1, 0.2]},
            },
            "attention": {"a.attn.neuron": [[0.0, 0.1], [0.2, 0.3]]},
        },
    }
    (left / "examples.json").write_text(sealed(json.dumps(record | changes)))


def page_of(summary: dict[str, Any], folder: Path) -> str:
    return write(summary, folder, run=find_single(folder)).read_text(encoding="utf-8")


def test_the_page_shows_what_the_run_has_left(single_summary: dict[str, Any], tmp_path: Path) -> None:
    leave(tmp_path)
    page = page_of(single_summary, tmp_path)
    test_page.test_page_is_well_formed_and_stands_alone(page)
    assert page.index("Worst, by probability of the true class") < page.index("Best, by probability")
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    colours = [Image.open(io.BytesIO(base64.b64decode(each))).getpixel((0, 0))[0] for each in pictures]
    assert colours == [2, 1, 0]  # the worst, the best, the one that was looked at
    assert "0.250: truth &lt;cat&gt;, prediction dog (test sample 20)" in page
    assert "Test sample 0: truth &lt;cat&gt;, prediction dog, confidence 0.988." in page
    found = test_page.labels(page)
    for name in ("Confusion matrix", "Spikes per neuron of every layer at", "Spikes behind each", "Rate, threshold"):
        assert sum(label.startswith(name) for label in found) == 1


def test_confusions_are_sorted_with_their_share_of_the_class(tmp_path: Path) -> None:
    leave(tmp_path)
    single = find_single(tmp_path)
    assert single is not None
    assert confusions(single) == [("dog", "eel", 7, 0.7), ("<cat>", "dog", 2, 0.2)]
    svg = confusion_matrix(single, Theme([]))
    assert svg is not None
    assert sorted(map(int, re.findall(r">(\d+)</text>", svg))) == [0, 20, 30, 70, 80, 100, 100]  # the key has 0 and 100


@pytest.mark.parametrize("name", ["automobile", "a very long name " * 9])
def test_names_of_classes_are_within_the_picture(name: str, tmp_path: Path) -> None:
    leave(tmp_path, classes=[f"{i}{name}" for i in range(10)])
    single = find_single(tmp_path)
    assert single is not None
    svg = confusion_matrix(single, Theme([]))
    assert svg is not None
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg).groups())
    places = re.findall(r'<text[^>]*?(?:translate\(|x="?)([\d.-]+)[ ,"]+(?:y=")?([\d.-]+)', svg)
    assert len(places) > 20
    for x, y in places:
        assert 0 <= float(x) <= width
        assert 0 <= float(y) <= height
    assert ">prediction<" in svg


@pytest.mark.parametrize("changes", [{"confusions": []}, {"classes": [str(i) for i in range(41)]}])
def test_without_a_matrix(changes: dict[str, Any], single_summary: dict[str, Any], tmp_path: Path) -> None:
    """Detection has no confusions, and a matrix of many classes could not be read."""
    leave(tmp_path, **changes)
    page = page_of(single_summary, tmp_path)
    assert not any(label.startswith("Confusion matrix") for label in test_page.labels(page))
    assert ("<h2>Confusions" in page) == ("classes" in changes)


def test_a_model_without_attention_and_a_series_without_an_image(
    single_summary: dict[str, Any], tmp_path: Path
) -> None:
    leave(tmp_path)
    (tmp_path / "predictions" / "input.png").unlink()
    assert any(label.startswith("Spikes behind") for label in test_page.labels(page_of(single_summary, tmp_path)))
    record = json.loads((tmp_path / "predictions" / "examples.json").read_text())
    del record["checksum"]
    record["look"]["attention"] = {}
    (tmp_path / "predictions" / "examples.json").write_text(sealed(json.dumps(record)))
    assert not any(label.startswith("Spikes behind") for label in test_page.labels(page_of(single_summary, tmp_path)))


def test_runs_of_earlier_versions_have_a_page(single_summary: dict[str, Any], tmp_path: Path) -> None:
    assert find_single(tmp_path) is None
    assert "<h2>Examples" not in page_of(single_summary, tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    leave(tmp_path)
    path = tmp_path / "predictions" / "examples.json"
    path.write_text(path.read_text().replace("eel", "eal"))
    with pytest.raises(UserError, match=r"examples\.json is damaged: its checksum does not fit"):
        find_single(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"examples\.json is damaged"):
        find_single(tmp_path)


def test_heat_maps_have_a_row_for_each_layer_and_a_column_for_each_epoch() -> None:
    """Two layers over three epochs: the picture within the SVG has as many fields."""
    layers = {
        "a.neuron": {"group": "mlp", "rate": [0.0, 0.1, 0.2], "threshold_scale": [1, 2, 4], "dead_fraction": [1, 0, 0]},
        "b.neuron": {"group": "mlp", "rate": [0.4, 0.4, 0.4], "threshold_scale": None, "dead_fraction": [0, 0, 1]},
    }
    run = {"layers": layers, "epochs": [{"epoch": i} for i in (1, 2, 3)]}
    svg = layers_by_depth(run, Theme([]))
    assert svg is not None
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGBA"))
        for each in re.findall(r"base64,([^\"]+)\"", svg)
    ]
    fields = [each for each in pictures if each.shape[:2] == (2, 3)]
    assert len(fields) == 3
    rate, scale, dead = fields
    assert (rate[1] == rate[1, 0]).all()
    assert len({tuple(colour) for colour in rate[0]}) == 3
    assert (scale[1, :, 3] == 0).all()  # a layer that is not regulated is left blank
    assert np.ptp(scale[0, 0, :3].astype(int)) < 6  # a scale of 1 is neutral, neither blue nor red
    assert scale[0, 2, 0] > 1.5 * scale[0, 2, 2]  # 4 is red
    assert (dead[0, 1:] == dead[1, :2]).all()
    assert (dead[0, 0] == dead[1, 2]).all()
    for text in ("firing rate", "threshold scale", ">silent neurons<", "0.25", "0.4", ">a<", ">b<"):
        assert text in svg
    assert layers_by_depth({"layers": {}, "epochs": []}, Theme([])) is None


def test_runs_that_did_not_count_silent_neurons_have_no_map_of_them() -> None:
    run = {"layers": {"a": {"group": "mlp", "rate": [0.1], "threshold_scale": None}}, "epochs": [{"epoch": 1}]}
    svg = layers_by_depth(run, Theme([]))
    assert svg is not None
    assert "silent" not in svg.replace("silent neurons of every layer", "")
