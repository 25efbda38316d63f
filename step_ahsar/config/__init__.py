"""Experiment configs: YAML checked against a schema, ``extends:``, dotted overrides, errors that name the key.

A config is read in layers, and each layer replaces values of the layers before it: the schema's defaults, the file that
``extends`` names (and what that file extends), the file itself, the overrides. The keys of each file are checked when
it is read, so an error names the file.
"""

from step_ahsar.config.loading import list_configs, load_config
from step_ahsar.config.schema import (
    CellConfig,
    ColumnsConfig,
    CompareConfig,
    Config,
    DataConfig,
    EventsConfig,
    HeadConfig,
    LaunchConfig,
    ModelConfig,
    RatePenaltyConfig,
    SequenceConfig,
    TrackConfig,
    TrainConfig,
)
from step_ahsar.config.values import differences, flat

__all__ = [
    "CellConfig",
    "ColumnsConfig",
    "CompareConfig",
    "Config",
    "DataConfig",
    "EventsConfig",
    "HeadConfig",
    "LaunchConfig",
    "ModelConfig",
    "RatePenaltyConfig",
    "SequenceConfig",
    "TrackConfig",
    "TrainConfig",
    "differences",
    "flat",
    "list_configs",
    "load_config",
]
