"""How a series [C, L] enters a 1-d model: its samples as tokens, or playing over the simulation's time steps."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import pad

from step_ahsar.errors import UserError

Axis = Literal["tokens", "time"]


def positions(in_chans: int, length: int, axis: Axis, time_steps: int, img_size: int | None = None) -> tuple[int, int]:
    """Channels and length of what :func:`lay_out` makes of a series [in_chans, length].

    Args:
        in_chans: the series' channels.
        length: its samples.
        axis: ``tokens`` or ``time``.
        time_steps: T.
        img_size: the length wanted; None for as long as it takes.

    Raises:
        UserError: in time, more positions are needed than ``img_size``.

    >>> positions(40, 96, "time", 4)
    (1, 960)
    """
    if axis == "tokens":
        return in_chans, img_size or length
    needed = in_chans * -(-length // time_steps)
    if img_size is not None and img_size < needed:
        raise UserError(
            f"data.img_size is {img_size}, but {in_chans} channels of {length} samples over {time_steps} time steps "
            f"take {needed} positions at each: give at least {needed}, or leave it out"
        )
    return 1, img_size or needed


def lay_out(series: Tensor, axis: Axis, time_steps: int, length: int | None) -> Tensor:
    """A series as a model's input.

    ``tokens``: as it is, with zeros at its end up to ``length``, or cut there when it is longer. ``time``: with zeros
    at its end up to a multiple of T, in T chunks of K = ceil(L / T) samples. Step t shows its chunk of every channel
    side by side: sample k of channel c at position c K + k; zeros follow up to ``length`` positions. Nothing is cut.

    Args:
        series: [C, L].
        axis: ``tokens`` or ``time``.
        time_steps: T.
        length: the length wanted; None for as long as it takes.

    Returns:
        [C, length] of tokens; [T, 1, P] in time, P = C K or ``length``.

    Raises:
        UserError: in time, more positions are needed than ``length``.

    >>> import torch
    >>> lay_out(torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]), "time", 3, None).squeeze(1)
    tensor([[ 1,  2,  6,  7],
            [ 3,  4,  8,  9],
            [ 5,  0, 10,  0]])
    """
    channels, samples = series.shape
    _, size = positions(channels, samples, axis, time_steps, length)
    if axis == "tokens":
        return series[:, :size] if samples >= size else pad(series, (0, size - samples))
    chunk = -(-samples // time_steps)
    chunks = pad(series, (0, chunk * time_steps - samples)).reshape(channels, time_steps, chunk)
    steps = chunks.transpose(0, 1).reshape(time_steps, 1, channels * chunk)
    return pad(steps, (0, size - channels * chunk))
