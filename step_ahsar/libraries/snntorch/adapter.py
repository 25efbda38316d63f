"""snnTorch's neurons (1.0): ``pip install "step-ahsar[snntorch]"``.

All of them run on Leaky, ``v <- beta v + x``, with its reset "zero". The reset comes at the start of the next step and
is detached, or with ``reset_delay=False`` it comes at once and is not detached. The spike function is the project's
own, because snnTorch's fire on ``>``.

With beta = 1 Leaky is IF; with beta = 1 - 1 / tau and the input x / tau it is LIF. Both are exact up to rounding: in
fp32 the last bit of a membrane may differ, so a spike may differ.

snnTorch's other resets have no counterpart in the registry. "subtract" subtracts the threshold after the leak; with
``reset_delay=False`` it subtracts again in later steps, as long as the membrane is still above the threshold. The reset
"zero" of Lapicque and of Synaptic (a CUBA-LIF) deletes the next input as well; with ``reset_delay=False`` it is never
detached.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.libraries.adapter import NodeNeuron
from step_ahsar.neurons import torch as ours
from step_ahsar.neurons.base import scalar
from step_ahsar.neurons.registry import register_neuron


class SnnTorchNeuron(NodeNeuron):
    """Leaky, driven step by step."""

    module = "snntorch"
    node_class = "Leaky"
    fixed: ClassVar = {**NodeNeuron.fixed, "reset": "hard"}

    def make_node(self) -> nn.Module:
        """The node. Its beta and threshold are set in each call."""
        snntorch = self.library()
        node = snntorch.Leaky(0.5, spike_grad=self.fire, reset_mechanism="zero", reset_delay=self.detach_reset)
        snntorch.SpikingNeuron.instances.remove(node)  # this list would keep the node alive for ever
        _clear(node)
        return node

    def drive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Leaky's beta, 0-d, and its input."""
        raise NotImplementedError(f"{type(self).__name__} lacks drive()")

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        node: Any = self.node
        node.threshold = self.scaled_threshold(x)
        node.beta, x = self.drive(x)
        v, spikes = torch.zeros_like(x[0]), []
        try:
            for step in x:
                s, v = node(step, v)
                spikes.append(s)
        finally:
            _clear(node)
        return torch.stack(spikes)


@register_neuron("if", backend="snntorch")
class IF(SnnTorchNeuron, ours.IF):
    """Integrate-and-fire: no leak."""

    def drive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """No leak."""
        return scalar(1.0, x), x


@register_neuron("lif", backend="snntorch")
class LIF(SnnTorchNeuron, ours.LIF):
    """Leaky integrate-and-fire: a decayed input."""

    def drive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A leak of 1 / tau."""
        return scalar(1 - 1 / self.tau, x), x / self.tau


@register_neuron("plif", backend="snntorch")
class PLIF(SnnTorchNeuron, ours.PLIF):
    """Parametric LIF: a decayed input, and beta computed from the learnt parameter."""

    def drive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A learnt leak."""
        leak = self.w.sigmoid()
        return 1 - leak, x * leak


def _clear(node: Any) -> None:
    node.mem = node.reset = node.beta = torch.empty(0)
