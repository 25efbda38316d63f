"""Batches in an order, and with augmentation draws, that only the seed decides: not the workers, not the model.

The sampler hands out (epoch, index) pairs, so that a sample's draws are a function of (seed, epoch, index) in whichever
process it is made, and no process has to be told which epoch it is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from step_ahsar.config import DataConfig
from step_ahsar.data.registry import DatasetSpec, Samples, Splits, find_dataset
from step_ahsar.data.seeding import derive_seed, seeded
from step_ahsar.data.transforms import build_transform, is_augmented
from step_ahsar.errors import UserError

Batch = tuple[Tensor, Tensor]  # images [B, C, H, W], classes [B]


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


class TrainingSamples(Dataset[tuple[Tensor, int]]):
    """Transformed samples by (epoch, index), their random draws seeded by (seed, epoch, index)."""

    def __init__(self, samples: Samples, transform: Callable[[Any], Tensor], seed: int) -> None:
        self.samples, self.transform, self.seed = samples, transform, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image, label = self.samples[index]
        with seeded(self.seed, "augmentation", epoch, index):
            return self.transform(image), label

    def __len__(self) -> int:
        return len(self.samples)


class PlainSamples(Dataset[tuple[Tensor, int]]):
    """Transformed samples by index, or by (epoch, index); nothing random."""

    def __init__(self, samples: Samples, transform: Callable[[Any], Tensor]) -> None:
        self.samples, self.transform = samples, transform

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[Tensor, int]:
        image, label = self.samples[key if isinstance(key, int) else key[1]]
        return self.transform(image), label

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class Data:
    """An opened data set together with how a config wants it.

    Args:
        config: the config's section.
        spec: what is known of the data set.
        splits: its samples.
    """

    config: DataConfig
    spec: DatasetSpec
    splits: Splits

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.splits.classes)

    @property
    def img_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.config.img_size or self.spec.img_size

    def train_batches(self, seed: int) -> Callable[[int], "DataLoader[Any]"]:
        """A function of the epoch that gives its batches, all of ``batch_size``: what is left over is left out.

        Raises:
            UserError: fewer samples than one batch.
        """
        size = len(self.splits.train)
        if size < self.config.batch_size:
            raise UserError(
                f"data.batch_size must be <= {size}, the number of training samples, got {self.config.batch_size}"
            )
        transform = build_transform(self.config, self.spec, training=True)
        samples: Dataset[Any]
        if is_augmented(self.config):
            samples = TrainingSamples(self.splits.train, transform, seed)
        else:
            samples = PlainSamples(self.splits.train, transform)
        sampler = EpochSampler(size, seed)
        loader = self._loader(samples, self.config.batch_size, sampler=sampler, drop_last=True)

        def batches(epoch: int) -> "DataLoader[Any]":
            sampler.epoch = epoch
            return loader

        return batches

    def test_batches(self) -> "DataLoader[Any]":
        """Every test sample once, in order; in larger batches, since no activations are kept for a backward pass."""
        samples = PlainSamples(self.splits.test, build_transform(self.config, self.spec, training=False))
        return self._loader(samples, 4 * self.config.batch_size)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "name": self.config.name,
            "modality": self.spec.modality,
            "fingerprint": self.splits.fingerprint,
            "train": len(self.splits.train),
            "test": len(self.splits.test),
            "classes": self.num_classes,
        }

    def _loader(self, samples: Dataset[Any], batch_size: int, **options: Any) -> "DataLoader[Any]":
        return DataLoader(
            samples,
            batch_size=batch_size,
            num_workers=self.config.workers,
            persistent_workers=self.config.workers > 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # a loader draws from it once an epoch; torch's own must not move by that
            **options,
        )


def open_data(config: DataConfig) -> Data:
    """Opens the data set of a config. Raises UserError if it is unknown or not where it is looked for."""
    spec = find_dataset(config.name)
    return Data(config, spec, spec.open(config))
