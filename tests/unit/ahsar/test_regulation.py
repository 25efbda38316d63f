"""Putting models under a controller: whose neurons, which groups, and what is said about the others."""

import pytest
import torch
from torch import Tensor, nn

from step_ahsar.ahsar import ScaleRule, fold, is_regulated, regulate
from step_ahsar.ahsar.finding import find_layers, find_strangers
from step_ahsar.ahsar.grouping import default_group
from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron


class MyNode(nn.Module):
    """A neuron of no library: one time step, threshold ``v_th``."""

    def __init__(self, v_th: float = 1.0) -> None:
        super().__init__()
        self.v_th = v_th

    def forward(self, x: Tensor) -> Tensor:
        return (x >= self.v_th).to(x) + 0 * x


class MultiSpike(nn.Module):
    """As STEP's: an integer neuron without any attribute of a threshold."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, 4).round()


class CLIFSpike(nn.Module):
    """A wrapper with the neuron and weights: no neuron itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weights, self.node = nn.Linear(4, 4), MyNode()

    def forward(self, x: Tensor) -> Tensor:
        return self.node(self.weights(x))


def net(*neurons: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(module for neuron in neurons for module in (nn.Linear(4, 4), neuron)))


def fit(model: nn.Module, controller, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        (model(torch.randn(5, 4)) ** 2).sum().backward()
        optimizer.step()
        controller.step()


# -- one's own classes -----------------------------------------------------------------------------------------------


def test_ones_own_class_is_declared_and_regulated():
    """Fault: spiking modules of unknown classes were left out without a word."""
    model = net(MyNode(v_th=20.0), MyNode(v_th=20.0))
    controller = regulate(model, nodes={MyNode: ScaleRule(threshold="v_th")})
    assert list(controller.layers()) == ["1", "3"]
    fit(model, controller)
    assert all(layer["threshold_scale"] < 1 for layer in controller.layers().values())
    folded = fold(model)
    assert folded[1].v_th == pytest.approx(20 * controller.layers()["1"]["threshold_scale"])
    assert not is_regulated(folded)
    controller.release()
    assert model[1].v_th == 20.0
    assert not is_regulated(model)


def test_classes_that_extend_a_declared_one_are_declared():
    class Own(MyNode): ...

    assert list(regulate(net(Own()), nodes={MyNode: ScaleRule(threshold="v_th")}).layers()) == ["1"]


def test_a_rule_without_a_threshold_divides_the_input():
    model = net(MultiSpike())
    regulate(model, nodes={MultiSpike: ScaleRule(threshold=None, divides=True, ones=False)})
    x = torch.randn(5, 4) * 3
    model[1].threshold_scale.fill_(0.5)
    assert torch.equal(model(x), MultiSpike()(model[0](x) / 0.5))


@pytest.mark.parametrize("nodes", [{"MyNode": ScaleRule("v_th")}, {MyNode: "v_th"}, {int: ScaleRule("v_th")}])
def test_declarations_are_checked(nodes):
    with pytest.raises(UserError, match="nodes must map classes of modules to ScaleRules, got"):
        regulate(net(MyNode()), nodes=nodes)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            ScaleRule(None),
            r"its ScaleRule has neither a threshold nor divides=True",
        ),
        (ScaleRule("v_treshold"), r"it has no attribute 'v_treshold'"),
        (ScaleRule("name"), r"its 'name' is no number and no tensor but 'x'"),
    ],
)
def test_rules_are_checked(rule, message):
    """Fault: the scale moved without any effect, or the forward pass failed."""
    model = net(MyNode())
    model[1].name = "x"
    with pytest.raises(UserError, match=f"layer '1': MyNode cannot be regulated: {message}"):
        regulate(model, nodes={MyNode: rule})
    assert not is_regulated(model)


# -- what looks like a neuron and is not known -----------------------------------------------------------------------


def test_unknown_neurons_are_named():
    model = net(create_neuron("lif"), MyNode(), MultiSpike(), CLIFSpike())
    with pytest.warns(
        UserWarning, match=r"not regulated, because their classes are not known: 3 \(MyNode\), 5 \(MultiSpike\), 7.node"
    ) as said:
        controller = regulate(model)
    assert "nodes={TheirClass: ScaleRule(...)}" in str(said[0].message)
    assert list(controller.layers()) == ["1"]


def test_a_model_of_unknown_neurons_alone_is_refused():
    with pytest.raises(UserError, match=r"no spiking neuron of a known class; .*to regulate 1 \(MyNode\), pass nodes="):
        regulate(net(MyNode()))


NEURONS = (
    "PSNTorch MultiSpike CLIF mem_update Q_IFNode ILIFNeuron SpikingX EIF QIF AdEx Izhikevich IzhikevichNode LIAF "
    "ALIFCell NormLIF SurrogateLIF SpikeAct"
)


@pytest.mark.parametrize("name", NEURONS.split())
def test_names_of_neurons(name):
    model = nn.Sequential(type(name, (nn.Module,), {})())
    assert list(find_strangers(model, {})) == ["0"]


@pytest.mark.parametrize(
    "attribute", ["v_threshold", "v_th", "vth", "v_thresh", "threshold", "thresh", "thre", "theta"]
)
@pytest.mark.parametrize("value", [1.0, 1, torch.ones(()), nn.Parameter(torch.ones(3))])
def test_attributes_of_neurons(attribute, value):
    model = nn.Sequential(type("Act", (nn.Module,), {})())
    setattr(model[0], attribute, value)
    assert list(find_strangers(model, {})) == ["0"]
    setattr(model[0], attribute, None)
    assert not find_strangers(model, {})


@pytest.mark.parametrize(
    "name", ["SpikingBlock", "SpikeNorm", "Sigmoid", "Classifier", "SpikeLoss", "Gif2Frames", "LIFEncoder", "Diff"]
)
def test_names_of_others(name):
    model = nn.Sequential(type(name, (nn.Module,), {})())
    assert not find_strangers(model, {})


class RecurrentLIF(nn.Module):
    """A neuron with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.Linear(4, 4)


class SpikingBlock(nn.Module):
    """Weights, a threshold, and no neuron inside: it fires by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.v_threshold = nn.Linear(4, 4), 1.0


class SpikingWrapper(nn.Module):
    """Its name is one of a neuron, but what fires is the neuron in it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = create_neuron("lif")


def test_what_is_around_a_known_neuron_is_no_stranger():
    model = nn.Sequential(SpikingWrapper())
    assert not find_strangers(model, find_layers(model))


def test_neurons_with_weights():
    """Fault: modules with weights inside were never named."""
    model = nn.Sequential(
        RecurrentLIF(), SpikingBlock(), CLIFSpike(), nn.Sequential(nn.Linear(4, 4), create_neuron("lif"))
    )
    assert list(find_strangers(model, find_layers(model))) == ["0", "1", "2.node"]


def test_torchs_own_modules_are_no_strangers():
    model = nn.Sequential(nn.Threshold(0.5, 0.0), nn.Softshrink(), nn.TransformerEncoderLayer(8, 2))
    assert not find_strangers(model, find_layers(model))


def test_the_parts_of_a_known_neuron_are_no_strangers():
    class Outer(MyNode):
        def __init__(self):
            super().__init__()
            self.inner = MyNode()

    model = net(Outer())
    rules = {Outer: ScaleRule("v_th")}
    assert not find_strangers(model, find_layers(model, rules))


# -- a model that was compiled before ----------------------------------------------------------------------------------


def test_regulating_after_compiling_is_noticed():
    """Fault: hooks on nodes that are in a compiled graph never ran, and nobody was told."""
    model = net(MyNode())
    compiled = torch.compile(model, backend="eager")
    compiled(torch.randn(5, 4))
    controller = regulate(model, nodes={MyNode: ScaleRule(threshold="v_th")})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (compiled(torch.randn(5, 4)) ** 2).sum().backward()
    optimizer.step()
    with pytest.warns(UserWarning, match="were compiled and called before"):
        controller.step()
    torch.compiler.reset()
    for _ in range(2):
        (compiled(torch.randn(5, 4)) ** 2).sum().backward()
        controller.step()
    assert controller.layers()["1"]["rate"] is not None


def test_a_part_that_was_compiled_before_is_named():
    """Fault: only a model of which no layer at all was observed was noticed."""
    model = nn.Sequential(net(MyNode()), torch.compile(net(MyNode()), backend="eager"), net(MyNode()))
    model(torch.randn(5, 4))
    controller = regulate(model, nodes={MyNode: ScaleRule(threshold="v_th")})
    with pytest.warns(UserWarning, match=r"1 of the 3 regulated layers were not seen in training.*: 1._orig_mod.1\."):
        fit(model, controller, steps=10)


def test_own_neurons_are_observed_even_if_they_were_compiled_before():
    model = nn.Sequential(nn.Linear(4, 4), create_neuron("lif"))
    compiled = torch.compile(model, backend="eager")
    compiled(torch.randn(2, 5, 4))
    controller = regulate(model)
    compiled(torch.randn(2, 5, 4)).sum().backward()
    controller.step()
    assert controller.layers()["1"]["rate"] is not None


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "group"),
    [
        ("attn.head_lif", "attention"),  # fault: heads of an attention are no head
        ("attn.heads.0.lif", "attention"),
        ("head.lif", "head"),
        ("head_lif", "head"),
        ("blocks.0.mlp.head_lif", "mlp"),
        ("classifier.lif", "head"),
        ("patch_embed.proj_lif", "stem"),
        ("blocks.0.attn.proj_lif", "attention"),
        ("blocks.0.q_lif", "attention"),
        ("blocks.0.lif", None),
    ],
)
def test_groups_follow_from_the_place(path, group):
    model: nn.Module = nn.Identity()
    for name in reversed(path.split(".")):
        model = nn.ModuleDict({name: model})
    assert default_group(model, path) == group
