"""Recordings of event cameras: reading them, and converting them to frames."""

# Importing these modules registers their data sets.
from step_ahsar.data.events import published, stored, tonic_sets  # noqa: F401
