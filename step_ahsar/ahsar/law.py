"""The control law: pure functions of vectors with one entry per layer, or per group.

The abstract of arXiv 2512.05015 states what the controller does (centred deviations of firing rates, a bounded
nonlinearity from state to threshold scale, diffusion between neighbouring layers, a slow gain over epochs). The
equations and constants are this project's; docs/ahsar.md keeps the two apart.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from step_ahsar.errors import UserError

Band = tuple[float, float]


@dataclass(frozen=True)
class AHSARConfig:
    """Constants of the law. The defaults are meant to be left alone: a user has nothing to tune.

    Args:
        band: firing rates [lo, hi], spikes per neuron and time step, in which a layer is left alone; one for all
            groups or one per group.
        eta: weight of the newest firing rate in the running one, in (0, 1].
        k: reaction, how far one iteration moves the state at most.
        leak: pull of the state back to 0 per iteration.
        diffusion: share of the difference to a neighbour that flows per iteration, in [0, 1/4].
        a: log of the largest threshold scale at gain 1.
        eps: firing rate below which a layer counts as silent.
        gamma: gain at the start; 0 turns regulation off.
        gamma_min: least gain that the slow loop sets.
        gamma_max: greatest gain that the slow loop sets.
        mu: speed of the slow loop per epoch; 0 keeps the gain.

    Raises:
        UserError: a constant outside its range, or a band that is not 0 <= lo < hi <= 1.
    """

    band: Band | Mapping[str, Band] = (0.2, 0.4)
    eta: float = 0.1
    k: float = 0.2
    leak: float = 0.005
    diffusion: float = 0.05
    a: float = math.log(4.0)
    eps: float = 1e-3
    gamma: float = 1.0
    gamma_min: float = 0.5
    gamma_max: float = 2.0
    mu: float = 0.05

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("eta", self.eta, 1e-6, 1.0),
            ("k", self.k, 0.0, 1.0),
            ("leak", self.leak, 0.0, 1.0),
            ("diffusion", self.diffusion, 0.0, 0.25),
            ("a", self.a, 0.0, 10.0),
            ("eps", self.eps, 1e-12, 0.1),
            ("gamma", self.gamma, 0.0, 10.0),
            ("gamma_min", self.gamma_min, 0.0, self.gamma_max),
            ("gamma_max", self.gamma_max, self.gamma_min, 10.0),
            ("mu", self.mu, 0.0, 1.0),
        ):
            if not low <= value <= high:
                raise UserError(f"ahsar.{name} must be in [{low:g}, {high:g}], got {value}")
        for group, band in self.band.items() if isinstance(self.band, Mapping) else (("", self.band),):
            if len(band) != 2 or not 0 <= band[0] < band[1] <= 1:
                where = f" of group {group!r}" if group else ""
                raise UserError(f"ahsar.band{where} must be [lo, hi] with 0 <= lo < hi <= 1, got {list(band)}")

    def band_of(self, group: str) -> Band:
        """The band of ``group``; groups that a mapping leaves out get the default."""
        if isinstance(self.band, Mapping):
            return self.band.get(group, AHSARConfig.band)  # type: ignore[arg-type]
        return self.band


def sense(average: Tensor, rate: Tensor, seen: Tensor, eta: float) -> Tensor:
    r"""Running firing rate, :math:`\bar r \leftarrow (1 - \eta) \bar r + \eta r`; the first observation initialises it.

    Args:
        average: running rates, [n].
        rate: newest rates, [n].
        seen: whether a layer was observed before, bool [n].
        eta: weight of the newest.
    """
    return torch.where(seen, (1 - eta) * average + eta * rate, rate)


def deviation(rate: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    r"""Deviation d, [n]: 0 inside the band, else :math:`\ln((\bar r + \epsilon) / (\mathrm{edge} + \epsilon))`."""
    edge = rate.clamp(min=low, max=high)
    return torch.log((rate + eps) / (edge + eps))


def react(h: Tensor, d: Tensor, link: Tensor, k: float, leak: float, diffusion: float) -> Tensor:
    r"""The homeostatic state one iteration on, :math:`h + k \tanh d - \lambda h + D \sum_j (h_j - h)`, [n].

    Args:
        h: states in depth order, group after group, [n].
        d: centred deviations, [n].
        link: 1 where layer i and i + 1 are neighbours of one group, else 0, [n - 1].
        k: reaction.
        leak: pull to 0.
        diffusion: flow between neighbours; stable up to 1/4, since a layer has at most two.
    """
    flow = diffusion * link * (h[1:] - h[:-1])
    zero = h.new_zeros(1)
    return h + k * torch.tanh(d) - leak * h + torch.cat([flow, zero]) - torch.cat([zero, flow])


def threshold_scale(h: Tensor, gamma: Tensor, a: float) -> Tensor:
    r"""Bounded scale :math:`s = \exp(a \gamma \tanh h)`, in :math:`[e^{-a \gamma}, e^{a \gamma}]`, [n]."""
    return torch.exp(a * gamma * torch.tanh(h))


def state_of_scale(scale: Tensor, gamma: Tensor, a: float) -> Tensor:
    """Inverse of :func:`threshold_scale`, for thresholds that were scaled before, [n]."""
    ratio = torch.log(scale) / (a * gamma).clamp(min=1e-12)
    return torch.atanh(ratio.clamp(-0.999, 0.999))


def slow_gain(gamma: Tensor, energy: Tensor, progress: float, mu: float, low: float, high: float) -> Tensor:
    r"""The gain one epoch on: :math:`\mathrm{clip}(\gamma \exp(\mu (\tanh E - \max(p, 0))), \ldots)`, [groups].

    Args:
        gamma: gains, [groups].
        energy: activity energy E, mean of d squared over a group's layers, [groups].
        progress: relative progress p of the validation metric over its best so far, in [-1, 1].
        mu: speed.
        low: least gain.
        high: greatest gain.
    """
    return (gamma * torch.exp(mu * (torch.tanh(energy) - max(progress, 0.0)))).clamp(low, high)
