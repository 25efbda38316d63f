"""Neurons whose membrane excites itself: the nonlinear integrate-and-fire models, and Hodgkin and Huxley's."""

import torch
from torch import Tensor

from step_ahsar.neurons.equations.reset import Fire, Reset

Value = Tensor | float


def eif_step(
    x: Tensor,
    v: Tensor,
    *,
    threshold: Tensor,
    tau: Tensor,
    delta_t: Value,
    theta_rh: Value,
    v_rest: Value,
    v_reset: Value,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, Tensor]:
    r"""Exponential integrate-and-fire (Fourcaud-Trocme et al. 2003; Gerstner et al., Neuronal Dynamics, section 5.2).

    .. math::
        v \leftarrow v + \big(x + v_{rest} - v + \Delta_T e^{(v - \theta_{rh}) / \Delta_T}\big) / \tau, \quad
        s = H(v - \theta), \quad v \leftarrow v_{reset} \text{ if } s
    """
    v = v + (x + v_rest - v + delta_t * torch.exp((v - theta_rh) / delta_t)) / tau
    s = fire(v - threshold)
    return s, reset(v, s, threshold, v_reset)


def qif_step(
    x: Tensor,
    v: Tensor,
    *,
    threshold: Tensor,
    tau: Tensor,
    a0: Tensor,
    v_c: Tensor,
    v_rest: Tensor,
    v_reset: Tensor,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, Tensor]:
    r"""Quadratic integrate-and-fire (Latham et al. 2000; Gerstner et al., Neuronal Dynamics, section 5.3).

    .. math::
        v \leftarrow v + \big(x + a_0 (v - v_{rest})(v - v_c)\big) / \tau, \quad
        s = H(v - \theta), \quad v \leftarrow v_{reset} \text{ if } s
    """
    v = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau
    s = fire(v - threshold)
    return s, reset(v, s, threshold, v_reset)


def izhikevich_step(
    x: Tensor,
    v: Tensor,
    w: Tensor,
    *,
    threshold: Tensor,
    tau: Tensor,
    a0: Tensor,
    v_c: Tensor,
    v_rest: Tensor,
    v_reset: Tensor,
    tau_w: Tensor,
    a: Tensor,
    b: Tensor,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Izhikevich's neuron (Izhikevich 2003, eq. 1-3), with its quadratic written by its roots.

    .. math::
        v \leftarrow v + \big(x + a_0 (v - v_{rest})(v - v_c) - w\big) / \tau, \quad s = H(v - \theta), \quad
        w \leftarrow w + \big(a (v - v_{rest}) - w\big) / \tau_w + b s, \quad v \leftarrow v_{reset} \text{ if } s

    In Izhikevich's own notation, with Euler steps of dt ms: :math:`\tau` = 1 / dt, :math:`a_0` = 0.04, :math:`v_{rest},
    v_c` the roots of :math:`0.04 v^2 + 5 v + 140` (-82.66 and -42.34 mV), :math:`\theta` = 30, :math:`v_{reset}` = c,
    :math:`\tau_w` = 1 / (a dt), a = b, b = d, and x = I - b :math:`v_{rest}`.
    """
    v = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
    s = fire(v - threshold)
    w = w + (a * (v - v_rest) - w) / tau_w + b * s
    return s, reset(v, s, threshold, v_reset), w


# -- Hodgkin and Huxley: mV, ms, mS/cm^2, uF/cm^2, uA/cm^2 -------------------------------------------------------------

_C = 1.0
_G_NA, _G_K, _G_L = 120.0, 36.0, 0.3
_E_NA, _E_K, _E_L = 50.0, -77.0, -54.387
_V_REST, _V_SPIKE = -65.0, 0.0
SUBSTEPS = 10


def hodgkin_huxley_step(
    x: Tensor,
    v: Tensor,
    m: Tensor,
    h: Tensor,
    n: Tensor,
    *,
    threshold: Tensor,
    current: Tensor,
    dt: Tensor,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, ...]:
    r"""The squid's giant axon (Hodgkin and Huxley 1952, eq. 26; rates: eq. 12, 13, 20, 21, 23, 24), resting at -65 mV.

    .. math::
        C \dot v = I - g_{Na} m^3 h (v - E_{Na}) - g_K n^4 (v - E_K) - g_L (v - E_L), \quad
        \dot y = \alpha_y(v) (1 - y) - \beta_y(v)\, y \text{ for } y = m, h, n, \quad I = I_0\, x / \theta

    C = 1 uF/cm^2; g = 120, 36, 0.3 mS/cm^2; E = 50, -77, -54.387 mV. The current I, in uA/cm^2, is constant over a time
    step of dt ms, which is integrated in 10 sub-steps of exponential Euler (Rush and Larsen 1978), stable for any
    input. The neuron spikes in each time step in which v rises through 0 mV; it needs no reset. ``fire`` is given the
    peak of v in the time step, in units of the 65 mV between rest and spike, so that the surrogate is as wide as for a
    LIF of threshold 1.
    """
    injected = current * x / threshold
    below = (v < _V_SPIKE).to(v.dtype)
    sub = dt / SUBSTEPS
    peak = None
    for _ in range(SUBSTEPS):
        m, h, n = (_relax(y, *rates, sub) for y, rates in zip((m, h, n), _rates(v), strict=True))
        g_na, g_k = _G_NA * m**3 * h, _G_K * n**4
        g = g_na + g_k + _G_L
        target = (g_na * _E_NA + g_k * _E_K + _G_L * _E_L + injected) / g
        v = target + (v - target) * torch.exp(-sub * g / _C)
        peak = v if peak is None else torch.maximum(peak, v)
    assert peak is not None
    return fire((peak - _V_SPIKE) / (_V_SPIKE - _V_REST)) * below, v, m, h, n


def _relax(y: Tensor, alpha: Tensor, beta: Tensor, dt: Tensor) -> Tensor:
    """A gating variable after dt ms at constant voltage."""
    rate = alpha + beta
    return y + (alpha / rate - y) * -torch.expm1(-dt * rate)


def _rates(v: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """(alpha, beta) in 1/ms of m, h and n.

    v is clamped: outside those bounds the gates are saturated and the rates would overflow.
    """
    u = v.clamp(-150, 100) - _V_REST
    return (
        (_linoid((u - 25) / 10), 4 * torch.exp(-u / 18)),
        (0.07 * torch.exp(-u / 20), 1 / (1 + torch.exp((30 - u) / 10))),
        (0.1 * _linoid((u - 10) / 10), 0.125 * torch.exp(-u / 80)),
    )


def _linoid(z: Tensor) -> Tensor:
    """``z / (1 - exp(-z))``, which is 1 at 0."""
    z = torch.where(z == 0, 1e-7, z)
    return z / -torch.expm1(-z)


def _rest() -> tuple[float, ...]:
    rates = _rates(torch.tensor(_V_REST, dtype=torch.float64))
    return _V_REST, *(float(alpha / (alpha + beta)) for alpha, beta in rates)


HH_REST = _rest()
