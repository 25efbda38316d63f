"""A penalty on the mean firing rate, whose weight is steered until the rate is within a budget.

It is one-sided: a rate r within the budget b costs nothing. Its weight w rises while the budget is exceeded and falls
below it, as the multiplier of a constraint does in dual ascent:

    loss + w relu(r - b),    w <- clip(w + gain (r / b - 1), 0, most) after every step

A band in place of a budget is a control of AHSAR: a constant weight draws the rate r_l of each layer into [lo, hi]:

    loss + w mean_l (relu(r_l - hi) + relu(lo - r_l))

AHSAR changes neither loss nor gradients; this changes both, so it is an option of training by itself, for any neuron.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.ahsar.config import FIRST_RATE
from step_ahsar.config import RatePenaltyConfig
from step_ahsar.neurons import SpikingNeuron


class RatePenalty:
    """The penalty of one model. It counts the spikes of the forward passes within its block.

    Args:
        model: holds neurons of the registry.
        config: the budget and the constants.

    Attributes:
        budget: b. Under a budget of operations it is moved, see :mod:`step_ahsar.engine.operations_budget`.
        weight: w.
        rate: r of the last step, over all processes, in spikes per neuron and time step; each neuron of the model
            counts alike, and integer spikes are divided by their maximum.
    """

    def __init__(self, model: nn.Module, config: RatePenaltyConfig) -> None:
        assert config.is_on, "without a budget there is no penalty"
        self._config = config
        self.budget = FIRST_RATE if config.budget is None else config.budget
        self.weight, self.rate = config.weight, 0.0
        self._layers = [module for module in model.modules() if isinstance(module, SpikingNeuron)]
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._spikes: list[Tensor] = []  # of every layer, in the last block
        self._neurons: list[int] = []  # the number of neurons, times time steps and samples, that they are of
        self._rates: list[Tensor] = []  # of the blocks since the last step

    def __enter__(self) -> RatePenalty:
        self._spikes, self._neurons = [], []
        self._hooks = [layer.register_forward_hook(self._count) for layer in self._layers]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _count(self, neuron: nn.Module, _: object, spikes: Tensor) -> None:
        assert isinstance(neuron, SpikingNeuron)
        counted = spikes.abs() if neuron.signed else spikes
        self._spikes.append(counted.sum(dtype=torch.promote_types(spikes.dtype, torch.float32)) / neuron.max_spikes)
        self._neurons.append(spikes.numel())

    def term(self, samples: int) -> Tensor:
        """What is added to the loss of the forward passes in the last block, 0-d.

        Args:
            samples: the number of this process's samples in them.
        """
        spikes = torch.stack(self._spikes)
        neurons = spikes.new_tensor(self._neurons)
        self._spikes, self._neurons = [], []
        rate = spikes.sum() / neurons.sum()
        joined = ranks.mean(rate.detach(), weight=samples)
        self._rates.append(joined)
        if self._config.band is not None:
            return self.weight * self._outside(spikes / neurons, samples).mean()
        # relu(r - b) of the joined batch: of several processes each adds its share of r where all together exceed b.
        return self.weight * torch.where(joined > self.budget, rate - self.budget, torch.zeros_like(rate))

    def _outside(self, rates: Tensor, samples: int) -> Tensor:
        """How far each layer's rate is outside of the band, [layers]."""
        assert self._config.band is not None
        low, high = self._config.band
        joined = ranks.mean(rates.detach(), weight=samples)
        above = torch.where(joined > high, rates - high, torch.zeros_like(rates))
        return torch.where(joined < low, low - rates, above)

    def step(self) -> None:
        """Moves the weight, unless there is a band. To be called once after each step of the optimiser."""
        self.rate = torch.stack(self._rates).mean().item()
        self._rates = []
        if self._config.band is not None:
            return
        moved = self.weight + self._config.gain * (self.rate / self.budget - 1)
        self.weight = min(max(moved, 0.0), self._config.most)

    def state_dict(self) -> dict[str, Any]:
        """What training continues from."""
        return {"weight": self.weight, "rate": self.rate, "budget": self.budget}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a :meth:`state_dict`."""
        self.weight, self.rate = state["weight"], state["rate"]
        self.budget = state.get("budget", self.budget)  # states of earlier releases have none
