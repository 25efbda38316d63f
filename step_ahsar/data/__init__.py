"""Data sets by name: reading their formats, preparing samples, and batches that depend on the seed alone.

``images``, ``events``, ``sequences`` and ``scenes`` (for segmentation and detection) read the formats of one kind of
data each. ``embedded`` makes data sets of scikit-learn's digits, ``own`` takes those that were made in Python.
``common`` is used by all of them. ``pipeline``
assembles the preparation that a config asks for, ``loading`` makes batches.
"""

# Importing these modules registers their data sets.
from step_ahsar.data import embedded, events, images, scenes, sequences  # noqa: F401
from step_ahsar.data.common.corruptions import SEVERITIES
from step_ahsar.data.common.files import cache_folder
from step_ahsar.data.common.fingerprint import FINGERPRINT_VERSION, fingerprint_arrays
from step_ahsar.data.common.registry import (
    DATASETS,
    DatasetSpec,
    Samples,
    Size,
    Splits,
    find_dataset,
    list_datasets,
    register_dataset,
)
from step_ahsar.data.common.seeding import derive_seed, seeded
from step_ahsar.data.loading import Batch, Batches, Data, open_data
from step_ahsar.data.own import Datasets
from step_ahsar.data.pipeline import build_pipeline, check_options, find_corruption, list_corruptions, model_input

__all__ = [
    "DATASETS",
    "FINGERPRINT_VERSION",
    "SEVERITIES",
    "Batch",
    "Batches",
    "Data",
    "DatasetSpec",
    "Datasets",
    "Samples",
    "Size",
    "Splits",
    "build_pipeline",
    "cache_folder",
    "check_options",
    "derive_seed",
    "find_corruption",
    "find_dataset",
    "fingerprint_arrays",
    "list_corruptions",
    "list_datasets",
    "model_input",
    "open_data",
    "register_dataset",
    "seeded",
]
