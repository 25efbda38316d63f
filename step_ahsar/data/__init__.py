"""Data sets by name, their transforms, and batches that only the seed decides."""

from step_ahsar.data import digits, static  # noqa: F401  # they register their data sets
from step_ahsar.data.loading import Batch, Data, open_data
from step_ahsar.data.registry import DatasetSpec, Samples, Splits, find_dataset, list_datasets, register_dataset
from step_ahsar.data.seeding import derive_seed, seeded
from step_ahsar.data.transforms import build_transform

__all__ = [
    "Batch",
    "Data",
    "DatasetSpec",
    "Samples",
    "Splits",
    "build_transform",
    "derive_seed",
    "find_dataset",
    "list_datasets",
    "open_data",
    "register_dataset",
    "seeded",
]
