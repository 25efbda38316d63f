"""Haar transforms, and the mixer of the Spiking Wavelet Transformer written a second time."""

import math

import pytest
import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.layers import Blueprint, WaveletMixer
from step_ahsar.layers.conv import SpikingConv
from step_ahsar.layers.wavelet import Haar, haar_matrix

from .references import convolved, lif, lively, membranes, normed, pooled, same, ternary_if

BLUEPRINT = Blueprint(shortcut="membrane", threshold=0.2)
BLOCKS, WIDTH = 2, 3
SIZES = {1: (8,), 2: (4, 8)}


def wavelets(size: int) -> Tensor:
    """The mean; then at each level, for each range in turn, its first half minus its second half. Rows of norm 1."""
    rows, length = [torch.ones(size, dtype=torch.float64)], size
    while length > 1:
        for start in range(0, size, length):
            row = torch.zeros(size, dtype=torch.float64)
            row[start : start + length // 2] = 1
            row[start + length // 2 : start + length] = -1
            rows.append(row)
        length //= 2
    return torch.stack([row / row.square().sum().sqrt() for row in rows])


# -- transform ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 64])
def test_wavelets_are_orthonormal(size: int) -> None:
    matrix = haar_matrix(size)
    assert matrix.dtype == torch.float64
    same(matrix @ matrix.T, torch.eye(size, dtype=torch.float64))


def test_wavelets_of_four_samples() -> None:
    """The mean, the difference of the halves, and the differences within each half."""
    a = 1 / math.sqrt(2)
    rows = [[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, -0.5, -0.5], [a, -a, 0, 0], [0, 0, a, -a]]
    same(haar_matrix(4), torch.tensor(rows, dtype=torch.float64))


@pytest.mark.parametrize("size", [2, 8, 16])
def test_wavelets_go_from_coarse_to_fine(size: int) -> None:
    same(haar_matrix(size), wavelets(size))


@pytest.mark.parametrize("axis", [-1, -2])
def test_the_inverse_undoes_the_transform(axis: int) -> None:
    x = membranes(3, 2, 8, 8)
    coefficients = Haar(axis)(x)
    assert not torch.allclose(coefficients, x)
    same(Haar(axis, inverse=True)(coefficients), x)
    same(coefficients.square().sum(axis), x.square().sum(axis))


@pytest.mark.parametrize("size", [0, 3, 6, 14])
def test_sizes_are_powers_of_2(size: int) -> None:
    with pytest.raises(UserError, match=f"that is a power of 2, got {size}"):
        haar_matrix(size)


@pytest.mark.parametrize("size", [(4, 6), (6, 4)])
def test_the_mixer_takes_powers_of_2(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="that is a power of 2, got 6"):
        WaveletMixer(4, 2, BLUEPRINT)(torch.randn(2, 2, 4, *size))


# -- mixer -------------------------------------------------------------------------------------------------------------


def frequency_branch(s: Tensor, mixer: WaveletMixer) -> Tensor:
    """H T(s H^T), B, N, mixing within each block of channels, B, T, then x H, T, H^T x, B. In 1-d there is one H."""
    if s.ndim == 5:
        columns, rows = wavelets(s.shape[-1]), wavelets(s.shape[-2])
        half = ternary_if(torch.einsum("tbcij,vj->tbciv", s, columns), 0.2)
        coefficients = torch.einsum("ui,tbciv->tbcuv", rows, half)
    else:
        columns = wavelets(s.shape[-1])
        coefficients = torch.einsum("tbcj,vj->tbcv", s, columns)
    read = lif(normed(coefficients, mixer.last_axis.norm), 0.2)
    kernel = mixer.mix.conv.weight
    assert mixer.mix.conv.bias is None
    assert kernel.shape[:2] == (BLOCKS * WIDTH, WIDTH)
    mixed = torch.cat(
        [
            torch.einsum("oc,tbc...->tbo...", kernel[own].flatten(1), read[:, :, own])
            for own in (slice(0, WIDTH), slice(WIDTH, 2 * WIDTH))
        ],
        2,
    )
    mixed = ternary_if(normed(mixed, mixer.mix.norm), 0.2)
    if s.ndim == 5:
        half = ternary_if(torch.einsum("tbcuv,vj->tbcuj", mixed, columns), 0.2)
        back = torch.einsum("ui,tbcuj->tbcij", rows, half)
    else:
        back = torch.einsum("tbcv,vj->tbcj", mixed, columns)
    return normed(back, mixer.last_axis_back.norm)


def spatial_branch(x: Tensor, layer: SpikingConv, kernel_size: int) -> Tensor:
    """A convolution with bias whose one kernel of C / b channels serves all blocks; then a norm of all channels."""
    conv = layer.conv.conv
    assert conv.weight.shape == (WIDTH, WIDTH, *[kernel_size] * (x.ndim - 3))
    blocks = [convolved(block, conv, bias=True, padding=kernel_size // 2) for block in x.split(WIDTH, 2)]
    return normed(torch.cat(blocks, 2), layer.norm)


@pytest.mark.parametrize("ndim", [1, 2])
def test_three_branches_are_added(ndim: int) -> None:
    mixer, x = lively(WaveletMixer(BLOCKS * WIDTH, BLOCKS, BLUEPRINT, ndim=ndim)), membranes(4, 2, 6, *SIZES[ndim])
    s = lif(x, 0.2)
    expected = frequency_branch(s, mixer) + spatial_branch(s, mixer.pointwise, 1) + spatial_branch(s, mixer.local, 3)
    same(mixer(x), expected)


@pytest.mark.parametrize("ndim", [1, 2])
def test_branches_in_series(ndim: int) -> None:
    """For events: what the transform reads and what it gives are pooled; only the convolutions of that are added."""
    mixer = lively(WaveletMixer(BLOCKS * WIDTH, BLOCKS, BLUEPRINT, ndim=ndim, in_series=True))
    x = membranes(4, 2, 6, *SIZES[ndim]) - 0.5  # few spikes, so that some remain 0 when pooled
    s = pooled(lif(x, 0.2), stride=1)
    assert 0 < s.mean() < 1
    m = pooled(frequency_branch(s, mixer), stride=1)
    same(mixer(x), spatial_branch(m, mixer.pointwise, 1) + spatial_branch(m, mixer.local, 3))


def test_the_ternary_neurons_fire_with_both_signs() -> None:
    mixer, x = lively(WaveletMixer(6, 2, BLUEPRINT)), membranes(4, 2, 6, 4, 8)
    signs: dict[str, list[float]] = {}
    for name, module in mixer.named_modules():
        if getattr(module, "signed", False):
            module.register_forward_hook(lambda _, __, out, name=name: signs.update({name: out.unique().tolist()}))
    mixer(x)
    names = ("first_axes.1.neuron", "mix.neuron", "first_axes_back.1.neuron")
    assert signs == {name: [-1.0, 0.0, 1.0] for name in names}


def test_the_mixing_of_channels_starts_small() -> None:
    torch.manual_seed(0)
    weight = WaveletMixer(64, 4, Blueprint(shortcut="membrane", linear_std=None)).mix.conv.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("blocks", [0, 4, -2])
def test_blocks_must_divide_the_channels(blocks: int) -> None:
    with pytest.raises(UserError, match=f"{blocks} blocks of channels must divide 6 channels"):
        WaveletMixer(6, blocks, BLUEPRINT)


@pytest.mark.parametrize("bits", [None, 4])
def test_the_mixing_of_coefficients_starts_small(bits: int | None) -> None:
    torch.manual_seed(0)
    mixer = WaveletMixer(64, 2, Blueprint(shortcut="membrane", weight_bits=bits))
    weight = next(p for p in mixer.mix.conv.parameters() if p.ndim == 4)
    assert weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_a_transform_that_ran_in_inference_mode_trains() -> None:
    x = torch.randn(1, 2, 1024, dtype=torch.float64)  # a size that no other test asks for
    with torch.inference_mode():
        Haar(-1)(x)
    Haar(-1)(x.requires_grad_()).sum().backward()
    assert x.grad is not None
