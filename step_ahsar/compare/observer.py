"""The runs of a comparison, and the interface for observing their progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from step_ahsar.config import Config


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison: one cell with one seed."""

    cell: str
    seed: int
    epochs: int
    config: Config = field(compare=False, repr=False)
    conditions: tuple[str, ...] = field(default=(), compare=False, repr=False)  # under which it is tested afterwards
    early_exit: str | None = field(default=None, compare=False, repr=False)  # the criterion, if it is tested with that


class Observer:
    """Is told about the progress of a comparison. This class ignores it; a subclass overrides the methods it needs."""

    def hooks(self, run: PlannedRun) -> dict[str, Any]:
        """`on_epoch` and `on_step` for `engine.train`."""
        return {
            "on_epoch": lambda metrics: self.epoch_ended(run, metrics),
            "on_step": lambda step: self.step_ended(run, step),
        }

    def follow(self, config: Config) -> dict[str, Any]:
        """`on_epoch` and `on_step` for `engine.train` of a run that is part of no comparison; it starts now."""
        run = PlannedRun(config.model.name, config.seed, config.train.epochs, config)
        self.planned([run])
        self.run_started(run)
        return self.hooks(run)

    def changed(self, lines: Sequence[str]) -> None:
        """Called before :meth:`planned` if the folder has runs of another config: what becomes of each cell."""

    def planned(self, runs: Sequence[PlannedRun]) -> None:
        """Called first, with all runs in their order."""

    def run_started(self, run: PlannedRun) -> None:
        """`run` starts, or continues from its checkpoint."""

    def step_ended(self, run: PlannedRun, step: dict[str, Any]) -> None:
        """An optimiser step of `run` has ended: ``epoch``, ``epochs``, ``step``, ``steps``, ``loss``."""

    def epoch_ended(self, run: PlannedRun, metrics: dict[str, Any]) -> None:
        """An epoch of `run` has ended, with its line of metrics.jsonl."""

    def run_ended(self, run: PlannedRun, result: dict[str, Any]) -> None:
        """`run` has ended, now or earlier, with the result that :func:`step_ahsar.engine.train` returns."""
