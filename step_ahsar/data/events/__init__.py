"""Recordings of event cameras: reading them, and converting them to frames."""

# They register their data sets.
from step_ahsar.data.events import published, stored  # noqa: F401
