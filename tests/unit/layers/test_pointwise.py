import pytest
import torch
from torch import nn

from step_ahsar.layers import Blueprint
from step_ahsar.layers.blueprint import CONV, POINTWISE

SIZES = {1: (7,), 2: (4, 5)}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize("last", [True, False])
def test_equals_a_convolution_in_values_and_gradients(ndim, bias, last):
    theirs = CONV[ndim](3, 6, 1, bias=bias).double()
    ours = POINTWISE[ndim](3, 6, 1, bias=bias).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, *SIZES[ndim], dtype=torch.float64)
    found = []
    for conv in (ours, theirs):
        given = x.movedim(1, -1).contiguous().movedim(-1, 1) if last else x.clone()
        given.requires_grad_()
        out = conv(given)
        (out * torch.arange(out.numel(), dtype=torch.float64).view(out.shape).sin()).sum().backward()
        found.append([out, given.grad, *(p.grad for p in conv.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert found[0][0].movedim(1, -1).is_contiguous()


@pytest.mark.parametrize("ndim", [1, 2])
@pytest.mark.parametrize(
    ("options", "is_pointwise"),
    [({}, True), ({"stride": 1, "groups": 1}, True), ({"stride": 2}, False), ({"groups": 2}, False)],
)
def test_only_what_is_a_matrix_product_is_computed_as_one(ndim, options, is_pointwise):
    conv = Blueprint().new_conv(4, 6, 1, ndim=ndim, **options)
    assert isinstance(conv, POINTWISE[ndim]) == is_pointwise
    assert isinstance(conv, (nn.Conv1d, nn.Conv2d)[ndim - 1])
    assert not isinstance(Blueprint().new_conv(4, 6, 3, ndim=ndim), POINTWISE[ndim])
