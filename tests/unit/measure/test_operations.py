"""Counted operations: by hand, by brute force, against SpikingJelly's counter, and what they do not depend on."""

from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import step_ahsar.models  # noqa: F401  # timm then knows them
from step_ahsar.errors import UserError
from step_ahsar.measure import LayerOperations, Operations, operations
from step_ahsar.neurons import create_neuron


class Function(nn.Module):
    """A module that computes a function of its input and its own layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """Small inputs are over before a kernel is compiled."""
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")


def counted(model, *batches, **options):
    """Layers by name."""
    return {layer.name: layer for layer in operations(model, batches, **options).layers}


def spikes(*shape, seed=0, share=0.3):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share).float()


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "meets"),
    [((1, 2), 9), ((0, 0), 4), ((0, 2), 6), ((3, 3), 4)],
)
def test_a_spike_in_a_convolution_by_hand(place, meets):
    """A 3x3 kernel on 4x4 pixels: nine weights reach a pixel inside, six one at the border, four one at a corner."""
    x = torch.zeros(1, 2, 4, 4)
    x[(0, 1, *place)] = 1
    [layer] = counted(nn.Conv2d(2, 5, 3, padding=1), x).values()
    assert layer.synaptic_operations == meets * 5
    assert layer.macs == 2 * 5 * (4 * 9 + 8 * 6 + 4 * 4)
    assert (layer.kind, layer.analog, layer.rates, layer.steps) == ("conv", False, (1 / 32,), 1)


convolutions = st.fixed_dictionaries({
    "ndim": st.sampled_from([1, 2]),
    "kernel": st.integers(1, 4),
    "stride": st.integers(1, 3),
    "padding": st.integers(0, 2),
    "dilation": st.integers(1, 2),
    "groups": st.sampled_from([1, 2]),
    "transposed": st.booleans(),
    "size": st.integers(8, 11),
})  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_any_convolution_by_brute_force(case):
    """With weights of 1 each output is the number of spikes that reach it."""
    kind = {
        (1, False): nn.Conv1d, (2, False): nn.Conv2d, (1, True): nn.ConvTranspose1d, (2, True): nn.ConvTranspose2d
    }[case["ndim"], case["transposed"]]  # fmt: skip
    options = {key: case[key] for key in ("stride", "padding", "dilation", "groups")}
    conv = kind(4, 6, case["kernel"], **options)
    ones = kind(4, 6, case["kernel"], bias=False, **options)
    nn.init.ones_(ones.weight)
    x = spikes(3, 4, *[case["size"]] * case["ndim"])
    [layer] = counted(conv, x).values()
    with torch.no_grad():
        assert layer.synaptic_operations * 3 == pytest.approx(ones(x).sum().item())
        assert layer.macs * 3 == pytest.approx(ones(torch.ones_like(x)).sum().item())


def test_a_linear_layer_by_hand():
    x = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    [layer] = counted(nn.Linear(3, 5), x).values()
    assert (layer.kind, layer.macs, layer.synaptic_operations, layer.rates) == ("linear", 15, 5, (1 / 3,))
    assert (layer.inputs, layer.outputs, layer.weights) == ((3,), 5, 15)


@pytest.mark.parametrize("x", [[3.0, 0.0, -1.0], [-3.0, 0.0, 1.0], [-2.0, -2.0, 0.0]])
def test_sums_of_spikes_count_by_their_value(x):
    """3 spikes, added up, are 3 additions of each weight they meet; negative ones are subtractions."""
    [layer] = counted(nn.Linear(3, 5), torch.tensor([x])).values()
    assert (layer.synaptic_operations, layer.rates, layer.analog) == (4 * 5, (2 / 3,), False)


@pytest.mark.parametrize("count", [3, 4])
def test_spikes_of_fractional_value(count):
    """A normalised integer neuron emits k / D: k spikes."""
    neuron = create_neuron("nilif", max_count=count, tau=1e9)
    model = Function(lambda m, x: m.fc(m.neuron(x)), neuron=neuron, fc=nn.Linear(4, 5))
    x = torch.tensor([[[0.0, 1.0, 2.0, 9.0]]])
    found = counted(model, x, batch_axis=1)
    assert (found["neuron"].spikes, found["neuron"].rates) == (1 + 2 + count, (3 / 4,))
    assert (found["fc"].synaptic_operations, found["fc"].analog) == ((1 + 2 + count) * 5, False)


def test_a_layer_is_analog_if_any_of_its_inputs_is():
    binary, real = torch.ones(1, 3), torch.full((1, 3), 0.5)
    assert not operations(nn.Linear(3, 5), [binary, binary]).layers[0].analog
    for batches in ([binary, real], [real, binary]):
        [layer] = operations(nn.Linear(3, 5), batches).layers
        assert layer.analog
        assert layer.synaptic_operations == 15


def test_zero_weights_are_weights():
    layer = nn.Linear(3, 5)
    nn.init.zeros_(layer.weight)
    assert operations(layer, [torch.ones(1, 3)]).synaptic_operations == 15


# -- products ----------------------------------------------------------------------------------------------------------


def met(a, b):
    """Pairs of values that a product multiplies, neither of which is 0."""
    return torch.einsum("...nk,...km->", (a != 0).double(), (b != 0).double()).item()


def test_both_orders_of_an_attention():
    q, k, v = (spikes(2, 3, 4, 6, seed=seed) for seed in range(3))  # [T, B, d, N]
    model = Function(lambda m, x: (v @ k.mT) @ q)
    first, second = counted(model, q, batch_axis=1).values()
    assert first.synaptic_operations * 3 == met(v, k.mT)
    assert second.synaptic_operations * 3 == met(v @ k.mT, q)
    assert first.macs * 3 == second.macs * 3 == 2 * 3 * 4 * 4 * 6
    assert second.rates == (((v @ k.mT) != 0).double().mean().item(), pytest.approx(q.mean().item()))
    other, third = counted(Function(lambda m, x: v @ (k.mT @ q)), q, batch_axis=1).values()
    assert other.synaptic_operations * 3 == met(k.mT, q)
    assert third.synaptic_operations * 3 == met(v, k.mT @ q)
    assert [layer.name for layer in (first, second)] == ["(model)", "(model) #2"]


def test_the_operand_of_fewer_spikes_is_the_one_that_adds():
    """[3] x [1, 1]: a value of 3 is met by two spikes, once each. It would be six the other way round."""
    a, b = torch.tensor([[[3.0]]]), torch.tensor([[[1.0, 1.0]]])
    for model in (Function(lambda m, x: x @ b), Function(lambda m, x: b.mT @ x)):
        [layer] = operations(model, [a]).layers
        assert (layer.kind, layer.synaptic_operations) == ("product", 2)


def test_spikes_times_real_numbers_add_and_real_numbers_multiply():
    real, binary = torch.full((1, 4, 4), 0.5), spikes(1, 4, 4)
    [mixed] = operations(Function(lambda m, x: real @ x), [binary]).layers
    assert (mixed.analog, mixed.synaptic_operations) == (False, met(real, binary))
    [both] = operations(Function(lambda m, x: real @ x), [real]).layers
    assert (both.analog, both.synaptic_operations, both.macs) == (True, 64, 64)


def test_masks_add_nothing_and_sums_of_spikes_do():
    """SDSA-1: the number of tokens at which k and v both fire, and its spikes as a mask of q."""
    k, v = spikes(2, 3, 4, 6, seed=1), spikes(2, 3, 4, 6, seed=2)
    mask, total = operations(Function(lambda m, x: (k * x).sum(-1)), [v], batch_axis=1).layers
    assert (mask.kind, mask.synaptic_operations, mask.rates) == (
        "mask", 0, (pytest.approx(k.mean().item()), pytest.approx(v.mean().item()))
    )  # fmt: skip
    assert (total.kind, total.synaptic_operations * 3) == ("sum", (k * v).sum().item())


@pytest.mark.parametrize("norm", [nn.LayerNorm(4), nn.GroupNorm(3, 3)])
def test_norms_of_the_values_themselves_multiply(norm):
    [layer] = operations(norm, [torch.rand(2, 3, 4)]).layers
    assert (layer.kind, layer.analog, layer.macs) == ("norm", True, 2 * 12)
    assert operations(nn.BatchNorm1d(3), [torch.rand(2, 3, 4)]).layers == ()


def test_outputs_are_the_same_to_the_bit():
    """Fault: torch's operators were replaced by others that are rounded otherwise, as in bilinear resampling."""
    layers = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Upsample(scale_factor=1.7, mode="bilinear"), nn.AdaptiveAvgPool2d(5))
    x, seen = torch.rand(2, 2, 9, 9), []
    layers.register_forward_hook(lambda _, __, out: seen.append(out))
    operations(layers, [x])
    with torch.inference_mode():
        assert torch.equal(layers(x), seen[0])


def test_real_numbers_multiply_element_by_element():
    gate = torch.tensor([[0.5, 0.0, 2.5], [0.5, 0.0, 2.5]])
    [layer] = operations(Function(lambda m, x: x * gate), [torch.full((2, 3), 0.1)]).layers
    assert (layer.kind, layer.analog, layer.macs, layer.synaptic_operations) == ("mask", True, 3, 2)


@pytest.mark.parametrize(
    ("compute", "kind", "macs"),
    [
        (lambda x: x / (x + 1), "mask", 24),
        (lambda x: x.square(), "mask", 24),
        (lambda x: x**3, "mask", 24),
        (lambda x: x.softmax(-1), "norm", 48),
        (lambda x: F.instance_norm(x), "norm", 48),
        (lambda x: F.batch_norm(x, None, None, training=True), "norm", 48),
    ],
)
def test_other_operators_that_multiply(compute, kind, macs):
    [layer] = operations(Function(lambda m, x: compute(x)), [torch.rand(2, 3, 8)]).layers
    assert (layer.kind, layer.macs, layer.analog) == (kind, macs, True)


def test_what_is_the_same_for_all_samples_is_a_scale():
    x, rates = spikes(4, 2, 3, 5), torch.rand(3, 1)
    assert not operations(Function(lambda m, x: x / rates * rates.sqrt()), [x], batch_axis=1).layers
    [gate] = operations(Function(lambda m, x: x * torch.ones_like(x[0])), [x], batch_axis=1).layers  # [B, ...] is not
    assert (gate.kind, gate.macs) == ("mask", 4 * 15)


def test_a_softmax_of_values_without_samples():
    [layer] = operations(Function(lambda m, x: x[0].sum(0).softmax(0)), [torch.rand(2, 3, 8)]).layers
    assert (layer.kind, layer.macs, layer.steps) == ("norm", 8, 1)


def test_a_softmax_of_weights_is_no_operation():
    model = Function(lambda m, x: m.fc.bias.softmax(0) + x, fc=nn.Linear(2, 8))
    assert not operations(model, [torch.rand(2, 3, 8)]).layers


def test_a_batch_norm_by_running_averages_is_part_of_the_weights():
    average = torch.zeros(3), torch.ones(3)
    assert not operations(Function(lambda m, x: F.batch_norm(x, *average)), [torch.rand(2, 3, 8)]).layers


@pytest.mark.parametrize("pool", [nn.AvgPool1d(2), nn.AvgPool2d(2), nn.AvgPool3d(2), nn.AdaptiveAvgPool3d(1)])
def test_pools_add_spikes(pool):
    shape = {1: (2, 3, 8), 2: (2, 3, 8, 8), 3: (2, 3, 8, 8, 8)}[int(type(pool).__name__[-2])]
    x = spikes(*shape)
    [layer] = operations(pool, [x]).layers
    assert (layer.kind, layer.synaptic_operations, layer.macs) == ("sum", x.sum().item() / 2, 0)


def test_large_sums_are_exact():
    """4097 x 4097 is the first odd square that fp32 does not have."""
    [layer] = operations(nn.Linear(4097, 1), [torch.full((1, 4097), 4097.0)]).layers
    assert layer.synaptic_operations == 4097 * 4097


def test_scales_are_no_products():
    scale = nn.Parameter(torch.rand(4))
    model = Function(lambda m, x: 0.125 * x * m.scale)
    model.scale = scale
    assert operations(model, [torch.rand(2, 4)]).layers == ()


# -- over time ---------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """A convolution of an image, which is the same at each time step, a neuron, a layer, and the mean over time."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps
        self.conv, self.neuron = nn.Conv1d(2, 4, 3, padding=1), create_neuron("lif", threshold=0.05, group="stem")
        self.fc, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        current = self.conv(x).expand(self.steps, -1, -1, -1)
        out = self.fc(self.neuron(current).transpose(2, 3))
        return self.head(out.mean((0, 2)))


def test_first_layer_once_or_at_every_time_step():
    x = torch.rand(5, 2, 7)
    found = operations(Small(4), [x])
    conv, neuron, fc, head = found.layers
    dense = 2 * 4 * (5 * 3 + 2 * 2)
    assert (conv.macs, conv.analog, conv.steps) == (dense, True, 1)
    assert (found.macs, found.macs_repeated) == (dense + 18, 4 * dense + 18)
    assert (neuron.updates, neuron.group, found.updates, found.time_steps) == (4 * 4 * 7, "stem", 112, 4)
    assert (fc.macs, fc.steps, fc.analog) == (4 * 7 * 24, 4, False)
    assert fc.synaptic_operations == pytest.approx(neuron.spikes * 6)
    assert (head.macs, head.steps, head.analog) == (18, 1, True)
    assert found.synaptic_operations == fc.synaptic_operations
    assert found.dense_macs == dense + 7 * 24 + 18


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize(
    "late",
    [
        lambda m, out: m.head(out.mean(0).transpose(1, 2)),  # tokens [B, N, C] behind the mean over time
        lambda m, out: torch.cat([m.head(level.transpose(1, 2)) for level in out.mean(0).split(3, 2)], 1),
        lambda m, out: m.head(out.mean(0).transpose(1, 2).flatten(0, 1)[:9]),  # proposals, however many
    ],
    ids=["tokens", "levels", "proposals"],
)
def test_behind_the_mean_over_time_a_layer_is_computed_once(steps, late):
    """Fault: tokens, levels of a pyramid and proposals were taken for time steps."""
    torch.manual_seed(0)
    model = Small(steps)
    model.forward = lambda x: late(model, model.fc(model.neuron(model.conv(x).expand(steps, -1, -1, -1)).mT).mT)
    found = {layer.name: layer for layer in operations(model, [torch.rand(5, 2, 7), torch.rand(3, 2, 7)]).layers}
    assert (found["fc"].steps, found["head"].steps) == (steps, 1)
    assert found["fc"].macs == steps * 7 * 24


@pytest.mark.parametrize("steps", [2, 4])
def test_a_layer_that_is_computed_at_all_steps_and_once_more(steps):
    def run(m, x):
        out = m.neuron(m.fc(x))
        return m.both(out).mean(0) + m.both(out.mean(0))

    torch.manual_seed(0)
    model = Function(run, fc=nn.Linear(3, 5), neuron=create_neuron("lif", threshold=0.1), both=nn.Linear(5, 2))
    both = counted(model, torch.rand(steps, 3, 3), batch_axis=1)["both"]
    assert both.macs / both.steps == pytest.approx(20)  # once as one of the steps, and once more
    assert both.macs == (steps + 1) * 10


def test_a_first_layer_with_inputs_of_its_own_is_not_repeated():
    model = Function(lambda m, x: m.neuron(m.fc(x)), fc=nn.Linear(3, 5), neuron=create_neuron("lif"))
    found = operations(model, [torch.rand(4, 2, 3)], batch_axis=1)
    assert (found.macs, found.macs_repeated, found.dense_macs) == (60, 60, 15)


def test_what_comes_before_the_first_layer_is_not_repeated():
    [fc] = operations(nn.Linear(3, 5), [torch.rand(2, 3)]).layers
    neuron = LayerOperations("encoder", "neuron", None, 0.0, 0.0, (0.5,), False, (12.0,), 12.0, 0, 4, 12.0, 6.0)
    found = Operations((neuron, fc), 4, 2)
    assert (found.macs, found.macs_repeated) == (15, 60)


def test_the_mean_over_all_samples_however_they_are_batched():
    x = torch.rand(6, 2, 7)
    model = Small(3)
    whole, parts = operations(model, [x]), operations(model, [x[:1], x[1:5], x[5:]])
    assert (parts.samples, parts.time_steps) == (6, 3)
    for one, other in zip(whole.layers, parts.layers, strict=True):
        assert one.synaptic_operations == pytest.approx(other.synaptic_operations)
        assert one.rates == pytest.approx(other.rates)
        assert (one.macs, one.steps, one.updates) == (other.macs, other.steps, other.updates)


class Currents(nn.Module):
    """A linear layer [T, B, L, 3] -> [T, B, L, 5], and a neuron whose channels are the last but one axis."""

    def __init__(self, neuron):
        super().__init__()
        self.fc, self.neuron = nn.Linear(3, 5), neuron

    def forward(self, x):
        return self.neuron(self.fc(x).transpose(2, 3))


@pytest.mark.parametrize(
    ("name", "backend", "options", "macs"),
    [
        ("lif", "torch", {}, 0),
        ("psn", "torch", {"time_steps": 4}, 4 * 4 * 10),  # [T, T] @ [T, C L]
        ("masked_psn", "torch", {"time_steps": 4}, 4 * 4 * 10),
        ("sliding_psn", "torch", {}, 4 * 4 * 10),
        ("hdlif", "torch", {"time_steps": 4, "channels": 5}, 4 * 4 * 5 * 2),  # 4 experts, T C inputs each, L positions
        ("psn", "spikingjelly", {"time_steps": 4}, 4 * 4 * 10),
    ],
)
@pytest.mark.parametrize("compiled", ["0", "1"])
def test_matrix_products_inside_of_a_neuron(monkeypatch, name, backend, options, macs, compiled):
    pytest.importorskip(backend)
    monkeypatch.setenv("STEP_AHSAR_COMPILE", compiled)
    model = Currents(create_neuron(name, backend=backend, **options))
    found = operations(model, [torch.rand(4, 3, 2, 3)], batch_axis=1)
    dense = 4 * 2 * 15
    neuron = found.layers[1]
    assert [layer.kind for layer in found.layers] == ["linear", "neuron"]
    assert (neuron.macs, neuron.analog, neuron.updates) == (macs, macs > 0, 40)
    assert (found.macs, found.synaptic_operations, found.dense_macs) == (dense + macs, 0, dense / 4)


def test_groups_add_up():
    found = operations(Small(4), [torch.rand(5, 2, 7)])
    layers = [
        replace(layer, group=group) for layer, group in zip(found.layers, ["stem", "stem", "mlp", None], strict=True)
    ]
    groups = replace(found, layers=tuple(layers)).groups()
    assert list(groups) == ["stem", "mlp", "other"]
    conv, neuron, fc, head = found.layers
    assert groups["stem"] == (conv.macs, 0, neuron.updates, neuron.spikes)
    assert groups["mlp"] == (0, fc.synaptic_operations, 0, 0)
    assert groups["other"] == (head.macs, 0, 0, 0)
    twice = replace(found, layers=(neuron, neuron))
    assert (twice.spikes, twice.updates) == (2 * neuron.spikes, 2 * neuron.updates)
    assert neuron.spikes > 0


def test_compiled_neurons_are_counted_alike(monkeypatch):
    model, x = Small(4), torch.rand(5, 2, 7)
    eager = operations(model, [x])
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "1")
    assert operations(model, [x]) == eager


def test_silence_costs_nothing():
    model = Small(4)
    nn.init.zeros_(model.conv.weight)
    nn.init.zeros_(model.conv.bias)
    conv, neuron, fc, _ = operations(model, [torch.rand(2, 2, 7)]).layers
    assert (neuron.spikes, fc.synaptic_operations, fc.rates) == (0, 0, (0,))
    assert conv.macs > 0


def test_twice_the_time_steps_are_twice_the_operations():
    frames = spikes(3, 2, 4)  # [T, B, C]
    layer = nn.Linear(4, 5)
    once, twice = (operations(layer, [x], batch_axis=1) for x in (frames, frames.repeat(2, 1, 1)))
    assert twice.synaptic_operations == 2 * once.synaptic_operations > 0


def test_batches_of_different_kinds_are_one_layer():
    """Fault: a mean of spikes in one batch and of real numbers in the other moved the names of what followed."""
    model = Function(lambda m, x: (x.mean((1, 2)), m.fc(x).mean(1), (x * x.flip(1)).sum(1)), fc=nn.Linear(3, 5))
    found = operations(model, [torch.ones(2, 2, 3), torch.rand(2, 2, 3)])
    assert [(layer.name, layer.kind) for layer in found.layers] == [
        ("(model)", "sum"), ("fc", "linear"), ("(model)", "mask"), ("(model) #3", "sum")
    ]  # fmt: skip


def test_the_model_is_left_as_it_was():
    model = Small(2).train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    operations(model, [torch.rand(2, 2, 7)])
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    product = torch.rand(2, 2) @ torch.rand(2, 2)  # nothing is watched any more
    assert product.shape == (2, 2)


# -- other counters, other libraries, what is refused ------------------------------------------------------------------


def test_spikingjellys_counter_agrees():
    """Its synaptic operations of a spiking ResNet, whose inputs are binary but for the first layer's."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, neuron
    from spikingjelly.activation_based.model import spiking_resnet
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    torch.manual_seed(0)
    net = spiking_resnet.spiking_resnet18(num_classes=10, spiking_neuron=neuron.IFNode, v_threshold=0.05).eval()
    functional.set_step_mode(net, "m")
    x = torch.rand(3, 2, 3, 32, 32)
    theirs = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([theirs]):
        net(x)
    functional.reset_net(net)
    ours = operations(net, [x], batch_axis=1)
    weights = [layer for layer in ours.layers if layer.kind in ("conv", "linear") and not layer.analog]
    assert len(weights) == 20
    assert sum(layer.synaptic_operations for layer in weights) * 2 == theirs.get_total() > 0
    assert sum(layer.kind == "neuron" for layer in ours.layers) == 17
    assert ours.time_steps == 3


def test_spikingjellys_counter_agrees_on_a_convolutional_net_of_this_package():
    """The stem of Spikformer with SpikingJelly's neurons, on events: every input is binary."""
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter

    torch.manual_seed(0)
    model = timm.create_model("spikformer_dvs_2_64", backend="spikingjelly", threshold=0.1).eval()
    stem, x = model.patch_embed.stages, (torch.rand(4, 2, 2, 32, 32) < 0.2).float()
    theirs = SynOpCounter()
    with torch.no_grad(), DispatchCounterMode([theirs]):
        stem(x)
    ours = operations(stem, [x], batch_axis=1)
    convolutions = [layer for layer in ours.layers if layer.kind == "conv"]
    assert len(convolutions) == 4
    assert all(layer.synaptic_operations and not layer.analog for layer in convolutions)
    assert 2 * ours.synaptic_operations == theirs.get_total()


def test_neurobench_agrees_where_it_can_count():
    """Its effective accumulates of every weight layer whose inputs are binary. Attention it does not see."""
    # It is no dependency of the tests: it pulls numba and torchaudio. The agreement is in docs/operations.md.
    macs = pytest.importorskip("neurobench.metrics.utils.layers", reason="needs pip install neurobench")
    torch.manual_seed(0)
    model = timm.create_model("spikformer_2_64", in_chans=3, threshold=0.05).eval()
    inputs = {}

    def keep(name):
        return lambda module, given: inputs.setdefault(name, given[0].detach())

    weighted = nn.Conv2d | nn.Conv1d | nn.Linear
    hooks = [
        module.register_forward_pre_hook(keep(name))
        for name, module in model.named_modules()
        if isinstance(module, weighted)
    ]
    found = {layer.name: layer for layer in operations(model, [torch.rand(2, 3, 32, 32)]).layers}
    for hook in hooks:
        hook.remove()
    binary = {name: x for name, x in inputs.items() if x.max() == 1 and not found[name].analog}
    assert len(binary) == 8
    for name, x in binary.items():
        accumulates, spiking = macs.single_layer_MACs(x, model.get_submodule(name))
        assert spiking
        assert 2 * found[name].synaptic_operations == accumulates > 0


def test_spikingjelly_in_single_steps():
    pytest.importorskip("spikingjelly")
    from spikingjelly.activation_based import functional, layer, neuron

    net = nn.Sequential(
        layer.Conv2d(1, 2, 3, padding=1), neuron.IFNode(v_threshold=0.1), layer.Flatten(), layer.Linear(32, 4)
    )
    x = torch.rand(5, 1, 4, 4)

    def run(_, x):
        out = torch.stack([net(x) for _ in range(3)])
        functional.reset_net(net)
        return out.mean(0)

    model = Function(run, net=net)
    found = operations(model, [x])
    assert found.time_steps == 3
    assert [each.steps for each in found.layers] == [3, 3, 3]
    assert found.layers[0].macs == 3 * 2 * (4 * 9 + 8 * 6 + 4 * 4)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True), "attention"),
        (lambda: nn.LSTM(8, 8), "rnn"),
        (lambda: nn.Bilinear(8, 8, 3), "trilinear"),
    ],
)
def test_what_cannot_be_counted_is_named(make, named):
    def run(module, x):
        if isinstance(module.layer, nn.MultiheadAttention):
            return module.layer(x, x, x)
        return module.layer(x, x) if isinstance(module.layer, nn.Bilinear) else module.layer(x)

    model = Function(run, layer=make())
    with pytest.raises(UserError, match=rf"aten::\w*{named}\w* in layer \(.*\) cannot be counted"):
        operations(model, [torch.rand(2, 3, 8)])
    assert not any(module._forward_hooks for module in model.modules())
    assert F.relu(torch.ones(1)) == 1  # nothing is watched any more


@pytest.mark.parametrize(
    "compute",
    [
        lambda x: x.clone().mul_(x),
        lambda x: x.clone().div_(x + 1),
        lambda x: x.clone().square_(),
        lambda x: torch.addcmul(x, x, x),
        lambda x: torch.lerp(x, x + 1, x),
        lambda x: x.prod(-1),
        lambda x: x.cumprod(-1),
        lambda x: torch._foreach_mul([x], [x])[0],
        lambda x: torch.linalg.matrix_exp(x[:, :, :3]),
        lambda x: F.prelu(x, torch.rand(3)),
        lambda x: F.grid_sample(x[None], torch.rand(1, 2, 2, 2), align_corners=False),
        lambda x: F.embedding_bag(torch.zeros(1, 3, dtype=torch.long), x[0]),
    ],
)
def test_no_product_is_a_silent_zero(compute):
    with pytest.raises(UserError, match="cannot be counted; those of linear layers, convolutions, and products"):
        operations(Function(lambda m, x: compute(x)), [torch.rand(2, 3, 8)])


def test_scales_in_place_are_no_products():
    model = Function(lambda m, x: x.clone().mul_(2).mul_(m.fc.bias), fc=nn.Linear(2, 8))
    assert not operations(model, [torch.rand(2, 3, 8)]).layers


def test_unknown_libraries_are_refused():
    @torch.library.custom_op("mine::double", mutates_args=())
    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    with pytest.raises(UserError, match="operations of mine::double in"):
        operations(Function(lambda m, x: double(x)), [torch.rand(2, 3)])
