"""Forward passes that leave a model as it was."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts the model in eval mode for the block; afterwards every part is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def without_traces(model: nn.Module, kept: Iterable[Tensor]) -> Iterator[None]:
    """Forward passes in the block change no buffer, such as a running average, and draw no random numbers.

    Args:
        model: the model.
        kept: buffers that they may change.
    """
    changing = {id(buffer) for buffer in kept}
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if id(buffer) not in changing
    ]
    devices = {each.device for each in model.parameters()}
    with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
        try:
            yield
        finally:
            for module, name, buffer, before in buffers:
                setattr(module, name, buffer)  # some modules replace their state
                buffer.copy_(before)
