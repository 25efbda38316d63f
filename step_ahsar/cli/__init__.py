"""The command line: `step-ahsar list|train|evaluate|compare|report|validate`."""

import os

# Read when torch is loaded, later. Threads that wait then leave their core to others: where cores are shared, spinning
# makes a training step several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from step_ahsar.cli.app import app, main  # the line above must come first

__all__ = ["app", "main"]
