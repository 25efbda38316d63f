"""Data sets that are made of scikit-learn's handwritten digits when they are needed. They need no files."""

# Importing these modules registers their data sets.
from step_ahsar.data.embedded import digits, events, scenes, sequences  # noqa: F401
