"""The controller: owns the homeostatic state, reads what the neurons observed and writes their threshold scales."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from step_ahsar.ahsar import law
from step_ahsar.ahsar.law import AHSARConfig
from step_ahsar.errors import UserError


class Regulated(Protocol):
    """What the controller needs of a layer: a SpikingNeuron, or a ForeignLayer around another library's."""

    @property
    def threshold_scale(self) -> Tensor | None:
        """What the threshold is multiplied by, 0-d; None unless regulated. Written in place."""

    @property
    def observed(self) -> Tensor | None:
        """Spikes and neuron-steps seen in training, [2] fp32; None unless regulated. Written in place."""

    def clear_observed(self) -> None:
        """Sets ``observed`` to 0 for the next iteration."""

    def start_regulation(self) -> None:
        """Gives the layer a scale, 1 unless it has one, and starts to observe. Raises UserError if it cannot."""

    def stop_regulation(self) -> None:
        """Makes the layer a plain one."""


class Controller:
    """AHSAR for the layers of one model; :func:`step_ahsar.ahsar.regulate` makes it.

    Call :meth:`step` after the optimiser's step and :meth:`epoch_end` after validation. No parameter is added and no
    gradient is touched: the controller reads firing rates and writes thresholds.

    Args:
        layers: for each group the layers in depth order, by their names in the model.
        config: the law's constants.

    Attributes:
        skipped: observations that were not finite or not in [0, 1], per layer, [n]; the state did not learn from them.
        hooks: handles of the hooks that drive it, if any; :meth:`release` removes them.
    """

    def __init__(self, layers: Mapping[str, Mapping[str, Regulated]], config: AHSARConfig) -> None:
        self.config = config
        self.groups = tuple(layers)
        self._names = [name for group in layers.values() for name in group]
        self._layers: Sequence[Regulated] = [layer for group in layers.values() for layer in group.values()]
        group_of = [i for i, group in enumerate(layers.values()) for _ in group]
        bands = [config.band_of(self.groups[i]) for i in group_of]
        self._group = torch.tensor(group_of)
        self._low, self._high = torch.tensor(bands).T.contiguous()
        self._link = (self._group[1:] == self._group[:-1]).float()
        n = len(self._layers)
        self._found = [
            None if layer.threshold_scale is None else layer.threshold_scale.clone() for layer in self._layers
        ]
        self.hooks: list[Any] = []  # what drives it, with regulate(auto=True)
        for name, layer in zip(self._names, self._layers, strict=True):
            try:
                layer.start_regulation()
            except UserError as error:
                self.release()
                raise UserError(f"layer {name!r}: {error}") from None
        self._gamma = torch.full((len(self.groups),), config.gamma)
        self._rate, self._seen = torch.zeros(n), torch.zeros(n, dtype=torch.bool)
        self.skipped = torch.zeros(n, dtype=torch.int64)
        scale = torch.stack([_scale(layer).detach().to(self._gamma.device) for layer in self._layers])
        self._h = law.state_of_scale(scale, self._gamma[self._group], config.a)
        self._best: float | None = None
        self._paused = False

    # -- the two loops -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> None:
        """The fast loop, once per training iteration, after the optimiser's step.

        Layers that saw no forward since the last step keep their rate; on several processes the rates are those of all
        of them together. Not a single value leaves the device.
        """
        if self._paused:
            return
        observed = torch.stack([_observed(layer) for layer in self._layers])
        for layer in self._layers:
            layer.clear_observed()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(observed)
        self._move(observed.device)
        config, spikes, steps = self.config, observed[:, 0], observed[:, 1]
        rate = spikes / steps
        valid = (rate >= 0) & (rate <= 1 + 1e-4)  # false for NaN; a sum in fp32 may round up
        self.skipped += ~valid & (steps != 0)
        self._rate = torch.where(valid, law.sense(self._rate, rate, self._seen, config.eta), self._rate)
        self._seen |= valid
        d = law.deviation(self._rate, self._low, self._high, config.eps)
        self._h = torch.where(
            valid, law.react(self._h, d, self._link, config.k, config.leak, config.diffusion), self._h
        )
        self._write()

    @torch.no_grad()
    def epoch_end(self, metric: float | None = None) -> None:
        """The slow loop, once per epoch, after validation.

        Args:
            metric: validation metric, higher is better; None (or not finite) counts as no progress.
        """
        if self._paused or self.config.gamma == 0:
            return
        progress = 0.0
        if metric is not None and abs(metric) < float("inf"):
            if self._best is not None:
                progress = max(-1.0, min(1.0, (metric - self._best) / max(abs(self._best), 1e-12)))
            self._best = metric if self._best is None else max(self._best, metric)
        config = self.config
        d = torch.where(self._seen, law.deviation(self._rate, self._low, self._high, config.eps), 0.0)
        energy = torch.zeros_like(self._gamma).scatter_reduce(0, self._group, d**2, "mean", include_self=False)
        self._gamma = law.slow_gain(self._gamma, energy, progress, config.mu, config.gamma_min, config.gamma_max)
        self._write()

    def _write(self) -> None:
        scale = law.threshold_scale(self._h, self._gamma[self._group], self.config.a)
        torch._foreach_copy_([_scale(layer) for layer in self._layers], list(scale.unbind()))

    # -- what a training loop may want to know -------------------------------------------------------------------------

    def layers(self) -> dict[str, dict[str, Any]]:
        """For each layer, by its name in the model: its group, running firing rate in training, threshold scale."""
        scales = torch.stack([_scale(layer) for layer in self._layers]).tolist()
        return {
            name: {"group": self.groups[group], "rate": rate, "threshold_scale": scale}
            for name, group, rate, scale in zip(
                self._names, self._group.tolist(), self._rate.tolist(), scales, strict=True
            )
        }

    def gammas(self) -> dict[str, float]:
        """The slow gain of each group."""
        return dict(zip(self.groups, self._gamma.tolist(), strict=True))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is observed and nothing moves inside: for profiling in training mode and the like."""
        kept = [_observed(layer).clone() for layer in self._layers]
        was, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = was
            for layer, value in zip(self._layers, kept, strict=True):
                layer.clear_observed()
                _observed(layer).copy_(value)

    def release(self) -> None:
        """Gives the model back exactly as it was found, hooks removed. Fold first to keep what was learnt."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()
        for layer, found in zip(self._layers, self._found, strict=True):
            if found is not None:
                _scale(layer).copy_(found)
            elif layer.threshold_scale is not None:
                layer.stop_regulation()

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The controller's state; scales themselves lie in the model's state dict. Loading it continues bit for bit."""
        tensors = {name: getattr(self, f"_{name}").clone() for name in ("h", "rate", "seen", "gamma")}
        return {**tensors, "skipped": self.skipped.clone(), "best": self._best, "names": list(self._names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores :meth:`state_dict`. Raises ValueError if it belongs to other layers."""
        if state["names"] != self._names:
            raise ValueError(f"the state belongs to other layers: {state['names'][:3]}..., not {self._names[:3]}...")
        for name in ("h", "rate", "seen", "gamma"):
            setattr(self, f"_{name}", state[name].clone())
        self.skipped, self._best = state["skipped"].clone(), state["best"]
        device = self._h.device
        for name in ("group", "low", "high", "link"):
            setattr(self, f"_{name}", getattr(self, f"_{name}").to(device))
        with torch.no_grad():
            self._write()

    def _move(self, device: torch.device) -> None:
        if self._h.device != device:
            for name in ("_h", "_rate", "_seen", "_gamma", "_group", "_low", "_high", "_link", "skipped"):
                setattr(self, name, getattr(self, name).to(device))


def _scale(layer: Regulated) -> Tensor:
    assert layer.threshold_scale is not None
    return layer.threshold_scale


def _observed(layer: Regulated) -> Tensor:
    assert layer.observed is not None
    return layer.observed
