"""`step-ahsar export` to timm, torch.export and ONNX: what was written gives the scores of the model."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from step_ahsar import engine
from step_ahsar.cli import app
from step_ahsar.config import load_config
from step_ahsar.engine.export import graphs
from step_ahsar.engine.export.card import _settings
from step_ahsar.engine.opening import open_trained
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron

pytestmark = pytest.mark.xdist_group("export graphs")  # they share a run

ROOT = Path(__file__).parents[2]
SMALL = [
    *("compare=null", "train.epochs=2", "data.batch_size=64", "train.lr=5e-3", "train.warmup_epochs=0"),
    *("model.time_steps=2", "model.args={depth: 1, dim: 32}"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs") / "run"
    engine.train(load_config("quickstart", [*SMALL, "model.neuron=ahsar"]), folder)
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> nn.Module:
    found = open_trained(Run.existing(run), "last", ()).model
    scales = {n.threshold_scale.item() for n in found.modules() if isinstance(n, SpikingNeuron)}  # type: ignore[union-attr]
    assert scales != {1.0}
    return found


@pytest.fixture(scope="module")
def images(run: Path) -> Tensor:
    """100 test images."""
    return torch.cat([inputs for inputs, _ in open_trained(Run.existing(run), "last", ()).data.test_batches()])[:100]


def export(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, arguments)], catch_exceptions=False)


@torch.no_grad()
def test_timm_loads_the_folder(run: Path, model: nn.Module, images: Tensor) -> None:
    done = export(run, "--to", "timm")
    assert done.exit_code == 0, done.output
    folder = run / "export" / "timm"
    assert done.stdout.strip() == str(folder)
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert torch.equal(loaded(images), model(images))
    assert model(images).std(0).min() > 1e-3
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3)  # for training on other classes
    assert other(images[:2]).shape == (2, 3)
    data = timm.data.resolve_model_data_config(loaded)
    assert data["input_size"] == (1, 12, 12)
    assert tuple(data["mean"]) == (0.3054,)
    assert json.loads((folder / "config.json").read_text())["label_names"] == [str(i) for i in range(10)]

    card = (folder / "README.md").read_text()
    result = json.loads((run / "result.json").read_text())
    assert f"| acc1 | {result['metrics']['acc1']:.4g} |" in card
    scales = [n.threshold_scale.item() for n in model.modules() if isinstance(n, SpikingNeuron) and n.group == "mlp"]  # type: ignore[union-attr]
    assert f"mlp {min(scales):.3g} to {max(scales):.3g}" in card
    for words in ("`digits`: 1,167 samples", "mean 0.3054 and std 0.376", "`ahsar` of backend `torch`", "depth: 1"):
        assert words in card
    settings = _settings(load_config("quickstart", [*SMALL, "data.name=images", "data.root=/home/somebody"]))
    assert "somebody" not in settings  # a path of this machine is nobody else's
    assert "name: images" in settings


@torch.no_grad()
@pytest.mark.parametrize("to", ["pt2", "onnx"])
def test_a_graph_gives_the_same_scores_for_any_batch(
    to: str, run: Path, model: nn.Module, images: Tensor, monkeypatch: Any
) -> None:
    monkeypatch.setattr("step_ahsar.cli.progress._LINE_EVERY", 0.0)
    done = export(run, "--to", to)
    assert done.exit_code == 0, done.output
    assert "\nexport 2/4, following the model: 25%; left " in done.stderr
    file = run / "export" / f"model.{to}"
    about: dict[str, str]
    if to == "onnx":
        session = onnxruntime.InferenceSession(str(file))
        about = session.get_modelmeta().custom_metadata_map

        def score(x: Tensor) -> Tensor:
            return torch.from_numpy(session.run(["scores"], {"input": np.asarray(x)})[0])
    else:
        extra = {graphs.ABOUT: ""}
        score = torch.export.load(file, extra_files=extra).module()
        about = json.loads(extra[graphs.ABOUT])
    for samples in (images[:1], images[:7], images):  # a spike that moved would be seen in the third digit
        torch.testing.assert_close(score(samples), model(samples), rtol=0, atol=2e-6)
    content = (
        b"".join(zipfile.ZipFile(file).read(name) for name in zipfile.ZipFile(file).namelist())
        if to == "pt2"
        else file.read_bytes()
    )
    assert str(ROOT).encode() not in content  # no path of this machine, and no data:
    assert images[0].numpy().tobytes() not in content
    assert about["model"] == "spikformer_2_64"
    assert json.loads(about["input"]) == ["batch", 1, 12, 12]
    assert json.loads(about["mean"]) == [0.3054]
    assert json.loads(about["classes"]) == [str(i) for i in range(10)]


def test_where_a_model_began_is_no_part_of_what_it_is(run: Path, tmp_path: Path) -> None:
    """A model that was trained on from a file of weights."""
    weights = tmp_path / "weights.safetensors"
    engine.export(run, "torch", weights)
    source = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(weights)}}
    args = {"depth": 1, "dim": 32, **source}
    engine.train(
        load_config("quickstart", [*SMALL, "train.epochs=1", f"model.args={json.dumps(args)}"]), tmp_path / "on"
    )
    folder = engine.export(tmp_path / "on", "timm")
    assert timm.create_model(f"local-dir:{folder}", pretrained=True).num_classes == 10
    for file in ("config.json", "README.md"):
        assert str(tmp_path) not in (folder / file).read_text()


def test_a_graph_that_computes_something_else_is_not_kept(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    write = graphs._WRITERS["pt2"]

    def wrong(program: Any, path: Path, about: Any) -> Any:
        found = write(program, path, about)
        return lambda x: -found(x)

    monkeypatch.setitem(graphs._WRITERS, "pt2", wrong)
    with pytest.raises(UserError, match=r"the pt2 graph does not compute what the model does: .* differ by 200%"):
        engine.export(run, "pt2", tmp_path / "graph.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(UserError, match=r"unknown target of an export: 'onxx'; did you mean 'onnx'\?"):
        engine.export(run, "onxx")
    (tmp_path / "there").mkdir()
    for to in ("timm", "onnx"):
        with pytest.raises(UserError, match=r"there exists; remove it or give another path"):
            engine.export(run, to, tmp_path / "there")
    for to in ("timm", "torch"):
        with pytest.raises(UserError, match=r"'model\.tau' cannot be changed in an export; these can: data\.root"):
            engine.export(run, to, tmp_path / "new", overrides=["model.tau=3"])
    monkeypatch.setattr(graphs, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx and onnxscript: pip install 'step-ahsar\[onnx\]'"):
        engine.export(run, "onnx", tmp_path / "new")
    dense = tmp_path / "dense"
    dense.mkdir()
    (dense / "config.yaml").write_text("task: detection\ndata: {name: digits_scenes}\n")
    with pytest.raises(UserError, match="is a run of detection, whose boxes are decoded outside of the model"):
        engine.export(dense, "pt2")
    with pytest.raises(UserError, match="is a run of detection; timm's models classify"):
        engine.export(dense, "timm")


def test_a_layer_that_cannot_be_followed_is_told() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    with pytest.raises(UserError, match=r"torch\.export cannot follow Reads: "):
        graphs.graph_of(Reads(), torch.ones(2, 3), 0)


def test_scales_that_cannot_be_folded_stay() -> None:
    model = timm.create_model("spikformer_2_64", neuron="ahsar", base="qif", depth=1, dim=32, img_size=12, in_chans=1)
    assert graphs.inference_model(model) is model
    plain = timm.create_model("spikformer_2_64", neuron="ahsar", depth=1, dim=32, img_size=12, in_chans=1)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in graphs.inference_model(plain).modules())
