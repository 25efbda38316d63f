"""`step-ahsar export`, from a run to another library's model."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn
from typer.testing import CliRunner

from step_ahsar import engine
from step_ahsar.cli import app
from step_ahsar.config import load_config
from step_ahsar.data import open_data
from step_ahsar.engine import checkpoint
from step_ahsar.engine.build import build_model
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.tasks import create_task

pytestmark = pytest.mark.xdist_group("export")  # they share runs

sj_spikformer = pytest.importorskip("spikingjelly.activation_based.model.spikformer")
pytest.importorskip("braincog")
ROOT = Path(__file__).parents[2]
step = runpy.run_path(str(ROOT / "tests" / "standins" / "step.py"))
recipe = re.search(r"```python\n(def load.*?)```", (ROOT / "docs" / "export.md").read_text(encoding="utf-8"), re.DOTALL)
assert recipe
names: dict[str, Any] = {}
exec(recipe[1], names)
load = names["load"]

SMALL = [
    *("train.epochs=1", "data.batch_size=64", "train.lr=5e-3", "train.warmup_epochs=0"),
    *("model.time_steps=2", "model.threshold=0.5", "model.neuron=ahsar"),
]


@pytest.fixture(scope="module", params=[True, False], ids=["pool first", "pool last"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, bool]:
    """A run's folder, its model in eval mode, and whether it pools before the neuron."""
    folder = tmp_path_factory.mktemp("run") / "run"
    config = load_config("quickstart", ["compare=null", f"model.args={{pool_first: {request.param}}}", *SMALL])
    engine.train(config, folder)
    model = build_model(config.model, create_task(config, list("0123456789")), 1, [16])
    place = checkpoint.find(folder / "checkpoints", "last")
    saved = checkpoint.load(place, torch.device("cpu"), averaged=False)
    model.load_state_dict(saved.model if saved.ema is None else saved.ema)
    assert {n.threshold_scale.item() for n in model.modules() if isinstance(n, SpikingNeuron)} != {1.0}  # type: ignore[union-attr]
    return folder, model.eval(), request.param


def call(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@torch.no_grad()
def test_a_run_goes_elsewhere(run: tuple[Path, nn.Module, bool], tmp_path: Path) -> None:
    folder, model, pool_first = run
    library = "spikingjelly" if pool_first else "braincog"
    there: nn.Module = (
        sj_spikformer.Spikformer(
            T=2, in_channels=1, img_size_h=16, img_size_w=16, patch_size=4, num_classes=10, embed_dims=64, num_heads=2,
            depths=2,
        )
        if pool_first
        else step["Spikformer"](step=2, in_channels=1)
    )  # fmt: skip
    for module in there.modules():
        if isinstance(module, step["LIFNode"]):
            module.step = 2  # which STEP's own model would not tell all of its layers
    done = call("export", folder, "--to", library)
    assert done.exit_code == 0, done.output
    file = folder / "export" / f"{library}.safetensors"
    assert done.stdout.strip() == str(file)
    x = next(iter(open_data(load_config(folder / "config.yaml")).test_batches()))[0][:32]
    logits = load(there, file).eval()(x)
    expected = model(x)
    assert (logits.mean(0) if pool_first else logits).sub(expected).abs().max() < 1e-6
    assert expected.std(0).min() > 1e-2
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert (metadata["layout"], metadata["neuron"], metadata["time_steps"]) == (library, "lif", "2")
    kinds = {path.rpartition(".")[2] for path in json.loads(metadata["attributes"])}
    assert kinds == ({"v_threshold", "v_reset", "tau"} if pool_first else {"tau"})

    assert call("export", folder, "--to", "torch", "--out", tmp_path / "a" / "ours.safetensors").exit_code == 0
    config = load_config(folder / "config.yaml").with_values({"model.neuron": "lif", "model.base": None})
    plain = build_model(config.model, create_task(config, list("0123456789")), 1, [16])
    assert torch.equal(load(plain, tmp_path / "a" / "ours.safetensors").eval()(x), expected)

    refused = call("export", folder, "--to", library)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "exists; remove it or give another path" in refused.stderr
    other = "braincog" if pool_first else "spikingjelly"
    refused = call("export", folder, "--to", other)
    assert refused.exit_code == 2
    assert f"build with pool_first={not pool_first}" in refused.stderr
    assert not (folder / "export" / f"{other}.safetensors").exists()


def test_a_checkpoint_without_a_weight_is_named(tmp_path: Path) -> None:
    """Fault: a traceback."""
    run = engine.Run.open(tmp_path, load_config("quickstart", ["compare=null", *SMALL]), resume=False)
    run.begin({})
    checkpoint.save(run.checkpoints, checkpoint.Checkpoint(1, 1, {"x": torch.zeros(1)}, None, {}))
    refused = call("export", tmp_path, "--to", "torch")
    assert refused.exit_code == 2
    assert "epoch-0001 does not fit the model of the run's config: it has no 'head.weight'" in refused.stderr


def test_bad_input(tmp_path: Path) -> None:
    engine.Run.open(tmp_path / "begun", load_config("quickstart", ["compare=null"]), resume=False).begin({})
    for arguments, message in (
        ((tmp_path, "--to", "torch"), "holds no run"),
        (
            (tmp_path, "--to", "norse"),
            "unknown target of an export: 'norse'; known: braincog, onnx, pt2, spikingjelly, timm, torch",
        ),
        (
            (tmp_path / "begun", "--to", "torch", "--checkpoint", "first"),
            "which checkpoint: 'last' or 'best', got 'first'",
        ),
    ):
        refused = call("export", *arguments)
        assert refused.exit_code == 2
        assert message in refused.stderr
        assert "Traceback" not in refused.stderr
