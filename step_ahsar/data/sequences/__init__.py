"""Series: images pixel by pixel, spikes of an artificial cochlea, spoken words, and any other channels over time."""

# Importing these modules registers their data sets.
from step_ahsar.data.sequences import audio, pixels, series, spikes  # noqa: F401
