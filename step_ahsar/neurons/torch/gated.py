"""Neurons that blend several dynamics by learnt gates."""

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from step_ahsar.neurons import equations
from step_ahsar.neurons.base import scalar
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import TorchNeuron, check_size, check_tau, logit


@register_neuron("glif", backend="torch")
class GLIF(TorchNeuron):
    """Gated LIF, :func:`equations.glif_step`, with parameters per layer or per channel. Its threshold is learnt, too.

    Initial values are those of the authors' code and of SpikingJelly's GatedLIFNode: gates drawn near 1/2, a linear
    leak of ``threshold / (2 T)``, a soft reset by the threshold. The reset is gated, so ``reset`` and ``detach_reset``
    are not options. AHSAR scales the unit of voltage.

    Args:
        time_steps: T, >= 1: the conductance has a value for each time step.
        channels: C of [T, B, C, ...] for parameters per channel; None for one set per layer.
        threshold: the initial threshold; training keeps it below twice this value.
        tau: initial time constant, in time steps, > 1; 4/3 is the authors' decay of 0.25.
        options: surrogate and alpha of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.glif_step)
    rest: tuple[float, ...] = (0.0, 0.0)
    without = ("reset", "detach_reset", "surrogate_scale")

    def __init__(
        self,
        *,
        time_steps: int | None = None,
        channels: int | None = None,
        threshold: float = 0.5,
        tau: float = 4 / 3,
        **options: Any,
    ) -> None:
        super().__init__(threshold=threshold, reset="hard", detach_reset=False, **options)
        self.time_steps = steps = check_size(time_steps, self.name, "time_steps")
        self.channels = None if channels is None else check_size(channels, self.name, "channels")
        self.tau = check_tau(tau, self.name)
        shape = () if channels is None else (channels,)
        for gate in ("gate_decay", "gate_input", "gate_reset"):
            self.register_parameter(gate, nn.Parameter(0.2 * (torch.rand(shape) - 0.5)))
        self.decay = logit(1 - 1 / self.tau, *shape)
        self.leak = logit(1 / (4 * steps), *shape)
        self.subtract, self.level = logit(0.5, *shape), logit(0.5, *shape)
        self.conductance = logit(0.5, steps, *shape)

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """The step equation's parameters: 0-d or [C, 1], and the conductance [T, 1, 1, 1] or [T, 1, C, 1]."""
        parameters = {name: p[:, None] if p.ndim else p for name, p in super().step_parameters(x).items()}
        conductance = self.conductance.view(len(x), -1)  # [T, C], or [T, 1]
        return parameters | {"conductance": rearrange(conductance, "t c -> t 1 c 1")}


EXPERTS = ("if", "lif", "plif", "eif")
ACTIVE = 2  # experts in use in inference


@register_neuron("hdlif", backend="torch")
class HDLIF(TorchNeuron):
    """Hybrid-dynamics LIF, :func:`equations.hdlif_step`: learnt gates choose between IF, LIF, PLIF and EIF.

    The gates at a position are a linear map of all T x C inputs there, followed by a softmax: over the four experts in
    training, over the best two in inference. Published as HD-IF (Wu et al. 2025); STEP lists it as HD-LIF.

    Two details of the authors' code are not followed. It takes a membrane of exactly 0 for a spike, so that a neuron at
    rest counts as spiking and the EIF, which resets to -0.1, never does. And its gates mix time steps with the images
    of a batch.

    Args:
        time_steps: T, >= 1.
        channels: C of [T, B, C, ...].
        threshold: of the experts; the blend's threshold is 0.4 times as large. AHSAR scales both.
        tau: time constant of LIF and EIF, and initial time constant of PLIF, in time steps, > 1.
        options: surrogate, alpha and detach_reset of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.hdlif_step)
    rest: tuple[float, ...] = equations.HDLIF_REST
    without = ("reset", "surrogate_scale")
    scales_with_input = False
    fuses_norm = False  # the gates need the norm's output

    def __init__(
        self,
        *,
        time_steps: int | None = None,
        channels: int | None = None,
        threshold: float = 0.5,
        tau: float = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(threshold=threshold, reset="hard", **options)
        self.time_steps = check_size(time_steps, self.name, "time_steps")
        self.channels = check_size(channels, self.name, "channels")
        self.tau = check_tau(tau, self.name)
        self.w = nn.Parameter(torch.tensor(-math.log(self.tau - 1)))
        self.gate = nn.Conv1d(self.time_steps * self.channels, len(EXPERTS), 1)

    def gates(self, x: Tensor) -> Tensor:
        """The experts' weights [4, B, 1, L] for ``x: [T, B, C, L]``."""
        scores = self.gate(rearrange(x, "t b c l -> b (t c) l").to(self.gate.weight.dtype))
        if not self.training:
            best = scores.topk(ACTIVE, dim=1).indices
            scores = torch.full_like(scores, -math.inf).scatter(1, best, scores.gather(1, best))
        return rearrange(scores.softmax(1), "b expert l -> expert b 1 l")

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """The step equation's parameters: 0-d, and the gates [B, 1, L]."""
        gates = self.gates(rearrange(x, "t b c ... -> t b c (...)"))
        return {
            "threshold": self.scaled_threshold(x),
            "tau": scalar(self.tau, x),
            "w": self.w,
            **{f"gate_{expert}": gate for expert, gate in zip(EXPERTS, gates, strict=True)},
        }
