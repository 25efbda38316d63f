"""Spikes that stand for an attention product, to show what the attention is worth."""

from functools import lru_cache

import torch
from torch import Tensor, nn


class FixedSpikes(nn.Module):
    """Spikes that are drawn once and for all, each with probability 1/2, in place of a neuron behind a product.

    They are the same for every input and time step, and need no training: with them a model shows what its attention
    is worth.

    Args:
        channels: C of the spikes.
        seed: of the draw.
        everywhere: whether a channel has the same spike at every position.
    """

    def __init__(self, channels: int, seed: int, everywhere: bool = False) -> None:
        super().__init__()
        self.channels, self.seed, self.everywhere = channels, seed, everywhere

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C', N]``, of which only shape and dtype count, to spikes ``[T, B, C, N]`` or ``[T, B, C, 1]``."""
        steps, batch, _, tokens = x.shape
        spikes = _pattern(self.channels, 1 if self.everywhere else tokens, self.seed)
        return spikes.to(x).expand(steps, batch, -1, -1)


@lru_cache(maxsize=256)
def _pattern(channels: int, positions: int, seed: int) -> Tensor:
    with torch.device("cpu"):
        generator = torch.Generator().manual_seed(seed)
        return torch.rand(channels, positions, generator=generator) < 0.5
