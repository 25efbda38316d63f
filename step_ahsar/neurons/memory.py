"""The order of axes in memory. The fused passes take tensors [T, B, C, *S] whose channels are last in memory, too.

Convolutions over such tensors are faster, and those of kernel size 1 are plain matrix products. The shape is the same
in either order. A pass runs in the order of its input, so nothing is copied on the way from layer to layer.
"""

from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of ``x: [T, B, C, *S]`` are last in memory. A tensor to which both orders apply is not."""
    if x.ndim < 4:
        return False
    step = x[0]  # an image that is repeated over time has no stride there
    return not step.is_contiguous() and step.movedim(1, -1).is_contiguous()


def ordered(x: Tensor, last: bool, channel: int = 2) -> Tensor:
    """``x: [T, B, C, *S]`` without gaps in memory, with its axes as they lie there; [T, B, *S, C] for channels last.

    Args:
        x: the tensor.
        last: whether its channels are to be last.
        channel: their axis; without the axis of time steps it is 1.
    """
    return x.movedim(channel, -1).contiguous() if last else x.contiguous()


def restored(flat: Tensor, like: Tensor, last: bool, channel: int = 2) -> Tensor:
    """A tensor of the shape of ``like`` from one that lies in memory as :func:`ordered` gives it."""
    return flat.view(like.movedim(channel, -1).shape).movedim(-1, channel) if last else flat.view(like.shape)


def turned(param: Tensor, last: bool) -> Tensor:
    """A parameter that is 0-d or broadcasts against [B, C, L], for [B, L, C] if the channels are last; and back."""
    return param.mT if last and param.ndim else param


def by_samples(x: Tensor) -> Tensor:
    """``x: [T, B, C, *S]`` for statistics: [T*B, C, *S], or [T*B*S, C] if the channels are last in memory."""
    return ordered(x, True).flatten(0, -2) if is_channels_last(x) else x.flatten(0, 1)
