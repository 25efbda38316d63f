"""Beginning with the thresholds of another run: a control, which tells what they are from how they came about."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from step_ahsar import ranks
from step_ahsar.config import Config, differences
from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.run import Run
from step_ahsar.engine.state import TrainingState
from step_ahsar.errors import UserError, shortened


def begin_with_thresholds(state: TrainingState, config: Config) -> None:
    """Sets the threshold scales to those of the run that ``ahsar.thresholds_of`` names, if it names one.

    Raises:
        UserError: there is no such run, it has not ended well, or its model is another one.
    """
    if config.ahsar.thresholds_of is None or state.controller is None:
        return
    path = Path(config.ahsar.thresholds_of.replace("{seed}", str(config.seed)))
    scales = ranks.agreed(lambda: _scales(path, config))
    layers = state.controller.layers()
    if scales.keys() != layers.keys():
        raise UserError(f"ahsar.thresholds_of: the regulated layers of {path} are not those of this model")
    for name, scale in scales.items():
        state.model.get_buffer(f"{name}.threshold_scale").fill_(scale)


def _scales(path: Path, config: Config) -> dict[str, float]:
    """The threshold scales of a run after its last epoch, by the layer's name."""
    try:
        weights = _last_weights(path, config)
    except UserError as fault:
        raise UserError(f"ahsar.thresholds_of: {fault}") from None
    ending = ".threshold_scale"
    return {key.removesuffix(ending): scale.item() for key, scale in weights.items() if key.endswith(ending)}


def _last_weights(path: Path, config: Config) -> Mapping[str, Tensor]:
    """The state dict of a run's model as it was trained last, not averaged."""
    run = Run.existing(path)
    result = run.result()
    if result is None or result["status"] != "ok":
        raise UserError(f"the run in {path} has not ended, or not well")
    if differing := differences(run.config.to_dict()["model"], config.to_dict()["model"]):
        what = shortened(differing, limit=3, separator="; ")
        raise UserError(f"the model of {path} is another one: {what}")
    place = checkpoints.find(run.checkpoints, "last")
    return checkpoints.load(place, torch.device("cpu"), averaged=False).model
