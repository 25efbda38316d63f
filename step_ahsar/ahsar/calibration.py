"""Calibration: one factor on thresholds for a mean firing rate, found by a few trials."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.ahsar import law

TRIALS = 25
REACH = 0.7  # the most that a logarithm of a threshold changes by at a time: a factor of 2
_NEAR = 0.02  # relative difference of a rate from its target that is near enough
_FAR = 0.1  # relative difference that is worth a warning


class Calibration:
    """The search for factors. Its state is kept in checkpoints.

    Args:
        names: what each factor is of.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.reach = torch.full((len(names),), REACH)
        self.last = torch.zeros(len(names))  # sign of the last change
        self.level = self.target = torch.full((len(names),), torch.nan)  # rates in the last trial, and what was asked
        self.trials = 0

    @property
    def done(self) -> bool:
        """Whether every rate is near its target, or no trial is left."""
        return self.trials >= TRIALS or (self.trials > 0 and not (self._error() > _NEAR).any().item())

    def changes(self, level: Tensor, target: Tensor) -> Tensor:
        """Changes of the logarithms of the thresholds after one trial, [factors].

        Args:
            level: firing rates, [factors]; nan where no layer ran.
            target: the rates that are wanted; nan where any will do.
        """
        self.level, self.target = level.cpu(), target.cpu()
        self.trials += 1
        change = torch.where(self._error() > _NEAR, law.towards(self.level, self.target), 0.0)
        # After a step too far the next ones are shorter, so that the search ends, however the rate depends on it.
        sign = change.sign()
        self.reach = torch.where(sign * self.last < 0, self.reach / 2, self.reach)
        self.last = torch.where(sign == 0, self.last, sign)
        return change.clamp(-self.reach, self.reach).to(level.device)

    def missed(self) -> list[str]:
        """The rates that are far from their targets after the last trial, for people."""
        rows = zip(self.names, self.level.tolist(), self.target.tolist(), (self._error() > _FAR).tolist(), strict=True)
        return [f"{name} {level:.3g} in place of {target:.3g}" for name, level, target, is_far in rows if is_far]

    def _error(self) -> Tensor:
        """Relative differences; nan, which is neither near nor far, where no layer ran or any rate will do."""
        return (self.level - self.target).abs() / self.target

    def state_dict(self) -> dict[str, Any]:
        """What a search continues from."""
        return {name: value for name, value in vars(self).items() if name != "names"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a :meth:`state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)


@contextmanager
def without_traces(model: nn.Module, kept: Iterable[Tensor]) -> Iterator[None]:
    """Forward passes in the block change no buffer, such as a running average, and draw no random numbers.

    Args:
        model: the model.
        kept: buffers that they may change.
    """
    changing = {id(buffer) for buffer in kept}
    buffers = [(each, each.clone()) for each in model.buffers() if id(each) not in changing]
    devices = {each.device for each in model.parameters()} - {torch.device("cpu")}
    with torch.random.fork_rng([d for d in devices if d.type == "cuda"]):
        try:
            yield
        finally:
            for buffer, before in buffers:
                buffer.copy_(before)
