"""The models of the zoo, and small ones made for the tests: lively, and in float64."""

import os
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from step_ahsar.layers import LearnedPool, TemporalInteraction
from step_ahsar.models import SpikingTransformer, list_models
from step_ahsar.neurons import SpikingNeuron

golden_script = runpy.run_path(str(Path(__file__).parents[3] / "scripts" / "golden.py"))
fill, small, describe = golden_script["fill"], golden_script["small"], golden_script["describe"]

ALL = list_models()
SMALL = [name for name in ALL if small(name)]
FAMILIES = {name: family for family in golden_script["FAMILIES"] for name in list_models(family)}
_ONE_EACH = [name for name in SMALL if not any(f"_{form}_" in name for form in ("imagenet", "dvs", "seq"))]
# For tests with many cases: of each family the small model for images, or for events where it has none. Set
# STEP_AHSAR_ALL_MODELS=1 for all small models, with every neuron.
EVERYTHING = bool(os.environ.get("STEP_AHSAR_ALL_MODELS"))
FOR_MANY_CASES = SMALL if EVERYTHING else [*_ONE_EACH, "tim_dvs_2_64"]


def create(name: str, **options: Any) -> SpikingTransformer:
    """A small model of LIF neurons in float64, in which no rounding moves a spike, with lively weights."""
    given = {"num_classes": 5, "time_steps": 3, "neuron": "lif", "threshold": 1.0, **options}
    model = timm.create_model(name, **given).double().eval()
    assert isinstance(model, SpikingTransformer)
    fill(model)
    return model


def inputs(model: SpikingTransformer, batch: int = 2, time_steps: int | None = None, seed: int = 0) -> Tensor:
    """The smallest input with more than one token, or of the only size that the model takes."""
    size = model.img_size if one_size(model) else [2 * model.multiple] * model.ndim
    assert size is not None
    steps = [] if time_steps is None else [time_steps]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*steps, batch, model.in_chans, *size, generator=generator, dtype=torch.float64)


def lively(name: str, **options: Any) -> SpikingTransformer:
    """A small model in which every layer fires on small inputs, also behind attention products over few tokens."""
    few = FAMILIES[name] not in ("qkformer", "spikingresformer", "swformer")
    return create(name, **{"threshold": 0.5, "attn_threshold": 0.1 if few else None, **options})


def one_size(model: torch.nn.Module) -> bool:
    """Whether the model has weights for each position."""
    return any(isinstance(m, LearnedPool | TemporalInteraction) for m in model.modules())


def one_length(model: torch.nn.Module) -> bool:
    """Whether the model has weights for each time step."""
    return any(isinstance(m, LearnedPool) for m in model.modules())


def neurons(model: torch.nn.Module) -> Iterator[tuple[str, SpikingNeuron]]:
    return ((name, m) for name, m in model.named_modules() if isinstance(m, SpikingNeuron))
