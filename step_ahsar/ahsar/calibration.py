"""Calibration: one factor on thresholds for a mean firing rate, found by a few trials."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.ahsar import law

TRIALS = 25
_REACH = 0.7  # the most that a logarithm of a threshold changes by at a time: a factor of 2
_NEAR = 0.02  # relative difference of a rate from its target that is near enough
_FAR = 0.1  # relative difference that is worth a warning


class Calibration:
    """The search for the factors, of which several layers may share one. Its state is kept in checkpoints.

    Args:
        target: the mean firing rate of the layers that share a factor.
        unit: the number of each layer's factor, [n].
        names: what the factors are of.
    """

    def __init__(self, target: float, unit: Tensor, names: list[str]) -> None:
        self.target, self.unit, self.names = target, unit.cpu(), names
        self.reach = torch.full((len(names),), _REACH)
        self.last = torch.zeros(len(names))  # sign of the last change
        self.level = torch.full((len(names),), torch.nan)  # mean rates in the last trial; nan where no layer ran
        self.trials = 0

    @property
    def done(self) -> bool:
        """Whether every rate is near its target, or no trial is left."""
        return self.trials >= TRIALS or (self.trials > 0 and not (self._error() > _NEAR).any().item())

    def changes(self, rate: Tensor, seen: Tensor) -> Tensor:
        """Changes of the logarithms of the threshold scales after one trial, [n].

        Args:
            rate: firing rates of the layers, [n].
            seen: whether they ran, bool [n].
        """
        device, rate, seen = rate.device, rate.cpu(), seen.cpu()
        ran = torch.zeros(len(self.names), dtype=torch.bool).index_fill_(0, self.unit[seen], True)
        level = law.mean_by_group(rate, seen, self.unit, len(self.names))
        self.level = torch.where(ran, level, torch.nan)
        self.trials += 1
        change = torch.where(self._error() > _NEAR, law.towards(level, self.target), 0.0)
        # After a step too far the next ones are shorter, so that the search ends, however the rate depends on it.
        sign = change.sign()
        self.reach = torch.where(sign * self.last < 0, self.reach / 2, self.reach)
        self.last = torch.where(sign == 0, self.last, sign)
        return change.clamp(-self.reach, self.reach)[self.unit].to(device)

    def missed(self) -> dict[str, float]:
        """The rates that are far from the target after the last trial, by what they are of."""
        far = (self._error() > _FAR).tolist()
        return {name: rate for name, rate, is_far in zip(self.names, self.level.tolist(), far, strict=True) if is_far}

    def _error(self) -> Tensor:
        """Relative differences; nan where no layer ran, which is neither near nor far."""
        return (self.level - self.target).abs() / self.target

    def state_dict(self) -> dict[str, Any]:
        """What a search continues from."""
        return {"reach": self.reach, "last": self.last, "level": self.level, "trials": self.trials}

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
