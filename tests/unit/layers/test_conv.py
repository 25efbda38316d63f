import copy

import pytest
import torch

from step_ahsar.layers import Blueprint, SpikingConv, SpikingLinear
from step_ahsar.neurons import create_neuron


def conv(**options: object) -> SpikingConv:
    torch.manual_seed(0)
    return SpikingConv(3, 8, Blueprint(threshold=0.3), "stem", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "shape", "expected"),
    [
        ({}, (2, 4, 3, 8, 6), (2, 4, 8, 8, 6)),
        ({"pool": True}, (2, 4, 3, 8, 6), (2, 4, 8, 4, 3)),
        ({"pool": True, "pool_first": True}, (2, 4, 3, 8, 6), (2, 4, 8, 4, 3)),
        ({"kernel_size": 1, "stride": 4}, (2, 4, 3, 8, 8), (2, 4, 8, 2, 2)),
        ({"ndim": 1, "pool": True}, (2, 4, 3, 10), (2, 4, 8, 5)),
    ],
)
def test_shapes(options: dict[str, object], shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    spikes = conv(**options)(torch.randn(shape))
    assert spikes.shape == expected
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_is_conv_then_norm_then_neuron_at_every_step() -> None:
    layer = conv().eval()
    x = torch.randn(3, 2, 3, 6, 6)
    currents = torch.stack([layer.norm(layer.conv(frame)) for frame in x])
    assert torch.equal(layer(x), layer.neuron(currents))


def test_pool_order() -> None:
    after, before = conv(pool=True).eval(), conv(pool=True, pool_first=True).eval()
    x = torch.randn(4, 2, 3, 8, 8)
    spikes = conv().eval()(x)
    assert torch.equal(after(x), torch.nn.functional.max_pool2d(spikes.flatten(0, 1), 3, 2, 1).unflatten(0, (4, 2)))
    assert not torch.equal(after(x), before(x))


def test_an_image_expanded_over_time_gives_what_its_copies_give() -> None:
    expanded, copied = conv().double(), conv().double()
    image = torch.randn(4, 3, 8, 8).double()
    out = expanded(image.expand(5, *image.shape))
    reference = copied(image.repeat(5, 1, 1, 1, 1))
    assert torch.equal(out, reference)
    for spikes in (out, reference):
        (spikes * torch.arange(spikes.numel()).view_as(spikes).sin()).sum().backward()
    for (name, p), q in zip(expanded.named_parameters(), copied.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, q.grad, msg=lambda m, name=name: f"{name}: {m}")
    for p, q in zip(expanded.buffers(), copied.buffers(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("scale", [0.25, 0.7, 3.0])
@pytest.mark.parametrize("pool_first", [False, True])
def test_folding_a_scale_equals_scaling_the_threshold(scale: float, pool_first: bool) -> None:
    layer = conv(pool=True, pool_first=pool_first).double()
    layer(torch.randn(4, 2, 3, 8, 8).double())  # running averages other than 0 and 1
    scaled, folded = copy.deepcopy(layer).eval(), layer.eval()
    scaled.neuron = create_neuron("lif", threshold=0.3 * scale)
    folded.fold_scale(scale)
    x = torch.randn(4, 2, 3, 8, 8).double()
    assert torch.equal(folded(x), scaled(x))
    assert folded(x).mean() > 0


def test_linear_is_a_linear_layer_per_token() -> None:
    layer = SpikingLinear(6, 5, Blueprint("if", threshold=0.1), "mlp").eval()
    x = torch.randn(2, 3, 6, 4)
    currents = torch.nn.functional.linear(x.mT, layer.conv.weight[..., 0], layer.conv.bias).mT
    spikes = layer(x)
    assert spikes.shape == (2, 3, 5, 4)
    assert torch.equal(spikes, layer.neuron(layer.norm(currents.flatten(0, 1)).unflatten(0, (2, 3))))
    assert not layer.conv.bias.any()  # type: ignore[union-attr]
    assert layer.conv.weight.std() < 0.04
