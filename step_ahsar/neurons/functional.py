"""Pure step equations, one function per neuron. No state is kept here and nothing is fused: see kernels.py.

Every step has the form ``step(x, *state, fire, reset, **parameters) -> (spikes, *state)`` for one time step, in which

- ``x`` is the input current, any shape; state variables and spikes have its shape,
- parameters are tensors that broadcast against ``x`` (0-d as a rule),
- ``fire(u)`` is the Heaviside step of ``u`` with a surrogate derivative,
- ``reset(v, s, threshold)`` applies the reset after a spike (:func:`hard_reset` or :func:`soft_reset`).
"""

from collections.abc import Callable

from torch import Tensor

Fire = Callable[[Tensor], Tensor]
Reset = Callable[[Tensor, Tensor, Tensor], Tensor]


def hard_reset(v: Tensor, s: Tensor, threshold: Tensor) -> Tensor:
    r""":math:`v \leftarrow v (1 - s)`: back to rest, 0."""
    return v * (1 - s)


def soft_reset(v: Tensor, s: Tensor, threshold: Tensor) -> Tensor:
    r""":math:`v \leftarrow v - \theta s`: what lies above the threshold stays."""
    return v - s * threshold


def if_step(x: Tensor, v: Tensor, *, threshold: Tensor, fire: Fire, reset: Reset) -> tuple[Tensor, Tensor]:
    r"""Integrate-and-fire (Lapicque 1907; Abbott 1999).

    .. math:: v \leftarrow v + x, \quad s = H(v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    v = v + x
    s = fire(v - threshold)
    return s, reset(v, s, threshold)


def lif_step(
    x: Tensor, v: Tensor, *, threshold: Tensor, tau: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor]:
    r"""Leaky integrate-and-fire with a decayed input (Fang et al. 2021, eq. 2; Spikformer, section 3.1).

    .. math:: v \leftarrow v + (x - v) / \tau, \quad s = H(v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    v = v + (x - v) / tau
    s = fire(v - threshold)
    return s, reset(v, s, threshold)


def plif_step(x: Tensor, v: Tensor, *, threshold: Tensor, w: Tensor, fire: Fire, reset: Reset) -> tuple[Tensor, Tensor]:
    r"""Parametric LIF (Fang et al. 2021, eq. 6): the leak is learnt, :math:`1 / \tau = \sigma(w)`.

    .. math:: v \leftarrow v + (x - v) \sigma(w), \quad s = H(v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    v = v + (x - v) * w.sigmoid()
    s = fire(v - threshold)
    return s, reset(v, s, threshold)
