"""Measuring a model: firing rates, operations and estimates of their energy, memory."""

from step_ahsar.measure.counting import (
    GroupOperations,
    LayerOperations,
    OperationMeter,
    Operations,
    Uncountable,
    operations,
)
from step_ahsar.measure.estimating import PRESETS, Energy, Preset, energy, like, presets
from step_ahsar.measure.tracing import Trace, trace

__all__ = [
    "PRESETS",
    "Energy",
    "GroupOperations",
    "LayerOperations",
    "OperationMeter",
    "Operations",
    "Preset",
    "Trace",
    "Uncountable",
    "energy",
    "like",
    "operations",
    "presets",
    "trace",
]
