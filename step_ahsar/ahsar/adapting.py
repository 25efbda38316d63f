"""Adaptation at test time: thresholds move until each layer fires as it did on clean data. Labels are not needed.

Where the inputs of a trained model have shifted, its layers fire more or less than they did. Their rates on clean
training data (:func:`record_rates`) are what each layer is led back to, by its threshold alone: weights and norms stay
as they are, so that a model whose norms are folded into its weights can be adapted, too.
"""

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar import internals, ranks
from step_ahsar.ahsar.calibration import TRIALS, Calibration, relative_error
from step_ahsar.ahsar.controller import controllers_of, counted
from step_ahsar.ahsar.finding import Layer, find_layers
from step_ahsar.errors import UserError, shortened
from step_ahsar.passes import in_eval_mode

WINDOW = 32  # samples over which rates are measured before thresholds move, so that a batch of one does not move them
SHIFTED = 0.25  # mean relative difference of the layers' rates at which a search that had ended begins again
SILENT = 1e-3  # spikes per neuron and step; a layer with fewer fires too seldom to be led back to its rate
_FARTHEST = math.log(8)  # the most that the logarithm of a threshold moves in all
_KEPT_AS = "_ahsar_rates"  # the model's attribute that holds its rates; not part of the state dict


@torch.no_grad()
def record_rates(model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
    """Measures the firing rate of every spiking layer on clean data, in eval mode, and keeps the rates on the model.

    Copies of the model, folded ones too, have them as well. They are no part of its state dict: save what is returned,
    and pass it to :func:`adapt_thresholds`.

    Args:
        model: a trained model.
        batches: inputs of the model, or tuples that begin with them.

    Returns:
        Spikes per neuron and time step, by the layer's name in the model. Layers that did not run are left out.

    Raises:
        UserError: no spiking layer, one that cannot be regulated, a model under a controller, or no batch.
    """
    model = internals.uncompiled(model)
    watch = _Watch(model)
    try:
        with in_eval_mode(model):
            for inputs in _inputs(batches):
                model(inputs)
        rates = watch.rates().tolist()
    finally:
        watch.undo()
    found = {name: rate for name, rate in zip(watch.names, rates, strict=True) if not math.isnan(rate)}
    if not found:
        raise UserError("no batch, or no spiking layer ran: there is no firing rate to record")
    vars(model)[_KEPT_AS] = found
    return dict(found)


@torch.no_grad()
def adapt_thresholds(
    model: nn.Module,
    batches: Iterable[Any],
    steps: int = TRIALS,
    *,
    rates: Mapping[str, float] | None = None,
    batch_axis: int = 0,
) -> dict[str, float]:
    """Moves the thresholds of a trained model until each layer fires as it did on clean data, in eval mode.

    The thresholds are scaled by each layer's ``threshold_scale``, as in training with AHSAR; a plain model gets such
    scales. :func:`step_ahsar.ahsar.fold` moves them into the weights.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(create_neuron("lif")).eval()
    >>> clean = torch.randn(4, 64, 100)
    >>> _ = record_rates(model, [clean])
    >>> _ = adapt_thresholds(model, [3 * clean], batch_axis=1)
    >>> round(model[0].threshold_scale.item(), 1)
    3.0

    Args:
        model: the model.
        batches: inputs without labels, or tuples that begin with inputs. When all have been seen and steps are left,
            they are gone through again.
        steps: changes of the thresholds at most. Each follows at least :data:`WINDOW` samples, whatever the size of the
            batches.
        rates: what :func:`record_rates` returned; None for those that are kept on the model.
        batch_axis: the axis of samples: 0 for [B, ...], 1 for [T, B, ...].

    Returns:
        The rates that were reached, by the layer's name in the model.

    Raises:
        UserError: no rates, or rates of other layers; no spiking layer, one that cannot be regulated, or a model under
            a controller; no batch.

    Warns:
        UserWarning: rates that were not reached.
    """
    if steps < 1:
        raise UserError(f"steps must be >= 1, got {steps}")
    with in_eval_mode(internals.uncompiled(model)):
        adaptation = Adaptation(model, rates, steps)
        try:
            for inputs in _rounds(batches):
                model(inputs)
                adaptation.step(inputs.shape[batch_axis])
                if adaptation.settled:
                    break
        finally:
            adaptation.end()
    reached = adaptation.rates
    if not reached:
        raise UserError(f"adaptation needs {WINDOW} samples, or batches that can be gone through again")
    if missed := adaptation.missed():
        warnings.warn(
            f"thresholds could not be adapted in {steps} steps; firing rates: {shortened(missed)}", stacklevel=2
        )
    return reached


class Adaptation:
    """Adaptation to a stream of inputs: after each forward pass call :meth:`step`.

    The thresholds move until the layers fire as they did on clean data, and rest. When the stream shifts again, so that
    the rates are off by :data:`SHIFTED` on the mean, they move again.

    >>> from step_ahsar.neurons import create_neuron
    >>> model = nn.Sequential(create_neuron("lif")).eval()
    >>> adaptation = Adaptation(model, {"0": 0.2})
    >>> for _ in range(100):
    ...     x = torch.randn(4, 8, 100)  # [T, B, ...]
    ...     spikes = model(x)
    ...     adaptation.step(samples=8)
    >>> round(spikes.mean().item(), 1)
    0.2

    Args:
        model: the model, in eval mode.
        rates: what :func:`record_rates` returned; None for those that are kept on the model.
        steps: changes of the thresholds, at most, after each shift.

    Raises:
        UserError: a model in training mode, and as :func:`adapt_thresholds`.
    """

    def __init__(self, model: nn.Module, rates: Mapping[str, float] | None = None, steps: int = TRIALS) -> None:
        model = internals.uncompiled(model)
        targets = vars(model).get(_KEPT_AS) if rates is None else rates
        if not targets:
            raise UserError(
                f"{type(model).__name__} has no saved firing rates; record them on clean data first: "
                "record_rates(model, batches)"
            )
        if training := [name or type(model).__name__ for name, part in model.named_modules() if part.training]:
            raise UserError(
                f"adaptation is for a model in eval mode, call model.eval() first; in training mode is "
                f"{shortened(training, limit=3)}"
            )
        self._watch = _Watch(model)
        names = self._watch.names
        if unknown := [name for name in targets if name not in names]:
            self._watch.undo()
            raise UserError(
                f"the firing rates are of another model: there is no spiking layer {shortened(unknown, limit=3)}"
            )
        # A layer without a rate, or that was silent, may fire as it likes.
        found = torch.tensor([targets.get(name, 0.0) for name in names])
        self._target = torch.where(found >= SILENT, found, torch.nan)
        self._moved = torch.zeros(len(names))
        self._steps, self._samples = steps, 0
        self._search = self._begun()

    def _begun(self) -> Calibration:
        return Calibration(self._watch.names, self._steps + 1)  # its last trial changes nothing

    @property
    def settled(self) -> bool:
        """Whether the thresholds rest: all rates are reached, or no step is left."""
        return self._search.done

    @property
    def rates(self) -> dict[str, float]:
        """The firing rates when they were last measured, by the layer's name; empty before that."""
        levels = zip(self._search.names, self._search.level.tolist(), strict=True)
        return {name: level for name, level in levels if not math.isnan(level)}

    def missed(self) -> list[str]:
        """The rates that are far from those on clean data, for people."""
        return self._search.missed()

    @torch.no_grad()
    def step(self, samples: int) -> None:
        """To be called after each forward pass.

        Args:
            samples: how many it was of, B.
        """
        self._samples += sum(ranks.gathered(samples))
        if self._samples < WINDOW:
            return
        self._samples = 0
        level = self._watch.rates()
        self._watch.clear()
        if self._search.done:
            if not relative_error(level, self._target).nanmean() > SHIFTED:
                return
            self._search = self._begun()
        before = self._moved
        change = self._search.changes(level, self._target)
        self._moved = (before + change).clamp(-_FARTHEST, _FARTHEST)
        self._watch.scale((self._moved - before).exp())

    def end(self) -> None:
        """Ends adaptation. The thresholds stay as they are; a model whose rates were never measured is as before."""
        if self.rates:
            self._watch.end()
        else:
            self._watch.undo()


class _Watch:
    """Counts the spikes of a model's layers in eval mode, and scales their thresholds."""

    def __init__(self, model: nn.Module) -> None:
        self._layers: dict[str, Layer] = find_layers(model)
        if not self._layers:
            raise UserError(f"{type(model).__name__} holds no spiking neuron of a known class")
        if controllers_of(self._layers.values()):
            raise UserError(
                f"{type(model).__name__} is under a controller; end it first, which keeps the thresholds: "
                "controller_of(model).leave()"
            )
        self.names = list(self._layers)
        self._plain = [layer for layer in self._layers.values() if layer.threshold_scale is None]
        for name, layer in self._layers.items():
            try:
                layer.start_regulation()
            except UserError as error:
                self.undo()
                raise UserError(f"layer {name!r}: {error}") from None
            layer.watched = True

    def rates(self) -> Tensor:
        """Of each layer since it was last cleared, over all processes, [n] on the CPU; nan if it did not run."""
        spikes, steps = counted(self._layers.values()).cpu().unbind(1)
        return spikes / steps

    def clear(self) -> None:
        for layer in self._layers.values():
            layer.clear_observed()

    def scale(self, factors: Tensor) -> None:
        """Multiplies the thresholds, [n]."""
        for layer, factor in zip(self._layers.values(), factors.tolist(), strict=True):
            assert layer.threshold_scale is not None
            layer.threshold_scale.mul_(factor)

    def end(self) -> None:
        for layer in self._layers.values():
            layer.stop_observing()

    def undo(self) -> None:
        """Ends counting, and takes away the scales that layers had not had."""
        self.end()
        for layer in self._plain:
            if layer.threshold_scale is not None:
                layer.stop_regulation()


def _inputs(batches: Iterable[Any]) -> Iterator[Tensor]:
    """The inputs of each batch."""
    for batch in batches:
        yield batch[0] if isinstance(batch, tuple | list) else batch


def _rounds(batches: Iterable[Any]) -> Iterator[Tensor]:
    """The inputs of each batch, again and again, until there are none left, as of an iterator that has ended."""
    ran = True
    while ran:
        ran = False
        for inputs in _inputs(batches):
            ran = True
            yield inputs
