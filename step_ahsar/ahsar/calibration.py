"""Calibration: one factor on thresholds for a mean firing rate, found by a few trials."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from step_ahsar.ahsar import law

TRIALS = 25
REACH = 0.7  # the most that a logarithm of a threshold changes by at a time: a factor of 2
_NEAR = 0.02  # relative difference of a rate from its target that is near enough
_FAR = 0.1  # relative difference that is worth a warning


def relative_error(level: Tensor, target: Tensor) -> Tensor:
    """Relative differences; nan, which is neither near nor far, where no layer ran or any rate will do."""
    return (level - target).abs() / target


class Calibration:
    """The search for factors. Its state is kept in checkpoints.

    Args:
        names: what each factor is of.
        most: number of trials after which it ends.
    """

    def __init__(self, names: list[str], most: int = TRIALS) -> None:
        self.names, self.most = names, most
        n = len(names)
        self.reach = torch.full((n,), REACH, device="cpu")
        self.last = torch.zeros(n, device="cpu")  # sign of the last change
        # Rates in the last trial, nan where no layer ran, and what was asked for.
        self.level = self.target = torch.full((n,), torch.nan, device="cpu")
        self.trials = 0

    @property
    def done(self) -> bool:
        """Whether every rate is near its target, or no trial is left. A layer that has not run yet is waited for."""
        near = (self._error() <= _NEAR) | self.target.isnan()
        return self.trials >= self.most or (self.trials > 0 and bool(near.all()))

    def changes(self, level: Tensor, target: Tensor) -> Tensor:
        """Changes of the logarithms of the thresholds after one trial, [factors].

        After the last trial there are none, so that the rates in it are those that are reached.

        Args:
            level: firing rates, [factors]; nan where no layer ran.
            target: the rates that are wanted; nan where any will do.
        """
        self.level, self.target = level.cpu(), target.cpu()
        self.trials += 1
        away = (self._error() > _NEAR) & (self.trials < self.most)
        change = torch.where(away, law.towards(self.level, self.target), 0.0)
        # A step too far halves the longest step, so that the search ends, however the rate depends on the threshold. A
        # step in the same direction makes it longer again.
        sign = change.sign()
        self.reach = (self.reach * (1.2 ** (sign * self.last).clamp(min=0))).clamp(max=REACH)
        self.reach = torch.where(sign * self.last < 0, self.reach / 2, self.reach)
        self.last = torch.where(sign == 0, self.last, sign)
        return change.clamp(-self.reach, self.reach).to(level.device)

    def missed(self) -> list[str]:
        """The rates that are far from their targets after the last trial, for people."""
        rows = zip(self.names, self.level.tolist(), self.target.tolist(), (self._error() > _FAR).tolist(), strict=True)
        return [f"{name} {level:.3g} in place of {target:.3g}" for name, level, target, is_far in rows if is_far]

    def _error(self) -> Tensor:
        return relative_error(self.level, self.target)

    def state_dict(self) -> dict[str, Any]:
        """What a search continues from."""
        return {name: value for name, value in vars(self).items() if name != "names"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a :meth:`state_dict`."""
        for name, value in state.items():
            setattr(self, name, value.cpu() if isinstance(value, Tensor) else value)
