"""AHSAR in the Trainer of Hugging Face's transformers: one callback.

pip install transformers
python examples/transformers_trainer.py
"""

import tempfile

import timm
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed

import step_ahsar.models  # noqa: F401  (registers the models with timm)
from step_ahsar.integrations.transformers import AHSARCallback


class Classifier(nn.Module):
    """What the Trainer asks of a model: a loss and logits. Knows nothing of AHSAR."""

    def __init__(self) -> None:
        super().__init__()
        self.model = timm.create_model(
            "spikformer_2_64", num_classes=10, in_chans=1, img_size=8, time_steps=2, dim=32, depth=1
        )

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``[B, 1, 8, 8]`` and ``[B]``."""
        logits = self.model(pixel_values)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def accuracy(found: EvalPrediction) -> dict[str, float]:
    """For compute_metrics."""
    return {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}


set_seed(0)
digits = load_digits()
samples = [
    {"pixel_values": torch.tensor(image).float().unsqueeze(0) / 16, "labels": int(label)}
    for image, label in zip(digits.images, digits.target, strict=True)
]
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder, num_train_epochs=3, per_device_train_batch_size=50, learning_rate=5e-3, eval_strategy="epoch",
        logging_strategy="epoch", save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        Classifier(), arguments, train_dataset=samples[:1500], eval_dataset=samples[1500:], compute_metrics=accuracy,
        callbacks=[AHSARCallback()],  # AHSARCallback(AHSARConfig(budget=0.05)) asks for an activity
    )  # fmt: skip
    trainer.train()
    for name, value in trainer.state.log_history[-1].items():  # ahsar/rate/stem, ahsar/threshold_scale/stem, ...
        print(f"{name}: {value:.3g}")
    print(f"test accuracy: {trainer.evaluate()['eval_accuracy']:.3f}")
