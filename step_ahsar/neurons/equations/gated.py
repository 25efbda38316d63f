"""Neurons that blend several dynamics by learnt gates."""

import torch
from torch import Tensor

from step_ahsar.neurons.equations.excitable import eif_step
from step_ahsar.neurons.equations.leaky import if_step, lif_step, plif_step
from step_ahsar.neurons.equations.reset import Fire, Reset


def glif_step(
    x: Tensor,
    v: Tensor,
    s: Tensor,
    *,
    threshold: Tensor,
    gate_decay: Tensor,
    gate_input: Tensor,
    gate_reset: Tensor,
    decay: Tensor,
    leak: Tensor,
    subtract: Tensor,
    level: Tensor,
    conductance: Tensor,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Gated LIF (Yao et al., GLIF, NeurIPS 2022, arXiv 2210.13768), which blends two forms of decay, input, reset.

    .. math::
        v_t = \big(1 - \alpha (1 - d)\big) v_{t-1} (1 - \gamma s_{t-1}) - (1 - \alpha)\, l
            + \big(1 - \beta (1 - g_t)\big) x_t - (1 - \gamma)\, r\, s_{t-1}, \quad s_t = H(v_t - \vartheta)

    where the gates are :math:`\alpha` (exponential or linear decay), :math:`\beta` (weighted or plain input) and
    :math:`\gamma` (hard or soft reset); d is the decay, l the linear leak, r what a soft reset subtracts, :math:`g_t`
    the conductance (one for each time step) and :math:`\vartheta` the threshold. All of them are sigmoids of learnt
    parameters. The three voltages :math:`l, r, \vartheta` are :math:`2 \theta \sigma(\cdot)`: :math:`\theta` is the
    unit of voltage, and :math:`\theta = 0.5` gives the paper's form.
    """
    unit = 2 * threshold
    alpha, beta, gamma = gate_decay.sigmoid(), gate_input.sigmoid(), gate_reset.sigmoid()
    kept = (1 - alpha * (1 - decay.sigmoid())) * v
    current = x * (1 - beta * (1 - conductance.sigmoid()))
    v = kept - (1 - alpha) * (unit * leak.sigmoid()) + current
    v = v - kept * gamma * s - (1 - gamma) * (unit * subtract.sigmoid()) * s
    s = fire(v - unit * level.sigmoid())
    return s, v, s


HDLIF_RATIO = 0.4  # the blend's threshold divided by the experts' threshold: 0.2 / 0.5 in the authors' code
_EIF_RESET = -0.1
HDLIF_REST = (0.0, 0.0, 0.0, _EIF_RESET)


def hdlif_step(
    x: Tensor,
    v_if: Tensor,
    v_lif: Tensor,
    v_plif: Tensor,
    v_eif: Tensor,
    *,
    threshold: Tensor,
    tau: Tensor,
    w: Tensor,
    gate_if: Tensor,
    gate_lif: Tensor,
    gate_plif: Tensor,
    gate_eif: Tensor,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, ...]:
    r"""Hybrid-dynamics LIF (Wu et al., Spiking Point Transformer, AAAI 2025, arXiv 2502.15811, where it is HD-IF).

    IF, LIF, PLIF and EIF run side by side, as experts on the same input. Each expert e contributes its membrane after
    the step, or its threshold if it fired. The gates g, which sum to 1, blend the contributions, and the neuron fires
    where the blend reaches its threshold:

    .. math:: u_e = \theta \text{ if } s_e \text{ else } v_e, \quad s = H\Big(\sum_e g_e u_e - 0.4\, \theta\Big)
    """
    s_if, v_if = if_step(x, v_if, threshold=threshold, fire=fire, reset=reset)
    s_lif, v_lif = lif_step(x, v_lif, threshold=threshold, tau=tau, fire=fire, reset=reset)
    s_plif, v_plif = plif_step(x, v_plif, threshold=threshold, w=w, fire=fire, reset=reset)
    s_eif, v_eif = eif_step(
        x, v_eif, threshold=threshold, tau=tau, delta_t=1.0, theta_rh=0.8, v_rest=0.0, v_reset=_EIF_RESET,
        fire=fire, reset=reset,
    )  # fmt: skip
    blend = (
        gate_if * torch.where(s_if > 0, threshold, v_if)
        + gate_lif * torch.where(s_lif > 0, threshold, v_lif)
        + gate_plif * torch.where(s_plif > 0, threshold, v_plif)
        + gate_eif * torch.where(s_eif > 0, threshold, v_eif)
    )
    return fire(blend - HDLIF_RATIO * threshold), v_if, v_lif, v_plif, v_eif
