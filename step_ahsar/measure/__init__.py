"""Measuring a model: firing rates, operations and estimates of their energy, memory."""

from step_ahsar.measure.energy import PRESETS, Energy, Preset, energy
from step_ahsar.measure.operations import LayerOperations, OperationMeter, Operations, operations

__all__ = ["PRESETS", "Energy", "LayerOperations", "OperationMeter", "Operations", "Preset", "energy", "operations"]
