"""Neurons that find their threshold themselves: it is learnt with the weights, or follows the membranes of the layer.

They are alternatives to AHSAR, which can scale them as well.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar import internals, ranks
from step_ahsar.neurons import equations
from step_ahsar.neurons.base import scalar
from step_ahsar.neurons.kernels import working_dtype
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.surrogate import spike
from step_ahsar.neurons.torch.base import TorchNeuron, check_size, check_tau
from step_ahsar.neurons.torch.leaky import LIF, PLIF


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

    without = ("surrogate_scale",)

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
    without = ("surrogate_scale",)

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


@register_neuron("trsg", backend="torch")
class TrSG(PLIF):
    r"""Threshold-robust surrogate gradient (WACV 2026, arXiv 2511.08708): threshold and time constant are learnt.

    From the paper and the authors' code: :func:`equations.trsg_step` with :math:`\theta = \mathrm{softplus}(k)`, one k
    for the layer, and a straight-through gradient: the derivative of a spike by :math:`v / \theta` is 1 where
    :math:`|v / \theta - 1| < 1/2`, and 0 elsewhere.

    The paper multiplies spikes by :math:`\theta`, and divides that factor out of the next weights for inference. Here
    spikes are 1, as in every neuron, and the next weights have the factor from the start: spikes and gradients of
    membranes are those of the paper. The gradient of :math:`\theta` lacks the part that scales the next layer's input,
    which a norm behind that layer cancels. The paper's other proposal, MP-Init, starts membranes at a running average;
    here they start at rest.

    Args:
        threshold: the initial threshold.
        surrogate: name of the surrogate.
        detach_reset: no gradient through the spikes in the reset.
        options: tau and alpha of :class:`PLIF`. The reset is soft.
    """

    step = staticmethod(equations.trsg_step)
    without = ("reset", "surrogate_scale")

    def __init__(
        self, *, threshold: float = 2.0, surrogate: str = "rectangle", detach_reset: bool = False, **options: Any
    ) -> None:
        super().__init__(threshold=threshold, surrogate=surrogate, reset="soft", detach_reset=detach_reset, **options)
        self.k = nn.Parameter(_inverse_softplus(torch.tensor(self.threshold)))

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The learnt threshold, 0-d, times ``threshold_scale``."""
        theta = nn.functional.softplus(self.k)
        return theta if self.threshold_scale is None else theta * self.threshold_scale

    def multiply_threshold(self, scale: Tensor) -> None:
        """Multiplies the learnt threshold by ``scale``, 0-d."""
        self.k.copy_(_inverse_softplus(nn.functional.softplus(self.k) * scale))


def _inverse_softplus(y: Tensor) -> Tensor:
    """K with softplus(k) = y > 0, written so that a large y does not overflow."""
    return y + torch.log(-torch.expm1(-y))


@register_neuron("ds_atgo", backend="torch")
class DSATGO(TorchNeuron):
    r"""Thresholds and surrogate widths from the membranes of the layer (DS-ATGO, AAAI 2026, arXiv 2511.13050).

    From the paper and the authors' code: the membrane of :func:`equations.ltmd_step` with a decay of 0.2. In each time
    step of training, with the mean :math:`\mu` and the standard deviation :math:`\sigma` of the layer's membranes over
    the batch,

    .. math:: \theta = f\, (\mu + \sigma), \quad w = 1 + \tanh(\sigma - 1),

    and the surrogate, a rectangle, is w wide. No gradient goes through :math:`\theta` and w. In eval mode both follow
    from running averages of :math:`\mu + \sigma` and :math:`\sigma`, which begin at 1 and take a tenth of each batch.
    Statistics are those of all ranks. Since they stand between the time steps, this neuron runs step by step and is
    slower than the others.

    Args:
        threshold: f, the factor that controls the firing rate; the paper's is 1 in every layer.
        time_steps: T, >= 1.
        tau: membrane time constant in time steps, > 1; 1.25 is the decay of 0.2.
        surrogate: name of the surrogate.
        detach_reset: no gradient through the reset.
        options: alpha and reset of :class:`TorchNeuron`.

    Attributes:
        level: the running averages of mean plus deviation in each time step, [T].
        spread: the running averages of the deviation, [T].
    """

    fuses_norm = False
    without = ("surrogate_scale",)
    precise = (*TorchNeuron.precise, "level", "spread")
    momentum = 0.1

    level: Tensor
    spread: Tensor

    def __init__(
        self,
        *,
        time_steps: int | None = None,
        tau: float = 1.25,
        surrogate: str = "rectangle",
        detach_reset: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(surrogate=surrogate, detach_reset=detach_reset, **options)
        self.time_steps = steps = check_size(time_steps, self.name, "time_steps")
        self.tau = check_tau(tau, self.name)
        self.register_buffer("level", torch.ones(steps))
        self.register_buffer("spread", torch.ones(steps))

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``."""
        factor, alpha, decay = self.scaled_threshold(x), scalar(self.alpha, x), 1 - 1 / self.tau
        reset = equations.RESETS[self.reset]
        spikes, v = [], torch.zeros_like(x[0], dtype=working_dtype(x.dtype))
        for t, current in enumerate(x.to(v.dtype)):
            v = v * decay + current
            level, spread = self._statistics(v.detach(), t)
            theta, width = factor * level, 1 + torch.tanh(spread - 1)
            s = spike((v - theta) / width, alpha, self.surrogate)
            v = reset(v, s.detach() if self.detach_reset else s, theta)
            spikes.append(s)
        return torch.stack(spikes).to(x.dtype), None

    def _statistics(self, v: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """Mean plus deviation, and deviation, of the membranes at step t in training; in eval mode the averages."""
        if not self.training:
            return self.level[t], self.spread[t]
        number = ranks.total(v.new_full((), v.numel()))  # new_tensor() would wait for the device
        mean = ranks.total(v.sum()) / number
        spread = (ranks.total((v - mean).square().sum()) / (number - 1).clamp(min=1)).sqrt()
        # A recomputed forward pass, as under activation checkpointing, averages nothing a second time.
        if internals.is_compiling() or not internals.in_backward():
            for average, new in ((self.level, mean + spread), (self.spread, spread)):
                average[t] += self.momentum * (new - average[t])
        return mean + spread, spread
