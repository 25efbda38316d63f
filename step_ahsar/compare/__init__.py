"""Comparisons: cells x seeds, trained under the same conditions, resumable, and their statistics."""

from step_ahsar.compare.collect import collect
from step_ahsar.compare.estimate import CellEstimate, Estimate, estimate
from step_ahsar.compare.folder import COMPARISON
from step_ahsar.compare.join import join
from step_ahsar.compare.observer import Observer, PlannedRun
from step_ahsar.compare.runner import compare, planned
from step_ahsar.compare.schema import Summary
from step_ahsar.compare.summary import load, write

__all__ = [
    "COMPARISON",
    "CellEstimate",
    "Estimate",
    "Observer",
    "PlannedRun",
    "Summary",
    "collect",
    "compare",
    "estimate",
    "join",
    "load",
    "planned",
    "write",
]
