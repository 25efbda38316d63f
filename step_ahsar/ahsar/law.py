"""The control law: pure functions of vectors with one entry per layer, or per group.

The abstract of arXiv 2512.05015 describes the controller in words: centred deviations of firing rates, a bounded
nonlinearity from state to threshold scale, diffusion between neighbouring layers, a slow gain over epochs. The
equations and constants are this project's; docs/ahsar.md says which is which.
"""

import torch
from torch import Tensor


def sense(average: Tensor, rate: Tensor, seen: Tensor, eta: float) -> Tensor:
    r"""Running firing rate :math:`\bar r \leftarrow (1 - \eta) \bar r + \eta r`. The first observation initialises it.

    Args:
        average: running rates, [n].
        rate: newest rates, [n].
        seen: whether a layer was observed before, bool [n].
        eta: weight of the newest rate.
    """
    return torch.where(seen, (1 - eta) * average + eta * rate, rate)


def deviation(rate: Tensor, low: Tensor, high: Tensor, eps: float) -> Tensor:
    r"""Deviation d, [n]: 0 inside the band, else :math:`\ln((\bar r + \epsilon) / (\mathrm{edge} + \epsilon))`."""
    edge = rate.clamp(min=low, max=high)
    return torch.log((rate + eps) / (edge + eps))


def nearest_before(seen: Tensor, group: Tensor) -> Tensor:
    """For each layer the position of the nearest layer before it in its group that was seen; -1 if there is none.

    Layers that were not seen are skipped: they have no activity to balance with their neighbours.

    Args:
        seen: whether a layer was observed, bool [n].
        group: number of its group, in ascending order, [n].

    Returns:
        Positions, int64 [n]; -1 also for the layers that were not seen.

    >>> nearest_before(torch.tensor([True, False, True, True]), torch.tensor([0, 0, 0, 1]))
    tensor([-1, -1,  0, -1])
    """
    position = torch.arange(len(seen), device=seen.device)
    latest = torch.where(seen, position, -1).cummax(0).values
    before = torch.cat([latest.new_full((1,), -1), latest[:-1]])
    linked = seen & (before >= 0) & (group[before.clamp(min=0)] == group)
    return torch.where(linked, before, -1)


def react(h: Tensor, d: Tensor, before: Tensor, k: float, leak: float, diffusion: float) -> Tensor:
    r"""The homeostatic state after one iteration, :math:`h + k \tanh d - \lambda h + D \sum_j (h_j - h)`, [n].

    Args:
        h: states, [n].
        d: centred deviations, [n].
        before: position of each layer's neighbour before it, -1 if it has none, [n]; see :func:`nearest_before`.
        k: reaction.
        leak: :math:`\lambda`, decay towards 0.
        diffusion: D, exchange between neighbours; stable up to 1/4, since a layer has at most two neighbours.
    """
    neighbour = before.clamp(min=0)
    flow = diffusion * (before >= 0).to(h.dtype) * (h - h[neighbour])  # from each layer to its neighbour before it
    received = torch.zeros_like(h).index_add_(0, neighbour, flow)
    return h + k * torch.tanh(d) - leak * h + received - flow


def threshold_scale(h: Tensor, gamma: Tensor, a: float, gain: str = "exponent") -> Tensor:
    r"""Threshold scale :math:`s = \exp(a \gamma \tanh h)`, bounded to :math:`[e^{-a \gamma}, e^{a \gamma}]`, [n].

    With a gain in the "threshold" it is :math:`\gamma \exp(a \tanh h)` instead.
    """
    if gain == "threshold":
        return gamma * torch.exp(a * torch.tanh(h))
    return torch.exp(a * gamma * torch.tanh(h))


def state_of_scale(scale: Tensor, gamma: Tensor, a: float, gain: str = "exponent") -> Tensor:
    """Inverse of :func:`threshold_scale`, for layers that have a scale already, [n]."""
    if gain == "threshold":
        scale, gamma = scale / gamma, torch.ones_like(gamma)
    ratio = torch.log(scale) / (a * gamma).clamp(min=1e-12)
    return torch.atanh(ratio.clamp(-0.999, 0.999))


def towards(rate: Tensor, target: Tensor) -> Tensor:
    r"""What :math:`\ln\theta` has to change by for a firing rate of ``target``, if inputs are normal, [n].

    A neuron whose input is normal with mean 0 fires where that is above its threshold, so the threshold is proportional
    to the quantile :math:`z(r)` of :math:`1 - r`, and the change is :math:`\ln z(r^*) - \ln z(r)`: minus infinity for a
    silent layer, and infinity for one that fires at half of the steps or more, where this says no more than the sign.
    It says no more for a target of 1/2 or more.

    Args:
        rate: firing rates, [n].
        target: :math:`r^*`, [n].

    >>> towards(torch.tensor([0.0, 0.1587, 0.5]), torch.tensor([0.0228])).round(decimals=2)  # 1 and 2 deviations
    tensor([  -inf, 0.6900,    inf])
    """
    # Rates are sums that may be rounded to a little more than 1.
    z, wanted = (-torch.special.ndtri(r.clamp(0, 1)).clamp(max=0) for r in (rate, target))
    change = torch.where(target >= 0.5, (rate - target).sign() * torch.inf, wanted.log() - z.log())
    return torch.where(rate == target, 0.0, change)


def set_points(budget: float, shares: Tensor, neurons: Tensor, most: float) -> Tensor:
    """Firing rates of groups, in the proportions of ``shares``, so that all neurons together have ``budget``, [groups].

    A group that would be asked for more than ``most`` is asked for that, and the rest is divided among the others.

    Args:
        budget: mean rate over all neurons, at most ``most``.
        shares: relative rates, [groups].
        neurons: number of neurons of each group, or in proportion to it, [groups].
        most: the largest rate.

    >>> set_points(0.02, torch.tensor([1.0, 4.0]), torch.tensor([300.0, 100.0]), most=0.45)
    tensor([0.0114, 0.0457])
    >>> set_points(0.2, torch.tensor([1.0, 4.0]), torch.tensor([300.0, 100.0]), most=0.4)
    tensor([0.1333, 0.4000])
    """
    full = torch.zeros_like(shares, dtype=torch.bool)
    points = shares
    for _ in range(len(shares)):
        rest = budget * neurons.sum() - most * (neurons * full).sum()
        points = torch.where(full, most, rest * shares / (shares * neurons * ~full).sum())
        full = full | (points >= most)
    return points.clamp(max=most)


def mean_by_group(values: Tensor, weight: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of ``values`` over the layers of each group, [groups]; 0 for a group without weight.

    Args:
        values: one for each layer, [n].
        weight: of each layer, or bool: whether it counts, [n]. The values of layers without weight are not looked at.
        group: number of its group, [n].
        groups: how many groups there are.
    """
    weight = weight.to(values.dtype)
    total = values.new_zeros(groups).index_add_(0, group, torch.where(weight > 0, values, 0.0) * weight)
    weights = values.new_zeros(groups).index_add_(0, group, weight)
    return total / torch.where(weights > 0, weights, 1.0)


def slow_gain(gamma: Tensor, energy: Tensor, progress: float, mu: float, low: float, high: float) -> Tensor:
    r"""The gain after one epoch: :math:`\mathrm{clip}(\gamma \exp(\mu (\tanh E - \max(p, 0))), \ldots)`, [groups].

    Args:
        gamma: gains, [groups].
        energy: activity energy E of each group, the mean of d squared over its layers, [groups]; for a gain in the
            "threshold" the mean of d, which is negative where layers are too silent.
        progress: relative progress p of the validation metric over its best value before, in [-1, 1].
        mu: speed.
        low: smallest gain.
        high: largest gain.
    """
    return (gamma * torch.exp(mu * (torch.tanh(energy) - max(progress, 0.0)))).clamp(low, high)
