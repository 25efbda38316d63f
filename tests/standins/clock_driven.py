"""A node as in SpikingJelly before release 0.0.0.0.14 (``clock_driven``), written from its documented behaviour.

Membrane and threshold are memories: every reset sets them to their reset values. The backend "cupy" takes a threshold
that is a number.
"""

import torch
from torch import Tensor, nn


def _fire(u: Tensor) -> Tensor:
    return (u >= 0).to(u.dtype)


class BaseNode(nn.Module):
    __module__ = "spikingjelly.clock_driven.neuron"  # by which it is recognised

    def __init__(self, v_threshold: float = 1.0, backend: str = "torch") -> None:
        super().__init__()
        self.backend, self.surrogate_function = backend, _fire
        self._memories = {"v": 0.0, "v_threshold": v_threshold}
        self._memories_rv = dict(self._memories)

    def __getattr__(self, name):
        memories = self.__dict__.get("_memories", {})
        return memories[name] if name in memories else super().__getattr__(name)

    def __setattr__(self, name, value):
        if name in self.__dict__.get("_memories", {}):
            self._memories[name] = value
        else:
            super().__setattr__(name, value)

    def set_reset_value(self, name, value):
        self._memories_rv[name] = value

    def reset(self):
        self._memories.update(self._memories_rv)

    def forward(self, x: Tensor) -> Tensor:
        if self.backend == "cupy" and not isinstance(self.v_threshold, float):
            raise TypeError("a CUDA kernel takes a number")
        spikes = []
        for step in x:
            self.v = self.v + step
            spikes.append(self.surrogate_function(self.v - self.v_threshold))
            self.v = self.v * (1 - spikes[-1])
        return torch.stack(spikes)
