"""Experiment configs: YAML checked against a schema, ``extends:``, dotted overrides, errors that name the key.

A config is read in layers, each over the last: the schema's defaults, the file that ``extends`` names (and what that
one extends), the file itself, the overrides. Keys are checked where they stand, so an error names the file.
"""

from step_ahsar.config.loading import list_configs, load_config
from step_ahsar.config.schema import (
    CellConfig,
    CompareConfig,
    Config,
    DataConfig,
    EventsConfig,
    HeadConfig,
    ModelConfig,
    SequenceConfig,
    TrainConfig,
)

__all__ = [
    "CellConfig",
    "CompareConfig",
    "Config",
    "DataConfig",
    "EventsConfig",
    "HeadConfig",
    "ModelConfig",
    "SequenceConfig",
    "TrainConfig",
    "list_configs",
    "load_config",
]
