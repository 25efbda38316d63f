"""Tables, plots and one self-contained HTML page, from a summary (docs/summary.md) and nothing else."""

from step_ahsar.report.page import REPORT, render, write
from step_ahsar.report.table import print_table

__all__ = ["REPORT", "print_table", "render", "write"]
