"""Data sets by name, from their formats to batches that only the seed decides.

``images``, ``events``, ``sequences`` and ``scenes`` (what is segmented and detected) hold what is particular to a kind
of data; ``pipeline`` puts together the steps that a config asks for, ``loading`` makes batches.
"""

# They register their data sets.
from step_ahsar.data.events import simulate, stored, tonic  # noqa: F401
from step_ahsar.data.images import arrays, digits  # noqa: F401
from step_ahsar.data.images import stored as stored_images  # noqa: F401
from step_ahsar.data.loading import Batch, Data, open_data
from step_ahsar.data.pipeline import build_pipeline, check_options, model_input
from step_ahsar.data.registry import DatasetSpec, Samples, Size, Splits, find_dataset, list_datasets, register_dataset
from step_ahsar.data.scenes import coco, masks, voc  # noqa: F401
from step_ahsar.data.scenes import digits as scene_digits  # noqa: F401
from step_ahsar.data.scenes import events as scene_events  # noqa: F401
from step_ahsar.data.seeding import derive_seed, seeded
from step_ahsar.data.sequences import audio, pixels, series, spikes  # noqa: F401

__all__ = [
    "Batch",
    "Data",
    "DatasetSpec",
    "Samples",
    "Size",
    "Splits",
    "build_pipeline",
    "check_options",
    "derive_seed",
    "find_dataset",
    "list_datasets",
    "model_input",
    "open_data",
    "register_dataset",
    "seeded",
]
