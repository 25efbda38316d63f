"""What is segmented and detected: pictures with boxes and masks."""

# Importing these modules registers their data sets.
from step_ahsar.data.scenes import coco, masks, recordings, voc  # noqa: F401
