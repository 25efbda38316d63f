"""The node class for STEP's trainer, in a stand-in for STEP."""

import copy
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from step_ahsar.ahsar import AHSARConfig, controller_of, fold, is_regulated, regulate
from step_ahsar.errors import UserError
from step_ahsar.integrations.step import AHSARNode
from step_ahsar.neurons import create_neuron, list_surrogates

pytest.importorskip("braincog")
step = runpy.run_path(str(Path(__file__).parents[2] / "standins" / "step.py"))

CONTRACT: dict[str, Any] = {"step": 4, "tau": 2.0, "threshold": 1.0, "layer_by_layer": True, "mem_detach": False}


def pair(**options: Any) -> tuple[AHSARNode, nn.Module]:
    """Our node and BrainCog's, made by the same keywords but for the surrogate's."""
    options = {**CONTRACT, **options}
    theirs = step["LIFNode"](**options)
    if "act_func" in options:
        theirs.act_fun = options["act_func"]
    return AHSARNode(**options), theirs


def run(node: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = node(x)
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


# -- the contract ------------------------------------------------------------------------------------------------------

ACTS = {
    "sigmoid": lambda: step["SigmoidGrad"](alpha=4.0),
    "sigmoid, steep": lambda: step["SigmoidGrad"](alpha=9.0),
    "atan": lambda: step["AtanGrad"](alpha=2.0, requires_grad=False),
    "quadratic gate": lambda: step["QGateGrad"](alpha=2.0),
    "gate, not fused": lambda: step["GateGrad"](alpha=2.0),
    "atan, learnt alpha": lambda: step["AtanGrad"](alpha=2.0),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("shape", [(12, 5), (12, 7, 5), (12, 5, 4, 4)])
def test_it_is_braincogs_lif(act: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(act_func=ACTS[act](), threshold=0.7, tau=1.7)
    x = 2 * torch.randn(shape)
    (spikes, grad), (expected, expected_grad) = run(ours, x), run(theirs, x)
    assert torch.equal(spikes, expected)
    assert 0 < spikes.mean() < 1
    torch.testing.assert_close(grad, expected_grad, rtol=1e-6, atol=1e-6)


def test_a_learnt_alpha_is_learnt() -> None:
    node = AHSARNode(act_func=step["AtanGrad"](alpha=2.0), **CONTRACT)
    assert [name for name, _ in node.named_parameters()] == ["act_fun.alpha"]
    run(node, torch.randn(8, 3))
    assert node.act_fun.alpha.grad.abs() > 0  # type: ignore[union-attr]
    assert not list(AHSARNode(**CONTRACT).parameters())


@pytest.mark.parametrize("name", list_surrogates())
def test_surrogates_by_name(name: str) -> None:
    x = torch.randn(4, 3, 5)
    ours = run(AHSARNode(act_fun=name, alpha=1.5, **CONTRACT), x.flatten(0, 1))[1].view_as(x)
    torch.testing.assert_close(ours, run(create_neuron("lif", surrogate=name, alpha=1.5), x)[1])
    by_class = AHSARNode(act_fun=step["SigmoidGrad"], alpha=3.0)
    assert (by_class.surrogate, by_class.alpha, by_class.act_fun) == ("sigmoid", 3.0, None)


def test_detached_membranes() -> None:
    torch.manual_seed(0)
    ours, theirs = pair(mem_detach=True, act_func=step["SigmoidGrad"](alpha=4.0))
    x = 2 * torch.randn(12, 5)
    (spikes, grad), (expected, expected_grad) = run(ours, x), run(theirs, x)
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(grad, run(pair()[0], x)[1])


@pytest.mark.parametrize("mem_detach", [False, True])
def test_step_by_step(mem_detach: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = pair(layer_by_layer=False, mem_detach=mem_detach, act_func=step["SigmoidGrad"](alpha=4.0))
    x = 2 * torch.randn(5, 3, 6)
    for _ in range(2):  # n_reset between inputs
        grads = []
        for node in (ours, theirs):
            leaf = x.clone().requires_grad_()
            node.n_reset()  # type: ignore[operator]
            out = torch.stack([node(now) for now in leaf])
            (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
            grads.append((out.detach(), leaf.grad))
        assert torch.equal(grads[0][0], grads[1][0])
        torch.testing.assert_close(grads[0][1], grads[1][1], rtol=1e-6, atol=1e-6)
    with pytest.raises(
        UserError, match=r"holds the membranes of an input \[3, 6\] and got one of \[2, 6\]; call n_res"
    ):
        ours(x[0, :2])


def test_layer_by_layer_nothing_is_kept() -> None:
    node = AHSARNode(**CONTRACT)
    x = torch.randn(8, 3)
    assert torch.equal(node(x), node(x))
    node(torch.randn(4, 3))


def test_feature_map() -> None:
    node = AHSARNode(requires_fp=True, **CONTRACT)
    out = node(torch.randn(8, 3))
    assert torch.equal(torch.cat(node.feature_map), out)
    node.n_reset()
    assert node.feature_map == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold must be > 0, got 0.0"),
        ({"tau": 1.0}, "tau must be > 1, got 1.0"),
        ({"step": 0}, "needs step, an integer >= 1, got 0"),
        ({"act_func": "SigmoidGard"}, "unknown act_func 'SigmoidGard'; did you mean 'SigmoidGrad'"),
        ({"act_func": "atan", "act_fun": "atan"}, "two names of one option"),
        ({"act_func": 3}, "must be a surrogate or the name of one, got 3"),
        ({"act_func": nn.ReLU(), "alpha": 2.0}, "the given ReLU has an alpha of its own"),
        ({"v_reset": 0.1}, "has v_reset=0.0 only, got 0.1"),
        ({"n_groups": 2}, "has n_groups=1 only, got 2"),
        ({"layer_by_layers": True}, "unknown option of AHSARNode: 'layer_by_layers'; did you mean 'layer_by_layer'"),
    ],
)
def test_options_are_honoured_or_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AHSARNode(**{**CONTRACT, **options})


def test_options_in_brain_cogs_default_values() -> None:
    AHSARNode(**CONTRACT, input_dims=384, v_reset=0.0, dt=1.0, n_groups=1, sigmoid_thres=False)


def test_a_batch_that_is_no_multiple_of_t() -> None:
    with pytest.raises(UserError, match=r"runs 4 time steps, so it takes \[4 \* B, ...\], got \[6, 3\]"):
        AHSARNode(**CONTRACT)(torch.randn(6, 3))


def test_braincog_need_not_be_installed() -> None:
    code = (
        "import sys, torch\nfrom step_ahsar.integrations.step import AHSARNode\nAHSARNode(step=2)(torch.randn(4, 3))\n"
        "print(*{'braincog', 'spikingjelly'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


# -- in STEP -----------------------------------------------------------------------------------------------------------

SMALL = {"embed_dim": 32, "num_classes": 3}


def images(n: int = 6, size: int = 16) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def batches(n: int = 2) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    draw = lambda: (torch.randn(6, 3, 16, 16, generator=generator), torch.randint(3, (6,), generator=generator))  # noqa: E731
    return [draw() for _ in range(n)]


def build(name: str = "Spikformer", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = step[name](**{**SMALL, "node": AHSARNode, **options})
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.constant_(module.bias, 0.5)
            nn.init.constant_(module.running_var, 0.1)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("name", ["Spikformer", "QKFormer"])
def test_the_loop_drives_the_controller(name: str) -> None:
    model = build(name, threshold=2.0)
    with pytest.raises(UserError, match="creates its own at its first forward pass in training"):
        controller_of(model)
    nodes = {path: node for path, node in model.named_modules() if isinstance(node, AHSARNode)}
    step["train"](model, batches(), epochs=3)
    controller = controller_of(model)
    layers = controller.layers()
    assert layers.keys() == nodes.keys()
    assert {layer["group"] for layer in layers.values()} == {"stem", "attention", "mlp"}
    assert all(0 <= layer["rate"] <= 1 for layer in layers.values())
    moved = [path for path, layer in layers.items() if layer["threshold_scale"] < 0.9]
    assert len(moved) > 0.8 * len(layers)  # thresholds of 2 are too high, and were calibrated
    assert all(node.threshold_scale.item() == layers[path]["threshold_scale"] for path, node in nodes.items())  # type: ignore[union-attr]
    assert controller._epochs == 2  # the third has not ended
    assert [n for n, _ in model.named_parameters()] == [
        n for n, _ in build(name, node=step["LIFNode"]).named_parameters() if "lif" not in n
    ]
    controller.release()


def test_the_attentions_threshold_and_the_surrogate_arrive() -> None:
    model = build(threshold=0.8, tau=1.5, act_func=step["AtanGrad"], alpha=3.0)
    nodes = {path: node for path, node in model.named_modules() if isinstance(node, AHSARNode)}
    for path, node in nodes.items():
        assert node.threshold == (0.5 if "attn_lif" in path else 0.8)
        assert node.tau == 1.5
        assert node.act_fun.alpha == 3.0  # type: ignore[union-attr]


@pytest.mark.parametrize("steps", [1, 2, 6])
@torch.no_grad()
def test_time_steps_reach_every_node(steps: int) -> None:
    """The stand-in, as STEP, tells only some layers of T: then one image's logits depend on the others."""
    model = build(step=steps, threshold=0.4).eval()
    x = images()
    with pytest.warns(UserWarning, match=rf"created with step=4; it runs the {steps} time steps of its model"):
        logits = model(x)
    assert {node.step for node in model.modules() if isinstance(node, AHSARNode)} == {steps}
    for others in (model(x[:1]), model(x.flip(0)).flip(0)):
        torch.testing.assert_close(others, logits[: len(others)], rtol=0, atol=1e-6)
    assert logits.std(0).min() > 0


@torch.no_grad()
def test_what_the_platforms_own_node_does_instead() -> None:
    model = build(node=step["LIFNode"], step=2).eval()
    x = images()
    assert (model(x[:2]) - model(x)[:2]).abs().max() > 1e-2


def test_models_of_the_platforms_own_nodes() -> None:
    for name in ("Spikformer", "QKFormer"):
        model = build(name, node=step["LIFNode"])
        controller = regulate(model, auto=True)
        step["train"](model, batches())
        assert set(controller.groups) == {"stem", "attention", "mlp"}
        assert any(layer["rate"] > 0 for layer in controller.layers().values())
        controller.release()


@torch.no_grad()
def test_same_logits_as_with_the_platforms_node() -> None:
    for name in ("Spikformer", "QKFormer"):
        ours, theirs = build(name).eval(), build(name, node=step["LIFNode"]).eval()
        ours.load_state_dict(theirs.state_dict(), strict=False)
        logits = ours(images())
        assert torch.equal(logits, theirs(images()))
        assert logits.std(0).min() > 0


def test_explicit_regulation_comes_first() -> None:
    model = build()
    controller = regulate(model, config=AHSARConfig(band=(0.1, 0.15)), auto=True)
    step["train"](model, batches(1))
    assert any(layer["rate"] > 0 for layer in controller.layers().values())
    assert controller_of(model) is controller
    controller.release()


def test_copies_made_before_the_first_call() -> None:
    model = build(step=2)
    averaged = ModelEmaV3(model, decay=0.5)
    assert averaged.module.state_dict().keys() == model.state_dict().keys()
    with pytest.warns(UserWarning, match="runs the 2 time steps of its model"):
        step["train"](model, batches(1))
    averaged.update(model)
    with torch.no_grad(), pytest.warns(UserWarning, match="runs the 2 time steps of its model"):
        logits = averaged.module(images())
    with torch.no_grad():
        torch.testing.assert_close(averaged.module(images()[:1]), logits[:1], rtol=0, atol=1e-6)
    scales = {node.threshold_scale.item() for node in averaged.module.modules() if isinstance(node, AHSARNode)}
    assert scales != {1.0}
    with pytest.raises(UserError, match="no controller"):
        controller_of(averaged.module)
    twin = copy.deepcopy(model)
    assert all(n.step == 2 for n in twin.modules() if isinstance(n, AHSARNode))


def test_a_resumed_run_goes_on_from_its_thresholds() -> None:
    model = build(threshold=2.0)
    step["train"](model, batches())
    resumed = build(threshold=2.0)
    resumed.load_state_dict(model.state_dict())
    resumed.train()(images())
    before, after = (controller_of(m).layers() for m in (model, resumed))
    for path, layer in before.items():
        assert after[path]["threshold_scale"] == pytest.approx(layer["threshold_scale"])


def test_a_model_in_training_is_saved(tmp_path: Path) -> None:
    """Fault: torch.save failed once the model had put itself under a controller."""
    model = nn.Sequential(nn.Linear(3, 3), AHSARNode(**CONTRACT))
    model(torch.randn(8, 3)).sum().backward()
    assert controller_of(model).self_made
    torch.save(model, tmp_path / "model")
    loaded = torch.load(tmp_path / "model", weights_only=False)
    assert controller_of(loaded).model is loaded
    for each in (model, loaded):
        controller_of(each).release()


def test_a_trained_model_is_folded() -> None:
    """Fault: AHSARNode could not be folded."""
    model = build(threshold=2.0)
    step["train"](model, batches())
    folded = fold(model).eval()
    assert not is_regulated(folded)
    nodes = [node for node in folded.modules() if isinstance(node, AHSARNode)]
    assert len({node.threshold for node in nodes}) > 1
    assert not any("threshold_scale" in key for key in folded.state_dict())
    with torch.no_grad():
        assert torch.equal(folded(images()), model.eval()(images()))


def test_models_of_brain_cog_answer_for_these_nodes(in_new_process) -> None:
    """Fault: get_threshold, get_fp and get_fire_rate gave nothing, as they ask for instances of BrainCog's BaseNode."""
    in_new_process("""
import importlib, sys, types
from importlib.util import find_spec
from pathlib import Path

# BrainCog's own packages drag in much that is not installed; its BaseModule needs these folders alone.
root = Path(find_spec("braincog").submodule_search_locations[0])
for name in ("", ".model_zoo", ".base", ".base.node", ".base.strategy", ".base.encoder", ".base.utils"):
    package = sys.modules["braincog" + name] = types.ModuleType("braincog" + name)
    package.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
BaseModule = importlib.import_module("braincog.model_zoo.base_module").BaseModule

import torch
from torch import nn
from step_ahsar.integrations.step import AHSARNode

class Net(BaseModule):
    def __init__(self):
        super().__init__(4, "direct", layer_by_layer=True)
        self.fc, self.node = nn.Linear(6, 6), AHSARNode(step=4, threshold=0.5, requires_fp=True)

    def forward(self, x):
        self.reset()
        return self.node(self.fc(x.repeat(4, 1)))

model = Net()
spikes = model(4 * torch.ones(3, 6)).unflatten(0, (4, 3))
(threshold,), (pattern,) = model.get_threshold(), model.get_fp()
assert threshold == 0.5
assert torch.equal(pattern, spikes.mean(0))
assert model.get_fire_rate().item() == (spikes.mean(0) > 0).float().mean().item()
model.set_attr("tau", 3.0)
assert model.node.tau == 3.0
""")
