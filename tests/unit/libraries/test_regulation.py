"""Neurons of SpikingJelly, BrainCog and snnTorch, regulated where they stand."""

import copy
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from step_ahsar.ahsar import AHSARConfig, controller_of, fold, is_regulated, regulate
from step_ahsar.ahsar.config import FIRST_LAW
from step_ahsar.errors import UserError
from step_ahsar.libraries.braincog.adapter import load_nodes
from step_ahsar.libraries.regulation import find_layer
from step_ahsar.neurons import create_neuron

sj = pytest.importorskip("spikingjelly.activation_based.neuron")
snntorch = pytest.importorskip("snntorch")
pytest.importorskip("braincog")

from spikingjelly.activation_based import functional, surrogate  # noqa: E402
from spikingjelly.activation_based.model import (  # noqa: E402
    maxformer,
    qkformer,
    spike_driven_transformer,
    spikformer,
)

bc = load_nodes()
clock_driven = runpy.run_path(str(Path(__file__).parents[2] / "standins" / "clock_driven.py"))

# -- one node: a scale is the same as a scaled threshold ---------------------------------------------------------------

STEPPED = {"step_mode": "s"}
MULTI = {"step_mode": "m"}
THRESHOLD = "v_threshold"
KINDS: dict[str, tuple[Callable[..., nn.Module], str]] = {
    "sj if": (lambda: sj.IFNode(**MULTI), THRESHOLD),
    "sj if, stepped": (lambda: sj.IFNode(**STEPPED), THRESHOLD),
    "sj lif": (lambda: sj.LIFNode(**MULTI), THRESHOLD),
    "sj lif, stepped, atan": (lambda: sj.LIFNode(surrogate_function=surrogate.ATan(), **STEPPED), THRESHOLD),
    "sj lif, soft, detached": (lambda: sj.LIFNode(v_reset=None, detach_reset=True, **MULTI), THRESHOLD),
    "sj lif, reset above 0": (lambda: sj.LIFNode(v_reset=0.1, decay_input=False, **MULTI), THRESHOLD),
    "sj lif, rectangle": (lambda: sj.LIFNode(surrogate_function=surrogate.Rect(), **MULTI), THRESHOLD),
    "sj lif, kept voltages": (lambda: sj.LIFNode(store_v_seq=True, **MULTI), THRESHOLD),
    "sj simple lif": (lambda: sj.SimpleLIFNode(2.0, True, **MULTI), THRESHOLD),
    "sj plif": (lambda: sj.ParametricLIFNode(**MULTI), THRESHOLD),
    "sj klif": (lambda: sj.KLIFNode(**MULTI), THRESHOLD),
    "sj clif": (lambda: sj.ComplementaryLIFNode(**MULTI), THRESHOLD),
    "sj cubalif": (lambda: sj.CUBALIFNode(), THRESHOLD),
    "sj qif": (lambda: sj.QIFNode(**MULTI), THRESHOLD),
    "sj eif": (lambda: sj.EIFNode(**MULTI), THRESHOLD),
    "sj izhikevich": (lambda: sj.IzhikevichNode(**MULTI), THRESHOLD),
    "sj resonate": (lambda: sj.RAFNode(**MULTI), THRESHOLD),
    "sj ternary": (lambda: sj.TernaryLIFNode(**MULTI), THRESHOLD),
    "sj per channel": (lambda: sj.ActivationAwareIFNode(torch.linspace(0.5, 2, 6), channel_dim=1, **MULTI), THRESHOLD),
    "sj slttlif": (lambda: sj.SLTTLIFNode(), THRESHOLD),
    "sj otttlif": (lambda: sj.OTTTLIFNode(), THRESHOLD),
    "sj ilif": (lambda: sj.ILIFNode(**MULTI), THRESHOLD),
    "sj ilif, stepped": (lambda: sj.ILIFNode(**STEPPED), THRESHOLD),
    "sj psn": (lambda: sj.PSN(T=4), "bias"),
    "sj masked psn": (lambda: sj.MaskedPSN(k=2, T=4, **MULTI), "bias"),
    "sj sliding psn": (lambda: sj.SlidingPSN(k=2, **MULTI), "bias"),
    "bc if": (lambda: bc.IFNode(threshold=0.5), "threshold"),
    "bc lif": (lambda: bc.LIFNode(threshold=0.5), "threshold"),
    "bc lif, learnt threshold": (lambda: bc.LIFNode(threshold=0.5, requires_thres_grad=True), "threshold"),
    "bc lif, layer by layer": (lambda: bc.LIFNode(threshold=0.5, step=4, layer_by_layer=True), "threshold"),
    "bc plif": (lambda: bc.PLIFNode(threshold=0.5), "threshold"),
    "bc bursts": (lambda: bc.BurstLIFNode(threshold=0.5), "threshold"),
    "snn leaky": (lambda: snntorch.Leaky(0.8, init_hidden=True), "threshold"),
    "snn leaky, to zero": (lambda: snntorch.Leaky(0.8, init_hidden=True, reset_mechanism="zero"), "threshold"),
    "snn leaky, learnt threshold": (lambda: snntorch.Leaky(0.8, init_hidden=True, learn_threshold=True), "threshold"),
    "snn leaky, graded": (lambda: snntorch.Leaky(0.8, init_hidden=True, graded_spikes_factor=3.0), "threshold"),
    "snn synaptic": (lambda: snntorch.Synaptic(0.9, 0.8, init_hidden=True), "threshold"),
    "snn alpha": (lambda: snntorch.Alpha(0.9, 0.8, init_hidden=True), "threshold"),
    "snn lapicque": (lambda: snntorch.Lapicque(0.8, threshold=0.2, init_hidden=True), "threshold"),
    "snn rleaky": (
        lambda: snntorch.RLeaky(0.8, init_hidden=True, all_to_all=True, linear_features=6),
        "threshold",
    ),
    "snn parallel": (lambda: snntorch.LeakyParallel(6, 6, beta=0.5), "threshold"),
}


def run(node: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Spikes over ``x: [T, B, C]``, and gradients of x and of the node's parameters."""
    x = x.clone().requires_grad_()
    every = isinstance(node, (sj.PSN, snntorch.LeakyParallel)) or getattr(node, "step_mode", "s") == "m"
    if getattr(node, "layer_by_layer", False):
        out = node(x.flatten(0, 1)).view_as(x)
    elif every:
        out = node(x)
    else:
        steps = [node(step) for step in x]
        out = torch.stack([step[0] if isinstance(step, (tuple, list)) else step for step in steps])
    (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    assert x.grad is not None
    return out.detach(), {"x": x.grad, **{name: p.grad for name, p in node.named_parameters() if p.grad is not None}}


def scaled_by_hand(node: nn.Module, attribute: str, scale: float) -> None:
    own = getattr(node, attribute)
    if isinstance(own, Tensor):
        with torch.no_grad():
            own.mul_(scale)
    else:
        setattr(node, attribute, (own * torch.tensor(scale)).item())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [0.37, 1.9])
def test_a_scale_is_a_scaled_threshold(kind: str, scale: float) -> None:
    make, attribute = KINDS[kind]
    torch.manual_seed(0)
    regulated, by_hand = make(), make()
    by_hand.load_state_dict(regulated.state_dict())
    scaled_by_hand(by_hand, attribute, scale)
    x = 2 * torch.randn(4, 40, 6)
    layer = find_layer(regulated)
    assert layer is not None
    layer.start_regulation()
    assert layer.threshold_scale is not None
    layer.threshold_scale.fill_(scale)
    (spikes, grads), (expected, expected_grads) = run(regulated, x), run(by_hand, x)
    assert torch.equal(spikes, expected)
    assert 0 < spikes.count_nonzero() < spikes.numel()
    if attribute in grads:  # the gradient of the threshold that is stored, which the scale multiplies
        grads[attribute] /= scale
    torch.testing.assert_close(grads, expected_grads, rtol=1e-6, atol=1e-6)
    assert layer.observed is not None
    count = spikes.sum() / layer.max_spikes if layer.max_spikes > 1 else spikes.count_nonzero()
    assert layer.observed.tolist() == [count, spikes.numel()]


def test_gated_lif_scales_after_its_sigmoids() -> None:
    torch.manual_seed(0)
    node = sj.GatedLIFNode(T=4, inplane=6)
    by_hand = copy.deepcopy(node)
    for name in ("v_threshold", "linear_decay", "v_subreset"):
        own = getattr(by_hand, name)
        own.data = (0.8 * own.detach().sigmoid()).logit()
    layer = find_layer(node)
    assert layer is not None
    layer.start_regulation()
    layer.threshold_scale.fill_(0.8)  # type: ignore[union-attr]
    x = 2 * torch.randn(4, 10, 6, 2, 2)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    spikes, expected = node(ours), by_hand(theirs)
    assert torch.equal(spikes, expected)
    for out in (spikes, expected):
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(node.conduct.grad, by_hand.conduct.grad, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="GatedLIFNode has no attribute for its threshold"):
        layer.absorb_scale()


@pytest.mark.parametrize("learnt", [True, False])
def test_an_absorbed_threshold_is_learnt_if_it_was_before(learnt: bool) -> None:
    node = snntorch.Leaky(0.9, threshold=torch.tensor(0.8), learn_threshold=True)
    node.threshold.requires_grad_(learnt)
    layer = find_layer(node)
    assert layer is not None
    layer.start_regulation()
    layer.threshold_scale.fill_(0.5)
    layer.absorb_scale()
    assert isinstance(node.threshold, nn.Parameter)
    assert (node.threshold.item(), node.threshold.requires_grad) == (pytest.approx(0.4), learnt)


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "membranes, not spikes": lambda: sj.LIAFNode(torch.relu, True),
    "part of a norm": lambda: sj.MPBNLIFNode(out_features=3),
    "the height of its threshold": lambda: sj.DSRLIFNode(),
    "step of a quantiser": lambda: sj.STBIFNode(1.0, level=4),
    "its equation is not known": lambda: sj.FlexSN(lambda x, v: (x, v), num_states=1),
    "it is not a spiking neuron": lambda: bc.ReLUNode(),
    "sigmoid of the one that it stores": lambda: bc.IFNode(sigmoid_thres=True),
    "spikes and rates in one tensor": lambda: bc.OnlineLIFNode(),
    "a readout": lambda: snntorch.AssociativeLeaky(4, 2, 2, 4),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_regulated_is_named_and_nothing_is_left_behind(reason: str) -> None:
    node = REFUSED[reason]()
    model = nn.Sequential(sj.LIFNode(), node)
    before = inside(model)
    with pytest.raises(UserError, match=f"layer '1': {type(node).__name__} cannot be regulated: .*{reason}.*; leave"):
        regulate(model)
    assert inside(model) == before
    assert list(regulate(model, groups={"all": "0"}).layers()) == ["0"]


def test_nodes_on_the_cupy_backend_run_on_torch_while_they_are_regulated() -> None:
    """Fault: they were refused. Their CUDA kernels take a threshold that is a number."""
    node = clock_driven["BaseNode"](backend="cupy")
    controller = regulate(nn.Sequential(node))
    node.threshold_scale.fill_(0.5)
    assert node(torch.tensor([[0.5], [0.5]])).tolist() == [[1.0], [1.0]]
    assert node.backend == "cupy"
    controller.release()


def test_a_folded_threshold_survives_the_reset_of_old_spikingjelly() -> None:
    """Fault: the threshold was a memory there, which every reset_net set back to where it had started."""
    model = nn.Sequential(clock_driven["BaseNode"]())
    regulate(model)
    model[0].threshold_scale.fill_(0.25)
    folded = fold(model)
    for _ in range(2):
        folded[0].reset()
        assert folded[0].v_threshold == 0.25
        assert folded(torch.tensor([[0.2], [0.2]])).tolist() == [[0.0], [1.0]]
    model[0].reset()
    assert model[0].v_threshold == 1.0  # that of the model itself is scaled only while it runs


def test_a_model_without_known_neurons() -> None:
    with pytest.raises(
        UserError, match=r"Linear holds no spiking neuron of a known class; known are those of step_ahsar.neurons and "
        "of braincog, snntorch, spikingjelly$"
    ):  # fmt: skip
        regulate(nn.Linear(2, 2))
    with pytest.raises(UserError, match="no spiking neuron"):
        regulate(nn.Sequential(sj.NonSpikingLIFNode()))


def test_neurons_that_users_derive() -> None:
    class Own(sj.BaseNode):
        def single_step_functional_forward(self, inputs: Any, states: Any, **_: Any) -> Any:
            v = states[0] + inputs[0]
            spike = self.surrogate_function(v - self.v_threshold)
            return (spike,), (v * (1 - spike),)

    class Step(bc.BaseNode):  # as STEP's nodes are
        def integral(self, inputs: Tensor) -> None:
            self.mem = self.mem + inputs

        def calc_spike(self) -> None:
            self.spike = (self.mem > self.threshold).float()

    for node in (Own(), Step(threshold=1.0)):
        controller = regulate(nn.Sequential(node))
        assert node(torch.tensor([0.6])) == 0
        node.threshold_scale.fill_(0.5)
        assert node(torch.tensor([0.0])) == 1
        controller.release()


# -- models ------------------------------------------------------------------------------------------------------------


class SnnNet(nn.Module):
    """snnTorch's way: time is a loop in the model's own forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(12, 32), snntorch.Leaky(0.9)
        self.fc2, self.lif2 = nn.Linear(32, 4), snntorch.Leaky(0.9)

    def forward(self, x: Tensor) -> Tensor:
        mem1, mem2 = torch.zeros(len(x), 32), torch.zeros(len(x), 4)
        out = []
        for _ in range(5):
            spk1, mem1 = self.lif1(2 * self.fc1(x.flatten(1)[:, :12]), mem1)
            spk2, mem2 = self.lif2(4 * self.fc2(spk1), mem2)
            out.append(spk2)
        return torch.stack(out).mean(0)


class BrainCogNet(nn.Module):
    """BrainCog's way: T * B leading, reset before each input."""

    def __init__(self) -> None:
        super().__init__()
        options = {"step": 4, "layer_by_layer": True, "threshold": 1.0}
        self.conv, self.node1 = nn.Conv2d(3, 8, 3, padding=1), bc.LIFNode(**options)
        self.fc, self.node2 = nn.Linear(8, 16), bc.PLIFNode(**options)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        for module in self.modules():
            if hasattr(module, "n_reset"):
                module.n_reset()
        x = self.node1(4 * self.conv(x.repeat(4, 1, 1, 1)))
        return self.head(self.node2(8 * self.fc(x.mean((2, 3)))).unflatten(0, (4, -1)).mean(0))


def jelly(name: str) -> nn.Module:
    small = {"T": 2, "num_classes": 4}
    return {
        "spikformer": lambda: spikformer.Spikformer(
            img_size_h=16, img_size_w=16, patch_size=4, embed_dims=16, num_heads=2, depths=1, **small
        ),
        "qkformer": lambda: qkformer.QKFormer(embed_dims=32, num_heads=(2, 2, 2), depths=(1, 1, 1), **small),
        "maxformer": lambda: maxformer.MaxFormer(embed_dims=64, depths=(1, 1, 1), **small),
        "maxformer_cifar": lambda: maxformer.MaxFormer(embed_dims=64, depths=(1, 1, 1), cifar=True, **small),
        "sdt": lambda: spike_driven_transformer.SpikeDrivenTransformer(
            embed_dims=16, num_heads=2, depths=1, pooling_stat="0011", **small
        ),
    }[name]()


ZOO = ["spikformer", "qkformer", "maxformer", "maxformer_cifar", "sdt"]
MODELS: dict[str, Callable[[], nn.Module]] = {
    **{name: lambda name=name: jelly(name) for name in ZOO},
    "braincog": BrainCogNet,
    "snntorch": SnnNet,
}
SIZE = {"qkformer": 32, "maxformer": 32}


def make(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = MODELS[name]()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.constant_(module.bias, 0.5)
            module.momentum = 1.0
    size = SIZE.get(name, 16)
    return model, torch.randn(3, 3, size, size)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    functional.reset_net(model)
    out = model(x)
    return out.mean(0) if out.ndim == 3 else out


def neurons(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if find_layer(module) is not None}


MOVING = ("_memories", "v_seq", "mem", "spike", "reset")  # states of neurons, which any forward moves


def inside(model: nn.Module) -> dict[str, Any]:
    """All that modules hold: attributes, parameters and buffers by identity, hooks, the forward function."""
    return {
        name: {
            "class": type(module),
            "forward": module.forward.__func__,  # type: ignore[attr-defined]
            **{
                key: {k: id(v) for k, v in value.items() if k not in MOVING} if isinstance(value, dict) else value
                for key, value in vars(module).items()
                if key not in MOVING
            },
        }
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("name", MODELS)
def test_whole_models(name: str) -> None:
    """Scaled at random: logits and gradients of the model with thresholds scaled by hand. Released: as found."""
    model, x = make(name)
    by_hand = copy.deepcopy(model)
    before, state = inside(model), copy.deepcopy(model.state_dict())
    controller = regulate(model)
    assert controller.layers().keys() == neurons(model).keys()
    for i, (path, node) in enumerate(neurons(model).items()):
        scale = (0.5, 1.4, 0.8)[i % 3]
        node.threshold_scale.fill_(scale)  # type: ignore[operator,union-attr]
        theirs = by_hand.get_submodule(path)
        scaled_by_hand(theirs, "v_threshold" if hasattr(theirs, "v_threshold") else "threshold", scale)
    ours, expected = logits(model, x), logits(by_hand, x)
    assert torch.equal(ours, expected)
    for out in (ours, expected):
        (out * torch.linspace(-1, 1, out.numel()).view(out.shape)).sum().backward()
    grads, expected_grads = (
        {n: p.grad for n, p in m.named_parameters() if p.grad is not None} for m in (model, by_hand)
    )
    torch.testing.assert_close(grads, expected_grads, rtol=1e-6, atol=1e-6)
    controller.step()
    rates = [layer["rate"] for layer in controller.layers().values()]
    assert max(rates) < 1
    assert sum(rate > 0 for rate in rates) > 0.6 * len(rates), rates

    controller.release()
    functional.reset_net(model)
    assert inside(model) == before
    assert not is_regulated(model)
    for key, value in model.state_dict().items():
        if "running" not in key and "num_batches" not in key:
            assert torch.equal(value, state[key]), key


GROUPS = {
    "spikformer": {"stem": 5, "attention": 3, "mlp": 2},
    "qkformer": {"stem": 10, "attention": 9, "mlp": 6},
    "maxformer": {"stem": 6, "other": 2, "mlp": 6, "attention": 3, "head": 1},
    "maxformer_cifar": {"stem": 6, "other": 1, "mlp": 6, "attention": 3, "head": 1},
    "sdt": {"stem": 4, "attention": 5, "mlp": 2, "head": 1},
    "braincog": {"all": 2},
    "snntorch": {"all": 2},
}


@pytest.mark.parametrize("name", MODELS)
def test_groups_by_place(name: str) -> None:
    controller = regulate(make(name)[0])
    counts: dict[str, int] = {}
    for layer in controller.layers().values():
        counts[layer["group"]] = counts.get(layer["group"], 0) + 1
    assert counts == GROUPS[name]


def test_groups_by_class_where_names_say_nothing() -> None:
    class DSSA(nn.Sequential): ...

    class GWFFN(nn.Sequential): ...

    model = nn.Sequential(nn.Sequential(DSSA(sj.LIFNode()), GWFFN(sj.LIFNode(), sj.LIFNode())), sj.LIFNode())
    groups = {name: layer["group"] for name, layer in regulate(model).layers().items()}
    assert groups == {"0.0.0": "attention", "0.1.0": "mlp", "0.1.1": "mlp", "1": "other"}


def test_groups_given() -> None:
    model, _ = make("spikformer")
    with pytest.raises(UserError, match=r"group 'x': 'nothing.\*' matches no spiking neuron; the model has patch_emb"):
        regulate(model, groups={"x": "nothing.*"})
    with pytest.raises(UserError, match=r"'blocks.0.attn.qkv_lif' is in more than one group: a, b"):
        regulate(model, groups={"a": "*attn*", "b": "blocks.*"})
    assert not is_regulated(model)
    seen: list[nn.Module] = []
    regulate(model, groups=lambda name, node: seen.append(node) or ("first" if name.endswith("neuron") else None))
    assert all(isinstance(node, sj.LIFNode) for node in seen)


# -- in training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spikformer", "braincog", "snntorch"])
@pytest.mark.parametrize("auto", [False, True])
def test_a_silent_layer_comes_alive(name: str, auto: bool) -> None:
    model, x = make(name)
    path, node = next(iter(neurons(model).items()))
    attribute = "v_threshold" if hasattr(node, "v_threshold") else "threshold"
    scaled_by_hand(node, attribute, 3.0)
    controller = regulate(model, auto=auto, config=AHSARConfig(**FIRST_LAW))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    rates = []
    for _ in range(20):
        logits(model, x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if not auto:
            controller.step()
        rates.append(controller.layers()[path]["rate"])
    assert rates[0] < 0.1
    assert rates[-1] > 0.1 + rates[0]
    assert controller.layers()[path]["threshold_scale"] < 0.7
    controller.release()
    assert getattr(node, attribute) == 3.0


def test_automatic_epochs_and_an_end() -> None:
    model, x = make("snntorch")
    controller = regulate(model, auto=True, config=AHSARConfig(**FIRST_LAW | {"mu": 0.5}))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def iteration(net: nn.Module) -> None:
        net(x).sum().backward()
        optimizer.step()

    iteration(model)
    before = controller.gammas()
    model.eval()(x)
    iteration(model.train())
    assert controller.gammas() != before
    gammas = controller.gammas()
    model.eval()
    with torch.no_grad():  # snnTorch's states can be copied only without a graph
        model(x)
        twin = copy.deepcopy(model)
    twin.train()(x)
    assert controller.gammas() == gammas  # a copy drives nothing
    del model, twin
    optimizer.step()  # nor does a model that is gone


def test_what_is_observed() -> None:
    node = sj.LIFNode(step_mode="m")
    model = nn.Sequential(nn.Linear(4, 4), node)
    regulate(model)
    x = torch.randn(2, 3, 4)
    layer = find_layer(node)
    assert layer is not None

    def seen(run: Callable[[], Any]) -> float:
        functional.reset_net(model)
        layer.clear_observed()
        run()
        return layer.observed[1].item()  # type: ignore[index]

    def backward(reentrant: bool) -> None:
        checkpoint(model, x.requires_grad_(), use_reentrant=reentrant).sum().backward()

    assert seen(lambda: model(x)) == x.numel()
    assert seen(lambda: (model(x), functional.reset_net(model), model(x))) == 2 * x.numel()  # micro-batches
    assert seen(lambda: torch.no_grad()(model)(x)) == 0
    assert seen(lambda: model.eval()(x)) == 0
    model.train()
    assert seen(lambda: backward(reentrant=True)) == x.numel()
    assert seen(lambda: backward(reentrant=False)) == x.numel()


def test_a_forward_that_fails_leaves_the_node_as_it_was() -> None:
    model = nn.Sequential(sj.LIFNode(step_mode="m"))
    controller = regulate(model)
    before = inside(model)
    with pytest.raises(TypeError):
        model(None)
    assert inside(model) == before
    controller.release()


def test_copies_and_checkpoints() -> None:
    model, x = make("spikformer")
    logits(model, x)  # the norms' averages
    functional.reset_net(model)
    plain = copy.deepcopy(model).eval()
    controller = regulate(model)
    for node in neurons(model).values():
        node.threshold_scale.fill_(0.6)  # type: ignore[operator,union-attr]
    model.eval()
    with torch.no_grad():
        expected = logits(model, x)
        assert not torch.equal(logits(plain, x), expected)

        functional.reset_net(model)
        twin = copy.deepcopy(model)
        assert torch.equal(logits(twin, x), expected)
        for node in neurons(twin).values():
            node.threshold_scale.fill_(1.0)  # type: ignore[operator,union-attr]
        assert torch.equal(logits(twin, x), logits(plain, x))
        assert torch.equal(logits(model, x), expected)  # it has scales of its own

        regulated = make("spikformer")[0].eval()
        regulate(regulated)
        regulated.load_state_dict(model.state_dict())
        assert torch.equal(logits(regulated, x), expected)

        functional.reset_net(model)
        averaged = ModelEmaV3(model, decay=0.5)
        for node in neurons(model).values():
            node.threshold_scale.fill_(1.0)  # type: ignore[operator,union-attr]
        averaged.update(model)
        scales = [n.threshold_scale.item() for n in neurons(averaged.module).values()]  # type: ignore[operator,union-attr]
        assert scales == pytest.approx([0.8] * len(scales))

    again = controller_of(twin)  # a copy has a controller and layers of its own, and no hook twice
    assert again is not controller
    twin.train()
    logits(twin, x)
    again.step()
    assert all(layer["rate"] is None for layer in controller.layers().values())
    assert any(0 < layer["rate"] < 1 for layer in again.layers().values())
    assert all(len(node._forward_hooks) == 1 for node in neurons(twin).values())


def test_folding_writes_the_scaled_thresholds_into_the_nodes() -> None:
    for name in ("spikformer", "braincog", "snntorch"):
        model, x = make(name)
        regulate(model)
        for node in neurons(model).values():
            node.threshold_scale.fill_(0.7)  # type: ignore[operator,union-attr]
        folded = fold(model)
        assert not is_regulated(folded)
        assert is_regulated(model)
        with torch.no_grad():
            assert torch.equal(logits(folded, x), logits(model, x))
        assert folded.state_dict().keys() == make(name)[0].state_dict().keys()


def test_one_graph_for_every_scale() -> None:
    from torch._dynamo.testing import CompileCounter

    node = sj.LIFNode(step_mode="m")
    model = nn.Sequential(nn.Linear(4, 4), node)
    controller = regulate(model)
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    x = 3 * torch.randn(2, 3, 4)
    for scale in (1.0, 0.5, 1.7):
        node.threshold_scale.fill_(scale)
        outs = []
        for run_it in (model, compiled):
            functional.reset_net(model)
            outs.append(run_it(x))
        assert torch.equal(*outs)
    assert counter.frame_count == 1
    controller.step()
    assert controller.layers()["1"]["rate"] > 0


def test_no_value_leaves_the_device() -> None:
    """The device "meta" has none to give: whoever asked for one would raise."""
    model, x = make("spikformer")
    controller = regulate(model, config=AHSARConfig(calibrate=None))  # a calibration looks at what it has reached
    logits(model, x).sum().backward()
    controller.step()  # the first step asks whether any layer was seen
    functional.reset_net(model.to("meta"))
    assert all(node.threshold_scale.device.type == "meta" for node in neurons(model).values())  # type: ignore[union-attr]
    for _ in range(2):
        logits(model, x.to("meta")).sum().backward()
        controller.step()


def test_no_library_is_imported() -> None:
    code = (
        "import sys\nfrom torch import nn\nfrom step_ahsar.ahsar import regulate\n"
        "from step_ahsar.neurons import create_neuron\nregulate(nn.Sequential(create_neuron('lif')))\n"
        "print(*{'spikingjelly', 'braincog', 'snntorch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_beside_neurons_of_the_registry() -> None:
    model = nn.Sequential(create_neuron("lif", backend="spikingjelly"), sj.LIFNode())
    assert list(regulate(model).layers()) == ["0", "1"]  # the adapter once, not the node in it


TEXT = (Path(__file__).parents[3] / "docs" / "regulate.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_documents_examples(example: str) -> None:
    found: dict[str, Any] = {}
    exec(example, found)
    assert any(layer["threshold_scale"] != 1 for layer in found["controller"].layers().values())
    if "plain" in found:
        scale = found["controller"].layers()["1"]["threshold_scale"]
        assert scale < 1
        assert found["plain"][1].v_th == pytest.approx(5 * scale)
