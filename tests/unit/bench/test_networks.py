from dataclasses import replace

import pytest
import torch
from torch import nn

from step_ahsar import internals
from step_ahsar.bench import networks
from step_ahsar.bench.networks import OURS, REGULATED, RELU, RIVAL, TINY, Case, inference, network, training_step
from step_ahsar.bench.products import products_of
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron

CPU = torch.device("cpu")


def test_products_are_computed_again_with_their_operands():
    conv, linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
    x = torch.randn(2, 3, 6, 6)
    ran = []

    def step():
        y = conv(x).relu()
        z = linear(y.mean((-2, -1))).softmax(-1)
        (z @ z.mT).sum().backward()

    again = products_of(step)
    for parameter in (*conv.parameters(), *linear.parameters()):
        parameter.grad = None
    watch = internals.OperatorWatch(lambda name, args, out: ran.append((name, out)))
    watch.start()
    try:
        again()
    finally:
        watch.stop()
    # forward: the convolution, the linear layer, the product. Backward: two of the product, two of the linear layer
    # (its bias is a sum), one of the convolution, whose input needs no gradient
    names = [name for name, _ in ran]
    assert names == ["aten::convolution", "aten::addmm", *["aten::mm"] * 5, "aten::convolution_backward"]
    assert torch.equal(ran[0][1], conv(x))
    assert all(parameter.grad is None for parameter in conv.parameters())


def test_relu_stands_for_every_neuron_and_the_weights_are_the_same():
    ours, relu = network(OURS, TINY[0]), network(RELU, TINY[0])
    assert any(isinstance(module, SpikingNeuron) for module in ours.modules())
    assert not any(isinstance(module, SpikingNeuron) for module in relu.modules())
    state = ours.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in relu.state_dict().items())
    counts = [sum(isinstance(module, kind) for module in net.modules()) for net, kind in
              ((ours, SpikingNeuron), (relu, networks._Activation))]  # fmt: skip
    assert counts[0] == counts[1]


def test_the_rival_has_as_many_weights_but_for_biases():
    pytest.importorskip("spikingjelly")
    for case in (*TINY, *(case for case in networks.CASES if case.rival is not None)):
        shapes = [
            sorted(tuple(p.shape) for p in network(kind, case).parameters() if p.ndim > 1) for kind in (OURS, RIVAL)
        ]
        ours, theirs = ([p for shape in found for p in [torch.Size(shape).numel()]] for found in shapes)
        assert sum(ours) == sum(theirs), case.name


def test_a_rival_that_does_not_exist_is_told():
    with pytest.raises(UserError, match="SpikingJelly has no QKFormer 4-384, 32x32"):
        network(RIVAL, Case("QKFormer 4-384, 32x32", "qkformer_4_384", 8))


@pytest.mark.parametrize("kind", [OURS, REGULATED])
def test_a_training_step_moves_weights_and_thresholds(kind, monkeypatch):
    made = []
    monkeypatch.setattr(networks, "network", lambda *args: made.append(network(*args)) or made[-1])
    step = training_step(kind, TINY[0], CPU)
    before = {name: value.clone() for name, value in made[0].state_dict().items()}
    step()
    moved = {name for name, value in made[0].state_dict().items() if not torch.equal(value, before[name])}
    assert any(name.endswith("conv.weight") for name in moved)
    assert any("threshold_scale" in name for name in moved) == (kind == REGULATED)


def test_inference_is_of_a_folded_model_in_eval_mode(monkeypatch):
    folded = []
    fold = networks.fold
    monkeypatch.setattr(networks, "fold", lambda *args, **options: folded.append(fold(*args, **options)) or folded[-1])
    inference(OURS, replace(TINY[0], batch=1), CPU)()
    assert not folded[0].training
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded[0].modules())
