"""Neurons that emit whole numbers of spikes in one time step."""

from torch import Tensor

from step_ahsar.neurons.equations.reset import Fire, Reset


def ilif_step(
    x: Tensor, v: Tensor, *, threshold: Tensor, decay: Tensor, max_count: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor]:
    r"""Integer LIF (Luo et al., SpikeYOLO, ECCV 2024, arXiv 2407.20708): up to D spikes in one time step.

    .. math::
        v \leftarrow \beta v + x, \quad
        s = \mathrm{round}\big(\mathrm{clip}(v / \theta, 0, D)\big), \quad v \leftarrow v - \theta s

    The derivative of s by :math:`v / \theta` is 1 inside the clip and 0 outside (straight-through): the rectangular
    window of the paper. ``fire`` is not used.
    """
    v = v * decay + x
    u = v / threshold
    fixed = u.detach()
    inside = ((fixed >= 0) & (fixed <= max_count)).to(u.dtype)
    s = fixed.clamp(min=0).minimum(max_count).round() + inside * (u - fixed)
    return s, reset(v, s, threshold)


def nilif_step(
    x: Tensor, v: Tensor, *, threshold: Tensor, decay: Tensor, max_count: Tensor, fire: Fire, reset: Reset
) -> tuple[Tensor, Tensor]:
    r"""Normalised integer LIF (Lei et al., Spike2Former, AAAI 2025, arXiv 2412.14587): I-LIF that emits :math:`s / D`.

    The membrane is that of :func:`ilif_step`, which loses :math:`\theta` for each of the s spikes; the values are
    0, 1/D, ..., 1. In inference :math:`W s / D` is s spikes through the weights W / D.
    """
    s, v = ilif_step(x, v, threshold=threshold, decay=decay, max_count=max_count, fire=fire, reset=reset)
    return s / max_count, v
