"""Norms in front of spiking neurons, over [T, B, C, *S].

All but the last normalise by statistics over time steps, batch and space together. They differ in what follows:

- ``bn``: batch norm, the same at every time step.
- ``tdbn``: threshold-dependent batch norm (Zheng et al., AAAI 2021, arXiv 2011.05280): initial weights are the
  neuron's threshold, so that initial inputs have the threshold as their standard deviation. It is the threshold
  without regulation: if the weights followed AHSAR's scale, they would cancel it.
- ``tebn``: temporal effective batch norm (Duan et al., NeurIPS 2022): a learnt factor for each time step. A model with
  it is bound to its T.
- ``none``: no statistics, only the learnt factor and shift by channel that a batch norm has as well. Only the initial
  weights then keep inputs from shrinking from layer to layer: see :class:`step_ahsar.layers.Blueprint`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.neurons.memory import by_samples, is_channels_last, ordered, restored
from step_ahsar.registry import Registry

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
BATCH_NORM: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


class ChannelScale(nn.Module):
    """What a batch norm is without its statistics: a learnt factor and a learnt shift for each channel.

    Args:
        channels: C.

    Attributes:
        weight: factors, [C], initially 1.
        bias: shifts, [C], initially 0.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, *S] -> [N, C, *S]``."""
        of_channel = (-1, *[1] * (x.ndim - 2))
        return x * self.weight.to(x.dtype).view(of_channel) + self.bias.to(x.dtype).view(of_channel)


Norm = nn.BatchNorm1d | nn.BatchNorm2d | ChannelScale  # or a subclass

# From channels, spatial dimensions, T, threshold and number of added branches to a norm.
NormFactory = Callable[[int, int, int | None, float, int], Norm]
NORMS = Registry[NormFactory]("norm")


class TemporalEffectiveNorm(nn.Module):
    """TEBN: a batch norm over [T*B, C, *S], then a factor for each time step. It takes [T, B, C, *S].

    It is mixed with a class of batch norms. Their arguments follow T.

    Args:
        time_steps: T.

    Attributes:
        step_scale: factors by time step, [T], initially 1.
    """

    def __init__(self, time_steps: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step_scale = nn.Parameter(torch.ones(time_steps))

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``. Raises UserError for another T."""
        self.check_steps(x)
        normed = _over_samples(super().forward, x)
        return normed * self.step_scale.to(normed.dtype).view(-1, *[1] * (x.ndim - 1))

    def check_steps(self, x: Tensor) -> None:
        """Raises UserError for an input of another T."""
        if len(x) != len(self.step_scale):
            raise UserError(
                f"norm 'tebn' was made for {len(self.step_scale)} time steps, got {len(x)} in {list(x.shape)}"
            )


class TemporalEffectiveNorm1d(TemporalEffectiveNorm, nn.BatchNorm1d):
    """TEBN over [T, B, C, L]."""


class TemporalEffectiveNorm2d(TemporalEffectiveNorm, nn.BatchNorm2d):
    """TEBN over [T, B, C, H, W]."""


def create_norm(
    name: str, channels: int, *, ndim: int, time_steps: int | None = None, threshold: float = 1.0, branches: int = 1
) -> Norm:
    """A norm of the registry.

    Args:
        name: its name.
        channels: C.
        ndim: spatial dimensions, 1 or 2.
        time_steps: T; only for ``tebn``.
        threshold: of the neuron that reads the norm, without regulation; only for ``tdbn``.
        branches: how many outputs of such norms are added in front of the neuron; only for ``tdbn``.

    Raises:
        UserError: an unknown name, or no T for a norm that needs one.
    """
    return NORMS[name](channels, ndim, time_steps, threshold, branches)


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)`` for ``x: [T, B, C, *S]``, whether the norm takes time steps or [T*B, C, *S]."""
    return norm(x) if isinstance(norm, TemporalEffectiveNorm) else _over_samples(norm, x)


def _over_samples(norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``x: [T, B, C, *S]`` through a norm that takes [N, C, *S]."""
    if not is_channels_last(x):
        return norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    if x.ndim == 4:  # torch is slow where tokens lie so, unless it sees them as samples
        return restored(norm(by_samples(x)), x, last=True)
    return norm(ordered(x, last=True).flatten(0, 1).movedim(-1, 1)).unflatten(0, x.shape[:2])


@NORMS.register("bn")
def _batch_norm(channels: int, ndim: int, time_steps: int | None, threshold: float, branches: int) -> Norm:
    return BATCH_NORM[ndim](channels)


@NORMS.register("tdbn")
def _threshold_dependent(channels: int, ndim: int, time_steps: int | None, threshold: float, branches: int) -> Norm:
    norm = BATCH_NORM[ndim](channels)
    nn.init.constant_(norm.weight, threshold / math.sqrt(branches))
    return norm


@NORMS.register("tebn")
def _temporal_effective(channels: int, ndim: int, time_steps: int | None, threshold: float, branches: int) -> Norm:
    if time_steps is None:
        raise UserError("norm 'tebn' has a factor for each time step and needs time_steps")
    return TemporalEffectiveNorm1d(time_steps, channels) if ndim == 1 else TemporalEffectiveNorm2d(time_steps, channels)


@NORMS.register("none")
def _no_norm(channels: int, ndim: int, time_steps: int | None, threshold: float, branches: int) -> Norm:
    return ChannelScale(channels)
