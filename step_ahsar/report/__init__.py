"""Tables, plots and one self-contained HTML page, from a summary (docs/summary.md) and nothing else."""

from step_ahsar.report.page import REPORT, find_pictures, render, write
from step_ahsar.report.single import Single, find_single
from step_ahsar.report.table import print_table

__all__ = ["REPORT", "Single", "find_pictures", "find_single", "print_table", "render", "write"]
