"""Images with one class each."""

# Importing these modules registers their data sets.
from step_ahsar.data.images import arrays, stored  # noqa: F401
