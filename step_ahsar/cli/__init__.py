"""The command line: `step-ahsar list|validate|train|evaluate|export|compare|report|look|doctor`."""

import os

# torch reads this when it is imported. OpenMP threads that wait then spin for a short time before they sleep. Without
# spinning a small training step took 78 ms instead of 51 on an idle machine; endless spinning is slow on a busy one.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from step_ahsar.cli.app import app, main, progress_bar  # the line above must come first

__all__ = ["app", "main", "progress_bar"]
