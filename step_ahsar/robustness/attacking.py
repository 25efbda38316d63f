"""Attacks: images that are changed along the gradient of the loss, within a small box, so that the model errs.

The attacks are those of the Adversarial Robustness Toolbox. The derivative of a spike is 0 almost everywhere, so they
follow the surrogate's gradient, as training does. This is not the slope of the function that is attacked: an attack may
fail where a better one would succeed. The accuracy under attack is an upper bound of that under the worst change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from step_ahsar.data import seeded
from step_ahsar.errors import UserError
from step_ahsar.tasks.classification import logits


@dataclass(frozen=True)
class Attack:
    """An attack by its name in ART.

    Args:
        title: what it is called.
        name: of its class in ``art.attacks.evasion``.
        options: of its constructor, but for its size.
        share: of the whole change, each step.
    """

    title: str
    name: str
    options: Mapping[str, Any]
    share: float = 1.0

    @property
    def gradients(self) -> int:
        """How many are computed for each image."""
        return self.options.get("max_iter", 1)


ATTACKS: Mapping[str, Attack] = {
    "fgsm": Attack("fast gradient sign (Goodfellow et al. 2015)", "FastGradientMethod", {}),
    "pgd": Attack(
        "projected gradient descent (Madry et al. 2018)",
        "ProjectedGradientDescent",
        {"max_iter": 10, "num_random_init": 1, "verbose": False},
        share=0.25,  # steps of 2/255 for the usual 8/255
    ),
}


def check_library() -> None:
    """Raises UserError if the library is not installed."""
    if find_spec("art") is None:
        raise UserError("attacks need the Adversarial Robustness Toolbox: pip install adversarial-robustness-toolbox")


class Attacker:
    """Attacks the images of a classification task with a copy of a model.

    Args:
        model: the trained model.
        mean: of each channel, by which its images were normalised.
        std: the same.
        classes: number of classes.

    Raises:
        UserError: the library is not installed.
    """

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor, classes: int) -> None:
        check_library()
        from art.attacks import evasion  # slow to import
        from art.estimators.classification import PyTorchClassifier

        self._evasion, self._classifier = evasion, PyTorchClassifier
        # A copy, so that nobody counts the spikes of an attack.
        self._model = _Logits(deepcopy(model).eval())
        self._device = next(model.parameters()).device
        self._mean, self._std, self._classes = mean.cpu().numpy(), std.cpu().numpy(), classes

    def batches(
        self, batches: Iterable[tuple[Tensor, Tensor]], attack: str, size: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches with attacked images.

        Args:
            batches: normalised images [B, C, H, W] and classes [B].
            attack: one of :data:`ATTACKS`.
            size: the largest change of a pixel, in 1/255.
        """
        found, size = ATTACKS[attack], size / 255
        for number, (inputs, targets) in enumerate(batches):
            x = (inputs.cpu().numpy() * self._std + self._mean).astype(np.float32)
            with seeded("attack", number), torch.inference_mode(False), torch.enable_grad():
                classifier = self._classifier(
                    self._model,
                    nn.CrossEntropyLoss(),
                    x.shape[1:],
                    self._classes,
                    clip_values=(0.0, 1.0),
                    preprocessing=(self._mean.astype(np.float32), self._std.astype(np.float32)),
                    device_type="gpu" if self._device.type == "cuda" else "cpu",
                )
                method = getattr(self._evasion, found.name)
                options = {"eps": size, "eps_step": size * found.share, "batch_size": len(x), **found.options}
                attacked = method(classifier, **options).generate(x, y=targets.cpu().numpy()) if size else x
            yield torch.from_numpy(((attacked - self._mean) / self._std).astype(np.float32)), targets


class _Logits(nn.Module):
    """A model whose outputs are logits [B, K], with or without a time axis."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return logits(self.model(x))
