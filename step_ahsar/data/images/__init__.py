"""Images with one class each."""

# They register their data sets.
from step_ahsar.data.images import arrays, stored  # noqa: F401
