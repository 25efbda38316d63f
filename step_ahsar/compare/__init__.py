"""Comparisons: cells x seeds, trained under the same conditions, resumable, and their statistics."""

from typing import TYPE_CHECKING

from step_ahsar.lazy import lazily

if TYPE_CHECKING:
    from step_ahsar.compare.collecting import collect
    from step_ahsar.compare.estimating import CellEstimate, Estimate, estimate
    from step_ahsar.compare.folder import COMPARISON
    from step_ahsar.compare.joining import join
    from step_ahsar.compare.observer import Observer, PlannedRun
    from step_ahsar.compare.runner import compare, planned
    from step_ahsar.compare.schema import Summary
    from step_ahsar.compare.summary import load, write

# The module of each name. It is imported on first use, because the launchers' names are known without what trains.
_HOMES = {
    "COMPARISON": "step_ahsar.compare.folder",
    "CellEstimate": "step_ahsar.compare.estimating",
    "Estimate": "step_ahsar.compare.estimating",
    "Observer": "step_ahsar.compare.observer",
    "PlannedRun": "step_ahsar.compare.observer",
    "Summary": "step_ahsar.compare.schema",
    "collect": "step_ahsar.compare.collecting",
    "compare": "step_ahsar.compare.runner",
    "estimate": "step_ahsar.compare.estimating",
    "join": "step_ahsar.compare.joining",
    "load": "step_ahsar.compare.summary",
    "planned": "step_ahsar.compare.runner",
    "write": "step_ahsar.compare.summary",
}

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

__getattr__ = lazily(__name__, _HOMES)
