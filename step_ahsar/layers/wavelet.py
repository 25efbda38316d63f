"""Frequency-aware token mixing by Haar wavelets (Spiking Wavelet Transformer)."""

from functools import lru_cache, partial
from math import sqrt

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import max_pool1d, max_pool2d

from step_ahsar.errors import UserError
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import GainNeuron, SpikingConv, at_every_step, stream_neuron


def haar_matrix(size: int) -> Tensor:
    """The orthonormal Haar matrix of all levels, [size, size] fp64, whose rows are the wavelets from coarse to fine.

    Raises:
        UserError: ``size`` is not a power of 2.

    >>> haar_matrix(2)
    tensor([[ 0.7071,  0.7071],
            [ 0.7071, -0.7071]], dtype=torch.float64)
    """
    if size < 1 or size & (size - 1):
        raise UserError(f"a Haar transform needs a number of tokens along each axis that is a power of 2, got {size}")
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        coarse = np.kron(matrix, [[1.0, 1.0]])
        fine = np.kron(np.eye(len(matrix)), [[1.0, -1.0]])
        matrix = np.concatenate([coarse, fine]) / sqrt(2)
    return torch.from_numpy(matrix)


def _haar_matrix_on(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """:func:`haar_matrix`, copied to a device once. It may be asked for in inference mode first and train later."""
    if torch.compiler.is_exporting():  # then tensors have no values, and must not be kept
        return haar_matrix(size).to(device, dtype)
    return _kept_haar_matrix(size, device, dtype)


@lru_cache(maxsize=64)
def _kept_haar_matrix(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False), torch.device("cpu"):
        return haar_matrix(size).to(device, dtype)


class Haar(nn.Module):
    """The Haar transform along one axis of [N, C, *S], or its inverse.

    Args:
        axis: -1 or -2.
        inverse: whether it is the inverse.
    """

    def __init__(self, axis: int, inverse: bool = False) -> None:
        super().__init__()
        self.axis, self.inverse = axis, inverse

    def forward(self, x: Tensor) -> Tensor:
        """``[..., *S] -> [..., *S]``. Raises UserError for a size that is not a power of 2."""
        matrix = _haar_matrix_on(x.shape[self.axis], x.device, x.dtype)
        if self.inverse:
            matrix = matrix.mT
        return x @ matrix.mT if self.axis == -1 else matrix @ x


class SharedConv(nn.Module):
    """One convolution for all blocks of channels. ``[N, b * C, *S] -> [N, b * C, *S]``.

    Args:
        conv: takes and gives C channels.
        blocks: b.
    """

    def __init__(self, conv: nn.Module, blocks: int) -> None:
        super().__init__()
        self.conv, self.blocks = conv, blocks

    def forward(self, x: Tensor) -> Tensor:
        """``[N, b * C, *S] -> [N, b * C, *S]``."""
        out = self.conv(rearrange(x, "n (b c) ... -> (n b) c ...", b=self.blocks))
        return rearrange(out, "(n b) c ... -> n (b c) ...", b=self.blocks)


class WaveletMixer(nn.Module):
    """Frequency-aware token mixer (FATM; Spiking Wavelet Transformer, arXiv 2403.11138).

    Three branches read the same spikes, and their outputs are added: a Haar transform whose coefficients are mixed
    among the channels of each block and transformed back, a 1x1 and a 3x3 convolution. Ternary neurons keep the sign
    of the coefficients. ``[T, B, C, *S] -> membranes [T, B, C, *S]``; each axis of S is a power of 2.

    Args:
        dim: channels C, a multiple of ``blocks``.
        blocks: blocks of channels. Mixing happens within a block, and one kernel serves the blocks of a convolution.
        blueprint: makes the layers.
        ndim: spatial dimensions.
        in_series: the form for event cameras: spikes and the transform's output are max-pooled (kernel 3, stride 1),
            and the convolutions read that output. Their sum alone is the result.

    Raises:
        UserError: ``dim`` is not a multiple of ``blocks``.
    """

    def __init__(self, dim: int, blocks: int, blueprint: Blueprint, *, ndim: int = 2, in_series: bool = False) -> None:
        super().__init__()
        if blocks < 1 or dim % blocks:
            raise UserError(f"{blocks} blocks of channels must divide {dim} channels")
        self.ndim, self.in_series = ndim, in_series
        axes = tuple(range(-1, -ndim - 1, -1))

        def signed() -> GainNeuron:
            return GainNeuron(blueprint.new_signed_neuron("attention", dim))

        def linear(group: str | None, conv: nn.Module, signed: bool = False) -> SpikingConv:
            return SpikingConv(dim, dim, blueprint, group, ndim=ndim, conv=conv, signed=signed)

        self.stream = stream_neuron(blueprint, "attention", dim)
        # Between the axes of a transform stands a neuron; what follows the last axis is norm and neuron, or norm.
        self.first_axes = nn.Sequential(*(part for axis in axes[:-1] for part in (Haar(axis), signed())))
        self.last_axis = linear("attention", Haar(axes[-1]))
        mixing = blueprint.new_conv(dim, dim, 1, ndim=ndim, std=0.02, groups=blocks, bias=False)
        self.mix = linear("attention", mixing, signed=True)
        self.first_axes_back = nn.Sequential(
            *(part for axis in axes[:-1] for part in (Haar(axis, inverse=True), signed()))
        )
        self.last_axis_back = linear(None, Haar(axes[-1], inverse=True))
        width = dim // blocks
        convs = (blueprint.new_conv(width, width, size, ndim=ndim, padding=size // 2) for size in (1, 3))
        self.pointwise, self.local = (linear(None, SharedConv(conv, blocks)) for conv in convs)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``. Raises UserError for a size that is not a power of 2."""
        x = self._pool(self.stream(x))
        coefficients = self.mix(self.last_axis(self.first_axes(x)))
        mixed = self._pool(self.last_axis_back(self.first_axes_back(coefficients)))
        if self.in_series:
            return self.pointwise(mixed) + self.local(mixed)
        return mixed + self.pointwise(x) + self.local(x)

    def _pool(self, x: Tensor) -> Tensor:
        if not self.in_series:
            return x
        pool = max_pool1d if self.ndim == 1 else max_pool2d
        return at_every_step(partial(pool, kernel_size=3, stride=1, padding=1), x)
