"""Neurons that emit spikes of two signs."""

from torch import Tensor

from step_ahsar.neurons.equations.reset import Fire, Reset


def ternary_if_step(x: Tensor, v: Tensor, *, threshold: Tensor, fire: Fire, reset: Reset) -> tuple[Tensor, Tensor]:
    r"""Ternary integrate-and-fire (Spiking Wavelet Transformer, arXiv 2403.11138): spikes -1, 0 and 1.

    .. math:: v \leftarrow v + x, \quad s = H(v - \theta) - H(-v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)

    A hard reset follows a spike of either sign.
    """
    return _fire_both(v + x, threshold, fire, reset)


def ternary_lif_step(
    x: Tensor, v: Tensor, *, threshold: Tensor, tau: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor]:
    r"""Ternary leaky integrate-and-fire with a decayed input: :func:`ternary_if_step` with the membrane of LIF.

    .. math:: v \leftarrow v + (x - v) / \tau, \quad s = H(v - \theta) - H(-v - \theta)
    """
    return _fire_both(v + (x - v) / tau, threshold, fire, reset)


def _fire_both(v: Tensor, threshold: Tensor, fire: Fire, reset: Reset) -> tuple[Tensor, Tensor]:
    up, down = fire(v - threshold), fire(-v - threshold)
    s = up - down
    return s, reset(v, s, threshold, fired=up + down)
