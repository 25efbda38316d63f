"""How a series [C, L] enters a 1-d model: with its samples as tokens, or with its time as the simulation's time."""

from typing import Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

Axis = Literal["tokens", "time"]
Fit = Literal["cut", "resample"]


def fit_length(series: Tensor, length: int | None, fit: Fit) -> Tensor:
    """Changes the length of a series.

    Args:
        series: [C, L].
        length: the new length; None leaves the series unchanged.
        fit: "cut" removes samples at the end, or appends zeros; "resample" interpolates linearly.

    >>> import torch
    >>> fit_length(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 2, "cut")
    tensor([[0., 1.]])
    >>> fit_length(torch.tensor([[0.0, 1.0]]), 4, "resample")
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    samples = series.shape[1]
    if length is None or length == samples:
        return series
    if fit == "resample":
        return F.interpolate(series[None], length, mode="linear", align_corners=False)[0]
    return series[:, :length] if samples > length else F.pad(series, (0, length - samples))


def positions(in_chans: int, length: int, axis: Axis, time_steps: int) -> tuple[int, int]:
    """Channels and length of the output of :func:`lay_out` for a series [in_chans, length].

    >>> positions(40, 96, "time", 4)
    (1, 960)
    """
    return (in_chans, length) if axis == "tokens" else (1, in_chans * -(-length // time_steps))


def lay_out(series: Tensor, axis: Axis, time_steps: int) -> Tensor:
    """Lays out a series as the input of a model.

    With ``tokens`` it is unchanged. With ``time`` it is padded with zeros to a multiple of T and divided into T chunks
    of K = ceil(L / T) samples. The input of time step t is chunk t of all channels, one after the other: sample k of
    channel c is at position c * K + k.

    Args:
        series: [C, L].
        axis: ``tokens`` or ``time``.
        time_steps: T.

    Returns:
        [C, L] of tokens; [T, 1, C K] in time.

    >>> import torch
    >>> lay_out(torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]), "time", 3).squeeze(1)
    tensor([[ 1,  2,  6,  7],
            [ 3,  4,  8,  9],
            [ 5,  0, 10,  0]])
    """
    if axis == "tokens":
        return series
    whole = F.pad(series, (0, -series.shape[1] % time_steps))
    return rearrange(whole, "c (t k) -> t 1 (c k)", t=time_steps)
