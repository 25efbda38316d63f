"""The command line: `step-ahsar list|train|evaluate|compare|report|validate`."""

import os

# Read when torch is loaded, later. Waiting threads spin for a moment, then leave their core to others: not at all is
# slower on a quiet machine (a small training step took 78 ms instead of 51), without end is slower on a busy one.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from step_ahsar.cli.app import app, main  # the line above must come first

__all__ = ["app", "main"]
