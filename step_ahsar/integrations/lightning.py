"""AHSAR in PyTorch Lightning: ``Trainer(callbacks=[AHSARCallback()])``."""

from collections.abc import Mapping
from typing import Any

from step_ahsar.errors import UserError
from step_ahsar.integrations.activity import activity
from step_ahsar.integrations.regulating import Regulating

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
    except ImportError:
        raise UserError("AHSARCallback needs lightning or pytorch_lightning: pip install lightning") from None


class AHSARCallback(Regulating, Callback):
    """Regulates the module of a Trainer, logs its activity, and keeps the controller in checkpoints.

    The fast loop follows the batches in which an optimiser made a step, whatever ``accumulate_grad_batches`` is; the
    slow loop the epochs. Each epoch logs ``ahsar/rate/GROUP`` and ``ahsar/threshold_scale/GROUP``, means over the
    layers of a group. A module that is under a controller already goes on with it.

    Arguments: :class:`step_ahsar.integrations.regulating.Regulating`; ``metric`` is one that is logged in validation.
    An epoch without validation counts as one without a metric.
    """

    _steps = 0
    _validated: float | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Regulates the module, before weights of a checkpoint are loaded: to be trained, tested or used."""
        self.regulate(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes how many steps the optimisers have made."""
        self._steps, self._validated = trainer.global_step, None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The fast loop, if an optimiser has made a step in this batch."""
        if trainer.global_step > self._steps:
            self.step()
        self._steps = trainer.global_step

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the metric. Raises UserError if it was not logged."""
        if self.metric is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.metric not in trainer.callback_metrics:
            known = ", ".join(trainer.callback_metrics) or "none"
            raise UserError(f"AHSARCallback: validation logged no metric {self.metric!r}; logged were {known}")
        self._validated = float(trainer.callback_metrics[self.metric])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The slow loop, and the logs."""
        self.epoch_end(self._validated)
        self._validated = None
        pl_module.log_dict(activity(self.regulated()))

    def state_dict(self) -> dict[str, Any]:
        """The controller's state, for Lightning's checkpoints."""
        return {} if self.controller is None else self.controller.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores :meth:`state_dict`."""
        if state_dict and self.controller is not None:
            self.controller.load_state_dict(state_dict)
