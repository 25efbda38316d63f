"""Neurons that learn their threshold with the weights: rivals of AHSAR. It can still scale what they have learnt."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.neurons import functional
from step_ahsar.neurons.backends.torch.base import TorchNeuron, check_size, check_tau
from step_ahsar.neurons.backends.torch.leaky import LIF
from step_ahsar.neurons.registry import register_neuron


@register_neuron("rouser", backend="torch")
class Rouser(LIF):
    r"""LIF with thresholds learnt by gradient descent (Takaghaj and Sampson, Rouser, arXiv 2407.19566).

    From the paper's abstract: the threshold is a parameter, not a hyperparameter, learnt alongside the weights in the
    training loop, by which silent neurons are roused. Decided here: the membrane is that of :class:`LIF`, so that the
    threshold is all that differs; its gradient goes through the surrogate of :math:`v - \theta` and, with a soft reset
    that is not detached, through the reset; nothing bounds it.

    Args:
        channels: C of [T, B, C, ...] for a threshold of each channel, which in dense layers is each neuron, as in the
            paper; None for one for the layer.
        options: of :class:`LIF`; ``threshold`` is where it starts.
    """

    def __init__(self, *, channels: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.channels = None if channels is None else check_size(channels, self.name, "channels")
        self.theta = nn.Parameter(torch.full(() if channels is None else (channels,), self.threshold))

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The learnt thresholds, 0-d or [C, 1], times ``threshold_scale``."""
        theta = self.theta[:, None] if self.theta.ndim else self.theta
        return theta if self.threshold_scale is None else theta * self.threshold_scale


@register_neuron("ltmd", backend="torch")
class LTMD(TorchNeuron):
    r"""Learnable thresholding (Wang, Cheng, Lim, LTMD, NeurIPS 2022): :math:`\theta = \tanh(k)`, one k for the layer.

    From the authors' code: the membrane of :func:`functional.ltmd_step` with a decay of 0.25, a hard reset that is not
    detached, a rectangular surrogate of width 1, and k from 0.5. Decided here: ``threshold`` sets where the threshold
    starts, as a factor on tanh that is 1 by default; a tie fires, as everywhere in this project. The moderate dropout
    of the paper is no part of the neuron: it acts on the classifier, which it runs twice on each batch for a loss on
    the difference.

    Args:
        threshold: where the threshold starts; the paper's is tanh(0.5) = 0.46.
        tau: membrane time constant in time steps, > 1; 4/3 is the decay of 0.25.
        surrogate: name of the surrogate.
        detach_reset: no gradient through the reset.
        options: alpha and reset of :class:`TorchNeuron`.
    """

    step = staticmethod(functional.ltmd_step)

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
        """What a time step leaves of the membrane."""
        return 1 - 1 / self.tau

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The learnt threshold, 0-d, times ``threshold_scale``."""
        return super().scaled_threshold(x) * (self.k.tanh() / math.tanh(0.5))
