"""The building blocks of every model: convolution or linear layer, norm, neuron."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.pool import MaxPool
from step_ahsar.neurons import SpikingNeuron, normalised
from step_ahsar.neurons.norms import ChannelScale, Norm, TemporalEffectiveNorm


class SpikingConv(nn.Module):
    """Convolution, norm and neuron, and optionally a max pool (kernel 3, stride 2) before or after the neuron.

    ``[T, B, C_in, *S] -> spikes [T, B, C_out, *S']``. Convolution, norm and pool treat every time step alike; their
    input is [T*B, ...].

    Without a neuron the output is the norm's, membranes. A pre-activation layer of the papers (neuron, convolution,
    norm) is such a layer behind a neuron: of the layer before it, or :class:`GainNeuron` on a residual stream.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        blueprint: makes convolution, norm and neuron.
        group: the neuron's group; None = no neuron.
        ndim: spatial dimensions, 2 for images and 1 for sequences and tokens.
        kernel_size: of the convolution.
        padding: None = that which keeps the size, for an odd kernel.
        stride: of the convolution.
        groups: of the convolution; C_in = depthwise.
        bias: whether the convolution has a bias.
        pool: whether there is a pool, which halves the size.
        pool_first: pool the norm's output instead of the spikes.
        ends_branch: whether the output is added to a residual stream. If the blueprint's shortcuts add membranes, the
            layer then has no neuron.
        linear: whether it stands for a linear layer, whose initial weights may differ.
        signed: whether the neuron emits spikes of both signs.
        conv: a module [N, C_in, *S] -> [N, C_out, *S'] in place of the convolution; None = a convolution.
    """

    folds_into_weights: ClassVar[bool] = True

    neuron: nn.Module | None
    norm: Norm | nn.Identity
    conv: nn.Module

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blueprint: Blueprint,
        group: str | None,
        *,
        ndim: int = 2,
        kernel_size: int = 3,
        padding: int | None = None,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        pool: bool = False,
        pool_first: bool = False,
        ends_branch: bool = False,
        linear: bool = False,
        signed: bool = False,
        conv: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if ends_branch and blueprint.membrane_shortcut:
            group = None
        new_neuron = blueprint.new_signed_neuron if signed else blueprint.new_neuron
        neuron = None if group is None else new_neuron(group, out_channels)
        self.conv = conv or blueprint.new_conv(
            in_channels,
            out_channels,
            kernel_size,
            ndim=ndim,
            stride=stride,
            padding=kernel_size // 2 if padding is None else padding,
            groups=groups,
            bias=bias,
            linear=linear,
        )
        self.norm = blueprint.new_norm(out_channels, ndim=ndim, branches=1 + (ends_branch and neuron is None))
        self.neuron = neuron
        self.pool = MaxPool() if pool else None
        self.pool_first = pool_first

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T, B, C_out, *S']``."""
        x = self._convolve(x)
        if self.neuron is None:
            return self._pool(normalised(self.norm, x))
        if self.pool_first:
            return self.neuron(self._pool(normalised(self.norm, x)))
        return self._pool(self.neuron(x, self.norm))

    def _convolve(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T, B, C_out, *S']``."""
        return at_every_step(lambda samples: self.conv(channels_last(samples)), x)

    def _pool(self, x: Tensor) -> Tensor:
        return x if self.pool is None else at_every_step(self.pool, x)

    @torch.no_grad()
    def fold_scale(self, scale: float) -> None:
        """Divides the neuron's input by ``scale`` > 0, which has the same effect as multiplying its threshold by it."""
        last: Any = self.conv if isinstance(self.norm, nn.Identity) else self.norm
        last.weight.div_(scale)
        last.bias.div_(scale)

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Makes the norm, as it is in eval mode, part of the convolution, which gets a bias.

        It stays where there are no such weights: TEBN's factors differ between time steps, quantised weights keep their
        steps, a re-parametrised convolution is several, and a wavelet transform has none.
        """
        conv, norm = self.conv, self.norm
        if not isinstance(conv, nn.Conv1d | nn.Conv2d) or is_parametrized(conv):
            return
        if isinstance(norm, TemporalEffectiveNorm | nn.Identity):
            return
        if isinstance(norm, ChannelScale):
            mean, variance, eps = torch.zeros_like(norm.bias), torch.ones_like(norm.bias), 0.0
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean, variance, eps = norm.running_mean, norm.running_var, norm.eps
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean, variance, eps, norm.weight, norm.bias
        )
        self.norm = nn.Identity()


def channels_last(x: Tensor) -> Tensor:
    """``x: [N, C, H, W]`` with the channels last in memory; ``[N, C, L]`` as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def at_every_step(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``x: [T, B, C, *S]`` through a function of [N, C, *S]. What is the same at every time step is computed once."""
    if x.stride(0):
        return function(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    once = function(x[0])
    return once.expand(len(x), *once.shape)


class SpikingLinear(SpikingConv):
    """Linear, norm and neuron over tokens: ``[T, B, C_in, *S] -> spikes [T, B, C_out, *S]``. Every position is a token.

    The channels come before the tokens, so the linear layer is a convolution of kernel size 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blueprint: Blueprint,
        group: str | None,
        *,
        bias: bool = True,
        ends_branch: bool = False,
    ) -> None:
        options: dict[str, Any] = {"bias": bias, "ends_branch": ends_branch}
        super().__init__(in_channels, out_channels, blueprint, group, ndim=1, kernel_size=1, linear=True, **options)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T, B, C_out, *S]``."""
        tokens = rearrange(x, "t b c ... -> t b c (...)")
        return super().forward(tokens).view(*x.shape[:2], -1, *x.shape[3:])


class PlainConv(nn.Module):
    """A convolution alone, the same at every time step. ``[T, B, C_in, *S] -> [T, B, C_out, *S']``."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T, B, C_out, *S']``."""
        return at_every_step(self.conv, x)


class GainNeuron(nn.Module):
    """A neuron without a norm in front: on a residual stream of membranes, or behind a product.

    What it receives may be read by a shortcut, too. So it owns a gain, initially 1, into which AHSAR's scale is folded.

    Args:
        neuron: the neuron.
    """

    folds_into_weights: ClassVar[bool] = False  # the gain is not part of a state dict

    def __init__(self, neuron: SpikingNeuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.gain = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Membranes ``[T, B, C, *S]`` to spikes of the same shape."""
        return self.neuron(self._scaled(x))

    def foresee(self, x: Tensor) -> Tensor:
        """The spikes of :meth:`forward`, which are not counted and start no hook."""
        return self.neuron.simulate(self._scaled(x))[0]

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.gain == 1 else x * self.gain

    def fold_scale(self, scale: float) -> None:
        """Divides the neuron's input by ``scale`` > 0."""
        self.gain /= float(scale)


def stream_neuron(blueprint: Blueprint, group: str, channels: int) -> nn.Module:
    """What comes first in a branch: a :class:`GainNeuron`, or nothing where shortcuts add spikes."""
    return GainNeuron(blueprint.new_neuron(group, channels)) if blueprint.membrane_shortcut else nn.Identity()
