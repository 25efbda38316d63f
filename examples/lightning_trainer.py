"""AHSAR in PyTorch Lightning: one callback.

pip install lightning
python examples/lightning_trainer.py
"""

import lightning.pytorch as pl
import timm
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import step_ahsar.models  # noqa: F401  (registers the models with timm)
from step_ahsar.integrations.lightning import AHSARCallback


class Digits(pl.LightningModule):
    """Knows nothing of AHSAR."""

    def __init__(self) -> None:
        super().__init__()
        self.model = timm.create_model(
            "spikformer_2_64", num_classes=10, in_chans=1, img_size=8, time_steps=2, dim=32, depth=1
        )

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        """The loss."""
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        """Logs the accuracy."""
        self.log("accuracy", (self.model(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


pl.seed_everything(0)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.images).float().unsqueeze(1) / 16, torch.tensor(digits.target))
train = DataLoader(torch.utils.data.Subset(data, range(1500)), batch_size=50, shuffle=True)
test = DataLoader(torch.utils.data.Subset(data, range(1500, 1797)), batch_size=297)

callback = AHSARCallback()  # AHSARCallback(AHSARConfig(budget=0.05)) asks for an activity
trainer = pl.Trainer(
    max_epochs=3, callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(Digits(), train, test)
for name, value in trainer.logged_metrics.items():  # ahsar/rate/stem, ahsar/threshold_scale/stem, ...
    print(f"{name}: {value:.3f}")
print(f"test accuracy: {trainer.callback_metrics['accuracy']:.3f}")
