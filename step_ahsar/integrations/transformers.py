"""AHSAR in transformers' Trainer: ``Trainer(..., callbacks=[AHSARCallback()])``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from step_ahsar.ahsar import AHSARConfig, Controller, regulate
from step_ahsar.ahsar.grouping import Grouping
from step_ahsar.errors import UserError
from step_ahsar.integrations.activity import activity
from step_ahsar.libraries.regulation import Rules

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError:
    raise UserError("AHSARCallback needs transformers: pip install transformers") from None

_FILE = "ahsar.pt"  # beside the Trainer's own files in a checkpoint


class AHSARCallback(TrainerCallback):
    """Regulates the model of a Trainer, logs its activity, and keeps the controller in the Trainer's checkpoints.

    The fast loop follows the optimiser's steps, the slow loop the evaluations. What the Trainer logs has also
    ``ahsar/rate/GROUP`` and ``ahsar/threshold_scale/GROUP``, means over the layers of a group, in its ``log_history``.

    Args:
        config: constants of the law.
        groups: as for :func:`step_ahsar.ahsar.regulate`.
        nodes: as for :func:`step_ahsar.ahsar.regulate`.
        metric: name of an evaluation's metric, higher is better, such as "eval_accuracy", for the slow loop; None =
            none.

    Attributes:
        controller: the controller; None before the Trainer is made.
    """

    def __init__(
        self,
        config: AHSARConfig | None = None,
        groups: Grouping | None = None,
        nodes: Rules | None = None,
        metric: str | None = None,
    ) -> None:
        self.config, self.groups, self.nodes, self.metric = config, groups, nodes, metric
        self.controller: Controller | None = None

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        """Regulates the model, before weights of a checkpoint are loaded."""
        self.controller = regulate(model, self.groups, self.config, nodes=self.nodes)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Of a training that continues, restores the controller."""
        file = _checkpoint(args, state) / _FILE
        if state.global_step and file.is_file():
            self._regulated().load_state_dict(torch.load(file, weights_only=True))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The fast loop, after an optimiser's step."""
        self._regulated().step()

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float],
        **_: Any,
    ) -> None:
        """The slow loop."""
        if self.metric is not None and self.metric not in metrics:
            known = ", ".join(metrics)
            raise UserError(f"AHSARCallback: the evaluation has no metric {self.metric!r}; it has {known}")
        self._regulated().epoch_end(None if self.metric is None else metrics[self.metric])

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Adds the activity to the newest entry of the history."""
        state.log_history[-1].update(activity(self._regulated()))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Writes the controller's state into the checkpoint."""
        if state.is_world_process_zero:
            torch.save(self._regulated().state_dict(), _checkpoint(args, state) / _FILE)

    def _regulated(self) -> Controller:
        assert self.controller is not None, "a Trainer is made before it trains"
        return self.controller


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
