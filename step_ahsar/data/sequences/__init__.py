"""Series: images pixel by pixel, spikes of an artificial cochlea, spoken words, and any other channels over time."""

# They register their data sets.
from step_ahsar.data.sequences import audio, pixels, series, spikes  # noqa: F401
