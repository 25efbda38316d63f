"""Parallel spiking neurons: all time steps at once, without reset (Fang et al., NeurIPS 2023, arXiv 2304.12760).

.. math:: h = W x, \\quad s = H(h - B)

with x in [T, N], W in [T, T], thresholds B in [T] (one for the sliding form). Only the last step is elementwise.
"""

import torch
from torch import Tensor

from step_ahsar.neurons.equations.reset import Fire, Reset


def psn_step(x: Tensor, *, fire: Fire, reset: Reset) -> tuple[Tensor]:
    r"""The part after the matrix product: :math:`s = H(x)` of :math:`x = h - B`. It has no state."""
    return (fire(x),)


def masked_psn_weight(weight: Tensor, order: int, masking: float) -> Tensor:
    r"""Weights [T, T] of the masked PSN. With ``masking`` :math:`\lambda = 1` only the last ``order`` inputs count.

    .. math:: W \cdot (\lambda M + (1 - \lambda) J), \quad M_{ij} = 1 \text{ if } j \le i < j + order \text{ else } 0,

    where J is all ones. The paper raises :math:`\lambda` from 0 to 1 during training (progressive masking).
    """
    mask = torch.ones_like(weight).tril().triu(1 - order)
    return weight * (masking * mask + (1 - masking))


def sliding_psn_weight(weight: Tensor, time_steps: int) -> Tensor:
    r"""Weights [T, T] of the sliding PSN from its k weights, the last of which is for the present.

    .. math:: h_t = \sum_{i=0}^{k-1} w_i\, x_{t-k+1+i}, \quad x_t = 0 \text{ for } t < 0
    """
    order = len(weight)
    step = torch.arange(time_steps, device=weight.device)
    age = step[:, None] - step  # of input j at step i
    seen = (age >= 0) & (age < order)
    return torch.where(seen, weight[(order - 1 - age).clamp(0, order - 1)], 0)
