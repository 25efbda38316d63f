"""The commands of the page that train a cell again: they must give the config of the cell's runs."""

import shlex

import pytest

from step_ahsar.compare import collect, compare
from step_ahsar.config import load_config
from step_ahsar.engine import Run
from step_ahsar.report import render, text

SMALL = [
    *("train.epochs=1", "data.train_limit=128", "data.test_limit=64", "data.img_size=4", "model.time_steps=1"),
    *("compare.target=null", "compare.seeds=[3, 1]"),
]


@pytest.mark.parametrize(
    "plan",
    [
        ["compare.cells=[{id: one, model.neuron: ahsar}]"],
        ["compare.cells=[{id: a}, {id: b, model.neuron: ahsar, model.args: {depth: 1}}]"],
        ["compare.cells=[]", "compare.grid={model.neuron: [plif], model.threshold: [0.5, 2], model.tau: [null, 3.0]}"],
    ],
)
def test_a_command_gives_the_config_of_the_cell(plan, tmp_path, monkeypatch):
    out = tmp_path / "out"
    summary = compare(load_config("quickstart", [*SMALL, *plan]), out)
    page, config = render(summary), summary["manifest"]["config"]
    monkeypatch.chdir(out)
    for cell in summary["cells"]:
        line = text.command(cell, config)
        assert line.replace("&", "&amp;").replace("'", "&#39;").replace('"', "&#34;") in page
        program, verb, file, *overrides, option, folder = shlex.split(line)
        assert (program, verb, option, folder) == ("step-ahsar", "train", "--out", f"again/{cell['id']}")
        assert load_config(file, overrides).single() == Run.existing(out / "runs" / cell["id"] / "3").config


def test_the_command_of_a_run(tmp_path, monkeypatch):
    out = tmp_path / "out"
    compare(load_config("quickstart", [*SMALL, "compare.cells=[{id: one, model.neuron: ahsar}]"]), out)
    summary = collect(out / "runs/one/3")
    line = text.command(summary["cells"][0], summary["manifest"]["config"])
    assert line.startswith("step-ahsar train config.yaml --out again/")
