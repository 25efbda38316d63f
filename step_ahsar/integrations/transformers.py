"""AHSAR in transformers' Trainer: ``Trainer(..., callbacks=[AHSARCallback()])``."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.integrations.activity import activity
from step_ahsar.integrations.regulating import Regulating

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError:
    raise UserError("AHSARCallback needs transformers: pip install transformers") from None

_FILE = "ahsar.pt"  # beside the Trainer's own files in a checkpoint


class AHSARCallback(Regulating, TrainerCallback):
    """Regulates the model of a Trainer, logs its activity, and keeps the controller in the Trainer's checkpoints.

    The fast loop follows the optimiser's steps, the slow loop the epochs. The entries of the Trainer's ``log_history``
    have ``ahsar/rate/GROUP`` and ``ahsar/threshold_scale/GROUP``, too, means over the layers of a group. A model that
    is under a controller already goes on with it.

    Arguments: :class:`step_ahsar.integrations.regulating.Regulating`; ``metric`` is one of an evaluation's, such as
    "eval_accuracy": the newest at the end of an epoch, or of the evaluation that follows it.
    """

    _training = _epoch_ended = False
    _evaluated: float | None = None
    _seen: tuple[str, ...] = ()  # metrics of evaluations in which the one that is asked for was missing

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        """Regulates the model, before weights of a checkpoint are loaded."""
        self.regulate(model)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: nn.Module, **_: Any
    ) -> None:
        """Regulates a model that is new (``model_init``). Of a training that continues, restores the controller."""
        self.regulate(model)
        self._training, self._epoch_ended, self._evaluated, self._seen = True, False, None, ()
        if not state.global_step:
            return
        given = args.resume_from_checkpoint
        places = [Path(given)] if isinstance(given, str) and Path(given).is_dir() else []
        file = next((p / _FILE for p in (*places, _checkpoint(args, state)) if (p / _FILE).is_file()), None)
        if file is not None:
            self.regulated().load_state_dict(torch.load(file, weights_only=True))
        else:
            warnings.warn(
                f"training continues after {state.global_step} steps, but AHSAR begins anew: there is no {_FILE} in "
                f"{_checkpoint(args, state)}; where a checkpoint of another folder is resumed, name it in "
                "TrainingArguments(resume_from_checkpoint=...) as well",
                stacklevel=2,
            )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The fast loop, after an optimiser's step."""
        self.step()

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The slow loop of the epoch before, if it has not run yet."""
        self._end_epoch()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Notes it: the epoch's own evaluation follows."""
        self._epoch_ended = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float],
        **_: Any,
    ) -> None:
        """Notes the metric; after an epoch, the slow loop. Evaluations outside of training change nothing."""
        if not self._training:
            return
        if self.metric is not None and self.metric not in metrics:  # of another of several sets, perhaps
            self._seen += tuple(metrics)
            return
        self._evaluated = None if self.metric is None else metrics[self.metric]
        self._seen = ()
        self._end_epoch()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The slow loop of the last epoch, if it has not run yet."""
        self._end_epoch()
        self._training = False

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Adds the activity to the newest entry of the history."""
        state.log_history[-1].update(activity(self.regulated()))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Writes the controller's state into the checkpoint."""
        self._end_epoch()
        if state.is_world_process_zero and (folder := _checkpoint(args, state)).is_dir():
            torch.save(self.regulated().state_dict(), folder / _FILE)

    def _end_epoch(self) -> None:
        if not self._epoch_ended:
            return
        if self._seen and self._evaluated is None:
            raise UserError(
                f"AHSARCallback: the evaluation has no metric {self.metric!r}; it has {', '.join(self._seen)}"
            )
        self.epoch_end(self._evaluated)
        self._epoch_ended, self._evaluated, self._seen = False, None, ()


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
