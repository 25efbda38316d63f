"""Local mixing of SGLFormer: a convolutional module, and attention within tokens of equal parity."""

from typing import Any

from einops import rearrange
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.attention import SpikingSelfAttention
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import SpikingConv


class LocalModule(nn.Module):
    """Two residual steps of spiking convolutions (SGLFormer, doi 10.3389/fnins.2024.1371290).

    ``u = x + DW3(x)``, then ``u`` + (1x1 to ``ratio * C``, DW3, 1x1 back to C) of ``u``.
    ``[T, B, C, *S] -> integers [T, B, C, *S]``.

    Args:
        dim: channels C.
        blueprint: makes the layers.
        ratio: hidden channels, divided by C.
        ndim: spatial dimensions.
    """

    def __init__(self, dim: int, blueprint: Blueprint, *, ratio: float = 4.0, ndim: int = 2) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.mix = SpikingConv(dim, dim, blueprint, "attention", ndim=ndim, groups=dim)
        self.expand = SpikingConv(dim, hidden, blueprint, "mlp", ndim=ndim, kernel_size=1)
        self.hidden = SpikingConv(hidden, hidden, blueprint, "mlp", ndim=ndim, groups=hidden)
        self.project = SpikingConv(hidden, dim, blueprint, "mlp", ndim=ndim, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        x = x + self.mix(x)
        return x + self.project(self.hidden(self.expand(x)))


class ParityAttention(SpikingSelfAttention):
    """Self-attention within the tokens of equal row and column parity (LSSA of SGLFormer).

    Each group is the image at half the resolution. Arguments: :class:`SpikingAttention`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``; S even."""
        if any(size % 2 for size in x.shape[3:]):
            raise UserError(f"attention by parity takes maps of even size, got {list(x.shape[3:])}")
        if x.ndim == 4:
            groups = super().forward(rearrange(x, "t b c (l p) -> t (b p) c l", p=2))
            return rearrange(groups, "t (b p) c l -> t b c (l p)", p=2)
        parity: dict[str, Any] = {"p": 2, "q": 2}
        groups = super().forward(rearrange(x, "t b c (h p) (w q) -> t (b p q) c h w", **parity))
        return rearrange(groups, "t (b p q) c h w -> t b c (h p) (w q)", **parity)


class LearnedPool(nn.Module):
    """A learnt weighting of all positions and time steps of each channel, then a norm. ``[T, B, C, *S] -> [B, C]``.

    Args:
        channels: C.
        time_steps: T.
        tokens: number of positions.
    """

    def __init__(self, channels: int, time_steps: int, tokens: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (time_steps, tokens), groups=channels)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [B, C]``. Raises UserError for another T or another size than it was made for."""
        planes = rearrange(x, "t b c ... -> b c t (...)")
        if planes.shape[2:] != self.conv.kernel_size:
            steps, tokens = self.conv.kernel_size
            raise UserError(
                f"the learnt pooling was made for {steps} time steps and {tokens} tokens, got {planes.shape[2]} and "
                f"{planes.shape[3]}; learnt_pool=False takes any"
            )
        return self.norm(rearrange(self.conv(planes), "b c 1 1 -> b c"))
