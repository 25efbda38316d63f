"""Batches in an order, and with augmentation draws, that only the seed decides: not the workers, not the model.

The sampler hands out (epoch, index) pairs, so that a sample's draws are a function of (seed, epoch, index) in whichever
process it is made, and no process has to be told which epoch it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from step_ahsar.config import Config
from step_ahsar.data.events.augment import is_augmented
from step_ahsar.data.events.cache import FrameCache
from step_ahsar.data.events.representations import FRAMES_VERSION
from step_ahsar.data.pipeline import Pipeline, build_pipeline, check_options, frames_of, model_input
from step_ahsar.data.registry import DatasetSpec, Samples, Size, Splits, find_dataset
from step_ahsar.data.seeding import derive_seed, seeded
from step_ahsar.errors import UserError

Batch = tuple[Tensor, Any]  # inputs [B, C, *S] or [T, B, C, *S]; classes [B], class maps [B, H, W] or objects

CACHE = "~/.cache/step-ahsar"


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index) of every sample, in an order drawn from (seed, epoch)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        epoch = self.epoch
        return ((epoch, index) for index in torch.randperm(self.size, generator=generator).tolist())

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True)
class _Broken:
    """A sample that could not be read, on its way out of a loading process."""

    fault: str


class PreparedSamples(Dataset[Any]):
    """Samples as tensors, by index, or by (epoch, index) in training.

    Random draws are seeded by (seed, epoch, index) in training, and by the index alone in testing.
    """

    def __init__(self, samples: Samples, pipeline: Pipeline, seed: int | None) -> None:
        self.samples, self.pipeline, self.seed = samples, pipeline, seed

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        epoch, index = (0, key) if isinstance(key, int) else key
        try:
            raw, target = self.samples[index]
            if not self.pipeline.random:
                return self.pipeline.run(raw, target, None)
            names = ("test", index) if self.seed is None else (self.seed, "augmentation", epoch, index)
            with seeded(*names):
                return self.pipeline.run(raw, target, np.random.default_rng(derive_seed(*names)))
        except UserError as fault:
            return _Broken(str(fault))

    def __len__(self) -> int:
        return len(self.samples)


class Batches:
    """A loader whose faults are raised here, in one line, not as the traceback of a loading process."""

    def __init__(self, loader: "DataLoader[Any]") -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._loader:
            if isinstance(batch, _Broken):
                raise UserError(batch.fault)
            yield batch

    def __len__(self) -> int:
        return len(self._loader)


@dataclass(frozen=True)
class Data:
    """An opened data set together with how a config wants it.

    Args:
        config: the run's.
        spec: what is known of the data set, completed by what the data told.
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

    def train_batches(self, seed: int) -> Callable[[int], Batches]:
        """A function of the epoch that gives its batches, all of ``batch_size``: what is left over is left out.

        Raises:
            UserError: fewer samples than one batch.
        """
        size, batch_size = len(self.splits.train), self.config.data.batch_size
        if size < batch_size:
            raise UserError(f"data.batch_size must be <= {size}, the number of training samples, got {batch_size}")
        sampler = EpochSampler(size, seed)
        batches = self._batches(True, seed, batch_size, sampler=sampler, drop_last=True)

        def of_epoch(epoch: int) -> Batches:
            sampler.epoch = epoch
            return batches

        return of_epoch

    def test_batches(self) -> Batches:
        """Every test sample once, in order.

        Batches for classification are four times larger: no activations are kept for a backward pass. What other tasks
        predict is large itself.
        """
        factor = 4 if self.config.task == "classification" else 1
        return self._batches(False, None, factor * self.config.data.batch_size)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "name": self.config.data.name,
            "modality": self.spec.modality,
            "fingerprint": self.splits.fingerprint,
            "train": len(self.splits.train),
            "test": len(self.splits.test),
            "classes": len(self.classes),
            "skipped": list(self.splits.skipped),
        }

    def _batches(self, training: bool, seed: int | None, batch_size: int, **options: Any) -> Batches:
        data = self.config.data
        pipeline = build_pipeline(self.config, self.spec, training)
        samples = PreparedSamples(self._cached(training), pipeline, seed)
        loader: DataLoader[Any] = DataLoader(
            samples,
            batch_size=batch_size,
            num_workers=data.workers,
            persistent_workers=data.workers > 0,
            prefetch_factor=data.prefetch if data.workers else None,
            pin_memory=torch.cuda.is_available() if data.pin_memory is None else data.pin_memory,
            generator=torch.Generator(),  # a loader draws from it once an epoch; torch's own must not move by that
            collate_fn=_Collate(pipeline.has_time),
            **options,
        )
        return Batches(loader)

    def _cached(self, training: bool) -> Samples:
        """The split's samples; recordings from disk that nothing changes as frames, kept after they were made once."""
        data = self.config.data
        samples = self.splits.train if training else self.splits.test
        changed = is_augmented(data.events) if training else data.corruption is not None
        if self.spec.modality != "event" or data.root is None or changed:
            return samples
        to_frames = frames_of(self.config, self.spec)
        settings = data.events.model_dump(include={"representation", "window_ms", "tau_ms"})
        what = (
            FRAMES_VERSION,
            self.splits.fingerprint,
            self.splits.stamp,
            training,
            len(samples),
            settings,
            to_frames.keywords["time_steps"],
            to_frames.keywords["size"],
        )
        name = blake2b(repr(what).encode(), digest_size=16).hexdigest()
        return FrameCache(samples, to_frames, Path(data.cache or CACHE).expanduser() / name)


def open_data(config: Config) -> Data:
    """Opens the data set of a config.

    Raises:
        UserError: it is unknown, not where it is looked for, or options do not apply to it.
    """
    spec = find_dataset(config.data.name)
    check_options(config, spec)
    splits = spec.open(config.data)
    if config.task == "segmentation" and not splits.pixel_classes:
        raise UserError(f"dataset {config.data.name!r} in {config.data.root} has no masks to learn segmentation from")
    if config.task == "detection" and not splits.classes:
        raise UserError(f"dataset {config.data.name!r} in {config.data.root} has no boxes to learn detection from")
    splits = replace(
        splits,
        train=_limited(splits.train, config.data.train_limit, "train"),
        test=_limited(splits.test, config.data.test_limit, "test"),
    )
    told = replace(
        spec,
        in_chans=spec.in_chans or splits.in_chans,
        size=spec.size or splits.size,
        mean=spec.mean or splits.mean,
        std=spec.std or splits.std,
    )
    return Data(config, told, splits)


class _Subset:
    """Some samples of a set."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, indices

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.samples[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def _limited(samples: Samples, limit: int | None, split: str) -> Samples:
    """So many samples, drawn without regard to the run's seed; all of them if there are no more."""
    if limit is None or limit >= len(samples):
        return samples
    drawn = np.random.default_rng(derive_seed("limit", split)).permutation(len(samples))[:limit]
    return _Subset(samples, sorted(drawn.tolist()))


class _Collate:
    """Samples to a batch: inputs [B, C, *S], or [T, B, C, *S] where they have time; objects stay a list."""

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
