"""Neurons that learn their threshold with the weights. They are alternatives to AHSAR, which can scale them as well."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.neurons import equations
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import TorchNeuron, check_size, check_tau
from step_ahsar.neurons.torch.leaky import LIF


@register_neuron("rouser", backend="torch")
class Rouser(LIF):
    r"""LIF with thresholds learnt by gradient descent (Takaghaj and Sampson, Rouser, arXiv 2407.19566).

    According to the paper's abstract the threshold is learnt alongside the weights, which wakes silent neurons. What
    the abstract leaves open is decided here: the membrane is that of :class:`LIF`, so that only the threshold differs.
    The threshold's gradient flows through the surrogate of :math:`v - \theta` and, with a soft reset that is not
    detached, through the reset. The threshold is not bounded.

    Args:
        channels: C of [T, B, C, ...] for one threshold per channel (in dense layers one per neuron, as in the paper);
            None for one threshold per layer.
        options: those of :class:`LIF`; ``threshold`` is the initial threshold.
    """

    def __init__(self, *, channels: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.channels = None if channels is None else check_size(channels, self.name, "channels")
        self.theta = nn.Parameter(torch.full(() if channels is None else (channels,), self.threshold))

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The learnt thresholds, 0-d or [C, 1], times ``threshold_scale``."""
        theta = self.theta[:, None] if self.theta.ndim else self.theta
        return theta if self.threshold_scale is None else theta * self.threshold_scale

    def multiply_threshold(self, scale: Tensor) -> None:
        """Multiplies the learnt thresholds by ``scale``, 0-d."""
        self.theta.mul_(scale)


@register_neuron("ltmd", backend="torch")
class LTMD(TorchNeuron):
    r"""Learnable thresholding (Wang, Cheng, Lim, LTMD, NeurIPS 2022): :math:`\theta = \tanh(k)`, one k for the layer.

    From the authors' code: the membrane of :func:`equations.ltmd_step` with a decay of 0.25, a hard reset that is not
    detached, a rectangular surrogate of width 1, and an initial k of 0.5. Two things are this project's own:
    ``threshold`` sets the initial threshold by a constant factor on tanh(k), and this factor is 1 by default; and a
    membrane equal to the threshold fires, as everywhere in this project. The paper's moderate dropout is not part of
    the neuron: it runs the classifier twice on each batch and adds a loss on the difference.

    Args:
        threshold: the initial threshold; the paper's is tanh(0.5) = 0.46.
        tau: membrane time constant in time steps, > 1; 4/3 is the decay of 0.25.
        surrogate: name of the surrogate.
        detach_reset: no gradient through the reset.
        options: alpha and reset of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.ltmd_step)

    def __init__(
        self,
        *,
        threshold: float = math.tanh(0.5),
        tau: float = 4 / 3,
        surrogate: str = "rectangle",
        detach_reset: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(threshold=threshold, surrogate=surrogate, detach_reset=detach_reset, **options)
        self.tau = check_tau(tau, self.name)
        self.k = nn.Parameter(torch.tensor(0.5))

    @property
    def decay(self) -> float:
        """The share of the membrane that remains after a time step."""
        return 1 - 1 / self.tau

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The learnt threshold, 0-d, times ``threshold_scale``."""
        return super().scaled_threshold(x) * (self.k.tanh() / math.tanh(0.5))
