"""Measuring a model: firing rates (``firing.py``), operations (``operations.py``) and memory (``memory.py``)."""

from step_ahsar.measure.operations import LayerOperations, OperationMeter, Operations, operations

__all__ = ["LayerOperations", "OperationMeter", "Operations", "operations"]
