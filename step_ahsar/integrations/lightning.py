"""AHSAR in PyTorch Lightning: ``Trainer(callbacks=[AHSARCallback()])``."""

from collections.abc import Mapping
from typing import Any

from step_ahsar.ahsar import AHSARConfig, Controller, regulate
from step_ahsar.ahsar.grouping import Grouping
from step_ahsar.errors import UserError
from step_ahsar.integrations.activity import activity
from step_ahsar.libraries.regulation import Rules

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
    except ImportError:
        raise UserError("AHSARCallback needs lightning or pytorch_lightning: pip install lightning") from None


class AHSARCallback(Callback):
    """Regulates the module that a Trainer fits, logs its activity, and keeps the controller in checkpoints.

    The fast loop follows the optimiser's steps, whatever ``accumulate_grad_batches`` is; the slow loop the epochs. Each
    epoch logs ``ahsar/rate/GROUP`` and ``ahsar/threshold_scale/GROUP``, means over the layers of a group.

    Args:
        config: constants of the law.
        groups: as for :func:`step_ahsar.ahsar.regulate`.
        nodes: as for :func:`step_ahsar.ahsar.regulate`.
        metric: name of a logged metric, higher is better, for the slow loop; None = none.

    Attributes:
        controller: the controller; None before the module is set up for fitting.
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
        self._steps = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Regulates the module, before weights of a checkpoint are loaded."""
        if stage == "fit" and (self.controller is None or self.controller.model is not pl_module):
            self.controller = regulate(pl_module, self.groups, self.config, nodes=self.nodes)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes how many steps the optimisers have made."""
        self._steps = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The fast loop, if this batch ended with an optimiser's step."""
        if trainer.global_step > self._steps:
            self._regulated().step()
        self._steps = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The slow loop, and the logs."""
        found = None if self.metric is None else trainer.callback_metrics.get(self.metric)
        if self.metric is not None and found is None:
            known = ", ".join(trainer.callback_metrics) or "none"
            raise UserError(f"AHSARCallback: no metric {self.metric!r} was logged in this epoch; logged were {known}")
        self._regulated().epoch_end(None if found is None else float(found))
        pl_module.log_dict(activity(self._regulated()))

    def state_dict(self) -> dict[str, Any]:
        """The controller's state, for Lightning's checkpoints."""
        return {} if self.controller is None else self.controller.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restores :meth:`state_dict`."""
        if state_dict and self.controller is not None:
            self.controller.load_state_dict(state_dict)

    def _regulated(self) -> Controller:
        assert self.controller is not None, "setup comes before training"
        return self.controller
