"""Integrate-and-fire neurons whose membrane is linear below the threshold."""

from torch import Tensor

from step_ahsar.neurons.equations.reset import Fire, Reset


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


def klif_step(
    x: Tensor, v: Tensor, *, threshold: Tensor, tau: Tensor, k: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor]:
    r"""KLIF (Jiang and Zhang 2023, arXiv 2302.09238): a learnt k scales the membrane and thus the surrogate's slope.

    .. math::
        v \leftarrow \mathrm{ReLU}\big(k\, (v + (x - v) / \tau)\big), \quad
        s = H(v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    v = (k * (v + (x - v) / tau)).relu()
    s = fire(v - threshold)
    return s, reset(v, s, threshold)


def clif_step(
    x: Tensor, v: Tensor, m: Tensor, *, threshold: Tensor, tau: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Complementary LIF (Huang et al., ICML 2024, arXiv 2402.04663): a trace m of past spikes enlarges the reset.

    .. math::
        v \leftarrow (1 - 1 / \tau)\, v + x, \quad s = H(v - \theta), \quad
        m \leftarrow m\, \sigma(v / \tau) + s, \quad v \leftarrow v - s\, (\theta + \sigma(m))
    """
    v = v - v / tau + x
    s = fire(v - threshold)
    m = m * (v / tau).sigmoid() + s
    return s, reset(v, s, threshold + m.sigmoid()), m


def cubalif_step(
    x: Tensor,
    c: Tensor,
    v: Tensor,
    *,
    threshold: Tensor,
    current_decay: Tensor,
    voltage_decay: Tensor,
    fire: Fire,
    reset: Reset,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Current-based LIF, as on Loihi (Davies et al. 2018): a synaptic current c filters the input of the membrane.

    .. math::
        c \leftarrow d_c\, c + x, \quad v \leftarrow d_v\, v + c, \quad
        s = H(v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    c = c * current_decay + x
    v = v * voltage_decay + c
    s = fire(v - threshold)
    return s, c, reset(v, s, threshold)


def ltmd_step(
    x: Tensor, v: Tensor, *, threshold: Tensor, decay: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor]:
    r"""LIF with an input that is not decayed (Wu et al. 2018), as LTMD has it (Wang et al., NeurIPS 2022).

    .. math:: v \leftarrow d\, v + x, \quad s = H(v - \theta), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    v = v * decay + x
    s = fire(v - threshold)
    return s, reset(v, s, threshold)


def trsg_step(x: Tensor, v: Tensor, *, threshold: Tensor, w: Tensor, fire: Fire, reset: Reset) -> tuple[Tensor, Tensor]:
    r"""PLIF that fires, and has its surrogate, on the relative membrane (TrSG, WACV 2026, arXiv 2511.08708).

    .. math:: v \leftarrow v + (x - v) \sigma(w), \quad s = H(v / \theta - 1), \quad v \leftarrow \mathrm{reset}(v, s)
    """
    v = v + (x - v) * w.sigmoid()
    s = fire(v / threshold - 1)
    return s, reset(v, s, threshold)
