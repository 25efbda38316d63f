#!/usr/bin/env python
"""Writes zoo/<family>/golden.json, the reference outputs of every model. Run it when a change of them is intended.

python scripts/golden.py
"""

import hashlib
import json
import math
from typing import Any

import numpy as np
import timm
import torch

from step_ahsar.models import SpikingTransformer, list_models
from step_ahsar.paths import zoo_dir

FAMILIES = sorted(path.parent.name for path in zoo_dir().glob("*/variants.yaml"))


def fill(model: torch.nn.Module, seed: int = 0) -> None:
    """Draws all weights and norm statistics anew, the same on every platform, such that every layer fires."""
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for key, value in sorted(model.state_dict().items()):
            shape = tuple(value.shape)
            if key.endswith("running_var"):
                new = draw.uniform(0.5, 1.5, shape)
            elif key.endswith("norm.weight"):
                new = draw.uniform(0.5, 2.5, shape)
            elif key.endswith(("bias", "running_mean")):
                new = draw.normal(0.6 if key.endswith("norm.bias") else 0.0, 0.3, shape)
            elif key.endswith(("weight", "weight.original")):
                new = draw.normal(0.0, 1 / math.sqrt(value[0].numel()), shape)
            elif key.endswith(".scale"):
                new = draw.uniform(0.5, 1.0, shape)
            elif key.endswith("weight.0.step"):  # about where the steps of such weights start
                fan_in = model.state_dict()[key.replace("0.step", "original")][0].numel()
                new = draw.uniform(0.5, 0.7, shape) / math.sqrt(fan_in)
            else:
                continue
            value.copy_(torch.from_numpy(np.asarray(new)))


def small(name: str) -> bool:
    """Whether a model is meant for CPUs."""
    return name.endswith("_64")


def describe(name: str) -> dict[str, Any]:
    """Number of parameters and a hash of the state dict's keys and shapes; for the small models logits too.

    The logits are those of the model with :func:`fill`'s weights on one drawn input, in float64, where no platform's
    rounding moves a spike.
    """
    with torch.device("meta"):
        model = timm.create_model(name)
    layout = "\n".join(f"{key} {list(value.shape)}" for key, value in sorted(model.state_dict().items()))
    golden: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "state_dict": hashlib.sha256(layout.encode()).hexdigest()[:16],
    }
    if small(name):
        golden["logits"] = [round(float(v), 4) for v in _logits(name)]
    return golden


@torch.no_grad()
def _logits(name: str) -> torch.Tensor:
    model = timm.create_model(name, num_classes=5).double().eval()
    assert isinstance(model, SpikingTransformer)
    fill(model)
    side = 32 if model.ndim == 2 and model.multiple <= 16 else 64
    shape = (1, model.in_chans, *[side] * model.ndim)
    return model(torch.from_numpy(np.random.default_rng(1).normal(size=shape)))[0]


def main() -> None:
    for family in FAMILIES:
        path = zoo_dir() / family / "golden.json"
        golden = {name: describe(name) for name in list_models(family)}
        path.write_text(json.dumps(golden, indent=2) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
