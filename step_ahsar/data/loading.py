"""Batches whose order and augmentation depend on the seed alone, not on the number of workers or on the model.

The sampler yields pairs (epoch, index). So the random draws of a sample are a function of (seed, epoch, index),
whichever process makes it, and no process has to be told the epoch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from step_ahsar import ranks
from step_ahsar.config import Config
from step_ahsar.data.cache import FrameCache
from step_ahsar.data.common.files import cache_folder
from step_ahsar.data.common.fingerprint import FINGERPRINT_VERSION
from step_ahsar.data.common.registry import DatasetSpec, Samples, Size, Splits, find_dataset
from step_ahsar.data.common.seeding import derive_seed, seeded
from step_ahsar.data.common.splits import Subset, limited, with_validation
from step_ahsar.data.events.augment import is_augmented
from step_ahsar.data.events.representations import FRAMES_VERSION
from step_ahsar.data.own import Datasets, open_own
from step_ahsar.data.pipeline import (
    Part,
    Pipeline,
    build_pipeline,
    check_options,
    frames_of,
    model_input,
    normalisation,
)
from step_ahsar.errors import UserError
from step_ahsar.files import digest

Batch = tuple[Tensor, Any]  # inputs [B, C, *S] or [T, B, C, *S]; classes [B], class maps [B, H, W] or objects


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) of every sample, in an order drawn from (seed, epoch).

    All are of ``batch_size``; the rest is left out. Of several processes each gets its share of every batch.
    """

    def __init__(self, size: int, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
        batches = torch.randperm(self.size, generator=generator).split(self.batch_size)
        return ([(epoch, index) for index in ranks.share(batch.tolist())] for batch in batches[: len(self)])

    def __len__(self) -> int:
        return self.size // self.batch_size


@dataclass(frozen=True)
class _Broken:
    """Stands for a sample that could not be read. A loading process returns it instead of raising the error."""

    fault: str


class PreparedSamples(Dataset[Any]):
    """Samples as tensors, accessed by (epoch, index) in training and by index otherwise.

    Random draws are seeded by (seed, epoch, index) in training, and by the index alone in testing and validation.
    """

    def __init__(self, samples: Samples, pipeline: Pipeline, part: Part, seed: int | None = None) -> None:
        self.samples, self.pipeline, self.part, self.seed = samples, pipeline, part, seed

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        epoch, index = (0, key) if isinstance(key, int) else key
        try:
            if not self.pipeline.random:
                return self.pipeline.run(*self.samples[index], None)
            names = (self.part, index) if self.seed is None else (self.seed, "augmentation", epoch, index)
            with seeded(*names):  # reading, too: samples that were handed over are transformed by it
                return self.pipeline.run(*self.samples[index], np.random.default_rng(derive_seed(*names)))
        except UserError as fault:
            return _Broken(str(fault))

    def __len__(self) -> int:
        return len(self.samples)


class Batches:
    """A loader that raises the faults of samples as UserErrors of the main process."""

    def __init__(self, loader: "DataLoader[Any]", most: int | None = None) -> None:
        self._loader, self._most = loader, most

    def __iter__(self) -> Iterator[Batch]:
        for batch in islice(self._loader, self._most):
            if isinstance(batch, _Broken):
                raise UserError(batch.fault)
            yield batch

    def __len__(self) -> int:
        return len(self._loader) if self._most is None else min(self._most, len(self._loader))

    def first(self, number: int) -> "Batches":
        """No more than this number of batches."""
        return Batches(self._loader, number)


@dataclass(frozen=True)
class Data:
    """An opened data set, with the config that says how to prepare it.

    Args:
        config: the run's config.
        spec: what is known about the data set, completed when it was opened.
        splits: its samples.
    """

    config: Config
    spec: DatasetSpec
    splits: Splits

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that the task is about, by index."""
        if self.config.task == "segmentation":
            return self.splits.pixel_classes or self.splits.classes
        return self.splits.classes

    @property
    def in_chans(self) -> int:
        """Channels of a model's input."""
        channels = model_input(self.config, self.spec)[0]
        assert channels is not None
        return channels

    @property
    def size(self) -> Size:
        """Height and width, or length, of a model's input in training."""
        size = model_input(self.config, self.spec)[1]
        assert size is not None
        return size

    @property
    def sizes(self) -> tuple[Size, ...]:
        """:attr:`size`, and that of testing if it is another."""
        test_size = self.config.data.test_size
        return (self.size,) if test_size is None else (self.size, test_size)

    def train_batches(self, seed: int) -> Callable[[int], Batches]:
        """A function from the epoch to its batches. All have ``batch_size`` samples; the rest is left out.

        Of several processes each gets its share of every batch.

        Raises:
            UserError: fewer samples than one batch, or fewer samples in a batch than processes.
        """
        size, batch_size = len(self.splits.train), self.config.data.batch_size
        if size < batch_size:
            raise UserError(f"data.batch_size must be <= {size}, the number of training samples, got {batch_size}")
        if batch_size < ranks.size():
            raise UserError(
                f"data.batch_size must be >= {ranks.size()}, the number of processes, which share every batch, got "
                f"{batch_size}"
            )
        sampler = EpochBatches(size, batch_size, seed)
        batches = self._batches("train", seed, batch_sampler=sampler)

        def of_epoch(epoch: int) -> Batches:
            sampler.epoch = epoch
            return batches

        return of_epoch

    def validation_batches(self) -> Batches | None:
        """Every validation sample of this process once, in order; None if there is no validation part."""
        return None if self.splits.validation is None else self._every("validation")

    def reference_batches(self, most: int) -> Batches:
        """Up to ``most`` samples of the training part, prepared as in validation: without augmentation or corruption.

        Which ones does not depend on the run's seed. Of several processes each has a block of them.
        """
        train = limited(self.splits.train, most, "reference")
        return replace(self, splits=replace(self.splits, validation=train))._every("validation")

    def test_batches(self) -> Batches:
        """Every test sample of this process once, in order."""
        return self._every("test")

    def _every(self, part: Part) -> Batches:
        """Every sample of a part once, in order; of several processes each has a block of them.

        For classification the batches are four times as large as in training, because no activations are kept for a
        backward pass. The predictions of other tasks are themselves large.
        """
        factor = 4 if self.config.task == "classification" else 1
        block = ranks.block(len(self._samples(part)))
        return self._batches(part, batch_size=factor * self.config.data.batch_size, sampler=block)

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation of each channel by which images are normalised; None for other data."""
        return normalisation(self.config.data, self.spec)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "name": self.config.data.name,
            "modality": self.spec.modality,
            "fingerprint": self.splits.fingerprint,
            "fingerprint_version": FINGERPRINT_VERSION,
            "train": len(self.splits.train),
            "validation": 0 if self.splits.validation is None else len(self.splits.validation),
            "test": len(self.splits.test),
            "split_seed": self.config.data.split_seed,
            "classes": len(self.classes),
            "class_names": digest("\0".join(self.classes).encode()),
            "skipped": list(self.splits.skipped),
        }

    def _batches(self, part: Part, seed: int | None = None, **options: Any) -> Batches:
        data = self.config.data
        pipeline = build_pipeline(self.config, self.spec, part)
        samples = PreparedSamples(self._cached(part), pipeline, part, seed)
        loader: DataLoader[Any] = DataLoader(
            samples,
            num_workers=data.workers,
            persistent_workers=data.workers > 0,
            prefetch_factor=data.prefetch if data.workers else None,
            pin_memory=torch.cuda.is_available() if data.pin_memory is None else data.pin_memory,
            generator=torch.Generator(),  # a loader draws from its generator, which must not be torch's global one
            collate_fn=_Collate(pipeline.has_time),
            **options,
        )
        return Batches(loader)

    def _samples(self, part: Part) -> Samples:
        samples = {"train": self.splits.train, "validation": self.splits.validation, "test": self.splits.test}[part]
        assert samples is not None
        return samples

    def _cached(self, part: Part) -> Samples:
        """The part's samples. Recordings from disk that are neither augmented nor corrupted come as cached frames."""
        data, samples = self.config.data, self._samples(part)
        changed = {"train": is_augmented(data.events), "validation": False, "test": data.corruption is not None}[part]
        if self.spec.modality != "event" or data.root is None or changed:
            return samples
        # The cache is of the whole set, so that its files can be used whichever samples are chosen.
        if isinstance(samples, Subset):
            return Subset(self._with_cache(samples.samples, part), samples.indices)
        return self._with_cache(samples, part)

    def _with_cache(self, samples: Samples, part: Part) -> FrameCache:
        train = self.splits.train
        held_out = part == "validation" and isinstance(train, Subset) and train.samples is samples
        to_frames, settings = frames_of(self.config, self.spec), self.config.data.events
        what = (
            FRAMES_VERSION,
            self.splits.fingerprint,
            "train" if held_out else part,
            len(samples),
            settings.model_dump(include={"representation", "window_ms", "tau_ms", "transforms"}),
            to_frames.keywords["time_steps"],
            to_frames.keywords["size"],
        )
        name = blake2b(repr(what).encode(), digest_size=16).hexdigest()
        return FrameCache(samples, to_frames, cache_folder(self.config.data) / name)


def open_data(config: Config, datasets: Datasets | Data | None = None) -> Data:
    """Opens the data set of a config.

    Args:
        config: the run's config.
        datasets: for ``data.name: own`` the data sets themselves, see :func:`step_ahsar.data.own.open_own`; or the data
            that the config names if they are open already.

    Raises:
        UserError: it is unknown, not where it is looked for, or options do not apply to it.
    """
    if isinstance(datasets, Data):
        return replace(datasets, config=config)
    spec = find_dataset(config.data.name)
    check_options(config, spec)
    if datasets is None:
        splits = spec.open(config.data)
    else:
        spec, splits = open_own(config.data, spec, datasets)
    if config.task == "segmentation" and not splits.pixel_classes:
        raise UserError(f"dataset {config.data.name!r} in {config.data.root} has no masks to learn segmentation from")
    if config.task == "detection" and not splits.classes:
        raise UserError(f"dataset {config.data.name!r} in {config.data.root} has no boxes to learn detection from")
    if config.data.test_share is not None and not splits.test_held_out:
        raise UserError(
            f"data.test_share does not apply to dataset {config.data.name!r}, which has a test part of its own"
        )
    splits = with_validation(splits, config.data)
    limit = config.data.test_limit
    splits = replace(
        splits,
        train=limited(splits.train, config.data.train_limit, "train"),
        validation=None if splits.validation is None else limited(splits.validation, limit, "validation"),
        test=limited(splits.test, limit, "test"),
    )
    told = replace(
        spec,
        in_chans=spec.in_chans or splits.in_chans,
        size=spec.size or splits.size,
        mean=spec.mean or splits.mean,
        std=spec.std or splits.std,
    )
    return Data(config, told, splits)


class _Collate:
    """Makes a batch of samples: inputs [B, C, *S], or [T, B, C, *S] with a time axis. Objects stay a list."""

    def __init__(self, has_time: bool) -> None:
        self.has_time = has_time

    def __call__(self, samples: Sequence[Any]) -> Any:
        for sample in samples:
            if isinstance(sample, _Broken):
                return sample
        inputs, targets = zip(*samples, strict=True)
        batch = torch.stack(inputs, dim=1 if self.has_time else 0)
        if isinstance(targets[0], dict):
            return batch, list(targets)
        if isinstance(targets[0], Tensor):
            return batch, torch.stack(targets)
        return batch, torch.tensor(targets)
