"""The pyramid against torchvision's, its shapes over both kinds of backbones, and its errors."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torchvision.ops import FeaturePyramidNetwork

from step_ahsar.errors import UserError
from step_ahsar.heads.pyramid import Pyramid, resize
from step_ahsar.layers import Blueprint

HIERARCHY = {"channels": [8, 16, 32], "reductions": [4, 8, 16]}
SINGLE = {"channels": [8, 8], "reductions": [16, 16]}


def levels(channels, reductions, size=64, time=()):
    return [torch.rand(*time, 2, c, size // r, size // r).round() for c, r in zip(channels, reductions, strict=True)]


def test_on_a_hierarchy_it_is_torchvisions_feature_pyramid():
    ours = Pyramid(**HIERARCHY, out_channels=12, strides=[4, 8, 16]).eval()
    theirs = FeaturePyramidNetwork([8, 16, 32], 12, norm_layer=nn.BatchNorm2d).eval()
    for block, lateral in zip(theirs.inner_blocks, ours.laterals, strict=True):
        block.load_state_dict(lateral[0].state_dict())
    for block, output in zip(theirs.layer_blocks, ours.outputs, strict=True):
        block.load_state_dict(output.state_dict())
    features = levels(**HIERARCHY)
    expected = theirs(OrderedDict(enumerate(features)))
    for mine, (_, reference) in zip(ours(features), expected.items(), strict=True):
        torch.testing.assert_close(mine, reference)


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("backbone", [HIERARCHY, SINGLE])
@pytest.mark.parametrize("strides", [[4, 8, 16], [2, 4, 8, 16, 32, 64], [32], [1]])
def test_every_stride_has_its_map(spiking, backbone, strides):
    neuron, time = (Blueprint(threshold=0.3), (3,)) if spiking else (None, ())
    maps = Pyramid(**backbone, out_channels=6, strides=strides, blueprint=neuron)(levels(**backbone, time=time))
    assert [tuple(x.shape) for x in maps] == [(*time, 2, 6, 64 // s, 64 // s) for s in strides]
    if spiking:
        assert {value for x in maps for value in x.unique().tolist()} <= {0.0, 1.0}


def test_levels_of_one_stride_make_a_simple_pyramid_of_the_last():
    pyramid = Pyramid(**SINGLE, out_channels=6, strides=[8, 16, 32]).eval()
    assert pyramid.sources == [1, 1, 1]
    _, last = features = levels(**SINGLE)
    alone = [output(lateral(last)) for lateral, output in zip(pyramid.laterals, pyramid.outputs, strict=True)]
    for x, expected in zip(pyramid(features), alone, strict=True):
        torch.testing.assert_close(x, expected)


def test_sizes_that_do_not_divide_meet():
    pyramid = Pyramid(**HIERARCHY, out_channels=6, strides=[4, 8, 16, 32])
    features = [torch.rand(2, c, *size) for c, size in ((8, (11, 9)), (16, (5, 5)), (32, (3, 2)))]
    assert [tuple(x.shape[-2:]) for x in pyramid(features)] == [(11, 9), (5, 5), (3, 2), (2, 1)]


def test_coarser_maps_reach_finer_ones_and_not_the_other_way():
    pyramid = Pyramid(**HIERARCHY, out_channels=6, strides=[4, 8, 16]).eval()
    fine, middle, coarse = levels(**HIERARCHY)
    before, after = pyramid([fine, middle, coarse]), pyramid([fine, middle, coarse + 1])
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    after = pyramid([fine + 1, middle, coarse])
    assert [torch.equal(a, b) for a, b in zip(before, after, strict=True)] == [False, True, True]


def test_spiking_layers_are_of_group_head_and_every_weight_learns():
    pyramid = Pyramid(**HIERARCHY, out_channels=6, strides=[2, 4, 8, 16, 32], blueprint=Blueprint("ahsar"))
    neurons = [m for m in pyramid.modules() if hasattr(m, "threshold_scale")]
    assert len(neurons) == 11  # a lateral and an output for each of 5 maps, one transposed convolution
    assert all(n.group == "head" and n.threshold_scale is not None for n in neurons)
    sum(x.sum() for x in pyramid(levels(**HIERARCHY, time=(2,)))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in pyramid.parameters())


def test_resize_keeps_leading_axes_and_values():
    x = torch.arange(12.0).reshape(1, 3, 1, 2, 2)
    assert resize(x, (2, 2)) is x
    up = resize(x, (4, 4))
    assert up.shape == (1, 3, 1, 4, 4)
    torch.testing.assert_close(up[..., ::2, ::2], x)
    assert resize(x[0], (3, 3), "bilinear")[0, 0, 1, 1] == 1.5  # the mean of 0, 1, 2 and 3


@pytest.mark.parametrize("strides", [[], [8, 4], [4, 4], [0, 4]])
def test_strides_must_ascend(strides):
    with pytest.raises(UserError, match="strides of a pyramid must be >= 1 and ascend"):
        Pyramid(**HIERARCHY, out_channels=6, strides=strides)


def test_strides_must_be_joined_to_a_level_by_a_power_of_two():
    with pytest.raises(UserError, match=r"stride 12 of a pyramid must be the stride of a level \(4, 8, 16\), times or"):
        Pyramid(**HIERARCHY, out_channels=6, strides=[4, 12])
