"""Parallel spiking neurons: one matrix product computes all time steps at once. They have no reset."""

import math
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.neurons import equations
from step_ahsar.neurons.kernels import State
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import TorchNeuron, check_size


class ParallelNeuron(TorchNeuron):
    """A neuron of :mod:`equations.parallel`. A subclass has weights and a parameter ``bias``, the negative threshold.

    AHSAR scales the bias, which has the same effect as dividing the input. As long as the bias is negative, a lower
    scale gives more spikes.

    Args:
        threshold: the initial threshold.
        surrogate: name of the surrogate; the paper's is atan.
        options: alpha of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.psn_step)
    rest: tuple[float, ...] = ()
    fuses_norm = False  # the matrix product stands between norm and neuron
    without = ("reset", "detach_reset", "surrogate_scale")

    bias: nn.Parameter

    def __init__(self, *, surrogate: str = "atan", **options: Any) -> None:
        super().__init__(surrogate=surrogate, reset="hard", detach_reset=True, **options)

    def matrix(self, time_steps: int) -> Tensor:
        """Weights [T, T]."""
        raise NotImplementedError(f"{type(self).__name__} lacks matrix()")

    def multiply_threshold(self, scale: Tensor) -> None:
        """Multiplies the bias, which is the negative threshold, by ``scale``, 0-d."""
        self.bias.mul_(scale)

    def step_parameters(self, x: Tensor) -> dict[str, Tensor]:
        """No parameters: weights and bias are applied before the step."""
        return {}

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]`` and their number."""
        work = torch.promote_types(x.dtype, torch.float32)
        bias = self.bias if self.threshold_scale is None else self.bias * self.threshold_scale
        with torch.autocast(x.device.type, enabled=False):
            h = torch.addmm(bias.to(work), self.matrix(len(x)).to(work), rearrange(x, "t ... -> t (...)").to(work))
        spikes, count = super().simulate(h.view(x.shape))
        return spikes.to(x.dtype), count

    def stream(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Raises UserError."""
        raise UserError(f"neuron {self.name!r} cannot stream: it takes all time steps at once")


@register_neuron("psn", backend="torch")
class PSN(ParallelNeuron):
    """Parallel spiking neuron. Its matrix is full: a spike may depend on later inputs.

    Args:
        time_steps: T, >= 1.
        options: of :class:`ParallelNeuron`.
    """

    def __init__(self, *, time_steps: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.time_steps = steps = check_size(time_steps, self.name, "time_steps")
        self.weight = nn.Parameter(torch.empty(steps, steps))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.bias = nn.Parameter(torch.full((steps, 1), -self.threshold))

    def matrix(self, time_steps: int) -> Tensor:
        """Weights [T, T]."""
        return self.weight


@register_neuron("masked_psn", backend="torch")
class MaskedPSN(PSN):
    """Masked parallel spiking neuron, :func:`equations.masked_psn_weight`.

    Args:
        order: k, the number of inputs that count, including the present one, >= 1.
        masking: 0 (plain PSN) to 1 (only the last k inputs count). The paper raises it from 0 to 1 during training; the
            attribute may be set at any time.
        options: of :class:`PSN`.
    """

    def __init__(self, *, order: int = 2, masking: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.order = check_size(order, self.name, "order")
        if not 0 <= masking <= 1:
            raise UserError(f"masking must be in [0, 1], got {masking} (neuron {self.name!r})")
        self.masking = float(masking)

    def matrix(self, time_steps: int) -> Tensor:
        """Weights [T, T]."""
        return equations.masked_psn_weight(self.weight, self.order, self.masking)


@register_neuron("sliding_psn", backend="torch")
class SlidingPSN(ParallelNeuron):
    """Sliding parallel spiking neuron, :func:`equations.sliding_psn_weight`: the same k weights at every time step.

    It takes any T. Its initial weights are ..., 1/4, 1/2, 1.

    Args:
        order: k, the number of inputs that count, including the present one, >= 1.
        options: of :class:`ParallelNeuron`.
    """

    def __init__(self, *, order: int = 2, **options: Any) -> None:
        super().__init__(**options)
        self.order = check_size(order, self.name, "order")
        self.weight = nn.Parameter(0.5 ** torch.arange(self.order - 1, -1, -1.0))
        self.bias = nn.Parameter(torch.tensor(-self.threshold))

    def matrix(self, time_steps: int) -> Tensor:
        """Weights [T, T]."""
        return equations.sliding_psn_weight(self.weight, time_steps)
