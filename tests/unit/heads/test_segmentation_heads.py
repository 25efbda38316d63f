"""Segmentation heads: shapes, what they merge, and their neurons."""

import pytest
import torch
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.heads.segmentation import PyramidPooling, SegmentationHead, SemanticFPN, pyramid_strides
from step_ahsar.layers import Blueprint

# reductions of the backbones' levels: qkformer_3_64, _imagenet_3_64, _dvs_2_64, spikformer_2_64, _imagenet_2_64
REDUCTIONS = [(1, 2, 4), (4, 8, 16), (8, 16), (4, 4), (16, 16)]


def head(name, reductions, spiking=False, neuron="lif"):
    factory = Blueprint(neuron, threshold=0.3) if spiking else None
    return SegmentationHead(name, [8] * len(reductions), reductions, 6, 5, factory)


def levels(reductions, size=32, time=()):
    return [torch.rand(*time, 2, 8, size // r, size // r).round() for r in reductions]


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("reductions", REDUCTIONS)
@pytest.mark.parametrize("name", ["fcn", "fpn", "upernet"])
def test_logits_for_every_class_and_a_gradient_for_every_weight(name, reductions, spiking):
    net = head(name, reductions, spiking)
    logits = net(levels(reductions, time=(3,) if spiking else ()))
    stride = reductions[-1] if name == "fcn" else pyramid_strides(reductions)[0]
    assert logits.shape == (2, 5, 32 // stride, 32 // stride)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


@pytest.mark.parametrize("name", ["fcn", "fpn", "upernet"])
def test_one_image_can_be_learnt_from(name):
    logits = head(name, (16, 16))([x[:1] for x in levels((16, 16))])  # pooled to a single pixel and back
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", ["fcn", "fpn", "upernet"])
def test_neurons_of_a_spiking_head_are_in_group_head(name):
    net = head(name, (4, 8), spiking=True, neuron="ahsar")
    neurons = [m for m in net.modules() if hasattr(m, "threshold_scale")]
    assert neurons
    assert all(n.group == "head" and n.threshold_scale is not None for n in neurons)
    assert not any(isinstance(m, nn.ReLU) for m in net.modules())


def test_the_classifier_sees_the_mean_over_time():
    net = head("fcn", (4,), spiking=True).eval()
    features = levels((4,), time=(4,))
    each = torch.stack([net.classifier(step) for step in net.body(features)])
    torch.testing.assert_close(net(features), each.mean(0))


def test_spikes_stay_spikes_on_their_way_through_a_semantic_fpn():
    body = SemanticFPN([8, 8, 8], (4, 8, 16), 6, Blueprint(threshold=0.3))
    merged = body(levels((4, 8, 16), time=(2,)))
    assert set(merged.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}  # a sum of three maps of spikes
    assert merged.max() > 0


def test_pyramid_pooling_averages_over_grids():
    pooling = PyramidPooling(2, 3).eval()
    seen = []
    for branch in pooling.branches:
        branch.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    x = torch.rand(1, 2, 6, 6)
    assert pooling(x).shape == (1, 3, 6, 6)
    torch.testing.assert_close(seen[0], x.mean((2, 3), keepdim=True).expand_as(x))
    halves = x.reshape(1, 2, 2, 3, 2, 3).mean((3, 5))
    torch.testing.assert_close(seen[1], halves.repeat_interleave(3, 2).repeat_interleave(3, 3))
    torch.testing.assert_close(seen[3], x)


@pytest.mark.parametrize(
    ("reductions", "strides"),
    [*zip(REDUCTIONS, [[2, 4], [4, 8, 16], [4, 8, 16], [2, 4], [4, 8, 16]], strict=True), ((1,), [2])],
)
def test_strides_of_the_pyramid(reductions, strides):
    assert pyramid_strides(reductions) == strides


def test_unknown_heads_are_named():
    with pytest.raises(UserError, match="unknown segmentation head 'fcos'; known: fcn, fpn, upernet"):
        head("fcos", (4,))
