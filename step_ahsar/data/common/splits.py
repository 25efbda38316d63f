"""Holding out samples for testing or for validation. The choice is the same in every run and on every machine."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.files import PARTS
from step_ahsar.data.common.registry import Samples, Splits
from step_ahsar.data.common.seeding import derive_seed
from step_ahsar.errors import UserError

TEST_SHARE = 0.2  # default of data.test_share

Bools = NDArray[np.bool_]


def held_out(names: Sequence[str], labels: Any, quotas: Mapping[int, int]) -> Bools:
    """Chooses the samples to hold out: of each class those whose names have the smallest SHA-256.

    Args:
        names: names of the samples, [N].
        labels: their classes, [N].
        quotas: for each class the number of samples to hold out.

    Returns:
        Whether a sample is held out, bool [N].
    """
    labels = np.asarray(labels)
    rank = [sha256(name.encode()).digest() for name in names]
    chosen = np.zeros(len(labels), dtype=bool)
    for label, quota in quotas.items():
        members = np.flatnonzero(labels == label).tolist()
        chosen[sorted(members, key=rank.__getitem__)[:quota]] = True
    return chosen


def share_of_each(labels: Any, share: float) -> dict[int, int]:
    """Quotas of ``share`` of each class, rounded."""
    return {label: round(share * count) for label, count in _counts(labels).items()}


def share_that_leaves_some(labels: Any, share: float) -> dict[int, int]:
    """Quotas of ``share`` of each class, rounded, but at least one sample and at most all but one."""
    return {label: min(max(1, round(share * n)), n - 1) for label, n in _counts(labels).items()}


def in_total(labels: Any, total: int) -> dict[int, int]:
    """Quotas in proportion to the classes that sum to ``total``, by largest remainders."""
    counts = _counts(labels)
    shares = np.array([total * count / len(labels) for count in counts.values()])
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: total - quotas.sum()]] += 1
    return dict(zip(counts, quotas.tolist(), strict=True))


def names_for_test(config: DataConfig, names: Sequence[str]) -> list[str]:
    """The names by which test samples are chosen; every ``data.split_seed`` gives other names."""
    return [f"{config.split_seed}/{name}" for name in names] if config.split_seed else list(names)


def chosen_for_test(
    config: DataConfig, names: Sequence[str], labels: Any, default: float = TEST_SHARE
) -> NDArray[np.bool_]:
    """Which samples of a set without a test part are for testing: of each class a share, at least one and never all.

    Args:
        config: `test_share` and `split_seed` of it.
        names: names of the samples, [N].
        labels: their classes, [N].
        default: the share, if `test_share` is not set.

    Returns:
        bool [N].
    """
    quotas = share_that_leaves_some(labels, share_for_test(config, default))
    return held_out(names_for_test(config, names), labels, quotas)


def check_split(part: NDArray[np.int64], config: DataConfig, where: Path, hint: str = "") -> None:
    """Raises UserError unless there are training samples and test samples.

    Args:
        part: of each sample the index in ``PARTS``, [N].
        config: its name is told.
        where: the place of the set, for the message.
        hint: the end of the message.
    """
    for number in (0, 2):
        if not (part == number).any():
            raise UserError(f"dataset {config.name!r}: {where} has no usable {PARTS[number]} samples{hint}")


def share_for_test(config: DataConfig, default: float = TEST_SHARE) -> float:
    """The share of each class to hold out for testing, in a set without a test part."""
    return default if config.test_share is None else config.test_share


def with_validation(splits: Splits, config: DataConfig) -> Splits:
    """The splits with a validation part: the set's own, or ``data.validation`` of each class, held out of training.

    If samples have no single class (scenes), the share is taken of all samples.

    Raises:
        UserError: nothing would be left to train on, or to validate on.
    """
    if not config.validation:
        return replace(splits, validation=None)
    if splits.validation is not None:
        return splits
    labels = labels_of(splits.train)
    strata = np.zeros(len(splits.train), dtype=int) if labels is None else labels
    names = [f"validation/{config.split_seed}/{i}" for i in range(len(strata))]
    chosen = held_out(names, strata, share_that_leaves_some(strata, config.validation))
    if chosen.all() or not chosen.any():
        raise UserError(
            f"data.validation {config.validation:g} of {len(strata)} training samples leaves none to train or to "
            "validate on; set it to 0 to validate on the test set"
        )
    train, validation = (Subset(splits.train, np.flatnonzero(chosen == part).tolist()) for part in (False, True))
    return replace(splits, train=train, validation=validation)


class Subset:
    """Some samples of a set, given by their indices."""

    def __init__(self, samples: Samples, indices: Sequence[int]) -> None:
        self.samples, self.indices = samples, indices

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Class of each sample; None if samples have no single class."""
        labels = labels_of(self.samples)
        return None if labels is None else labels[np.asarray(self.indices, dtype=int)]

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.samples[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)


def limited(samples: Samples, limit: int | None, part: str) -> Samples:
    """At most ``limit`` samples. Which ones does not depend on the run's seed."""
    if limit is None or limit >= len(samples):
        return samples
    drawn = np.random.default_rng(derive_seed("limit", part)).permutation(len(samples))[:limit]
    indices = sorted(drawn.tolist())
    if isinstance(samples, Subset):
        return Subset(samples.samples, [samples.indices[i] for i in indices])
    return Subset(samples, indices)


def labels_of(samples: Samples) -> NDArray[np.int64] | None:
    """Class of each sample, int64 [N]; None if it is not known without reading the samples."""
    labels = getattr(samples, "labels", None)
    if labels is None:
        labels = getattr(samples, "targets", None)  # torchvision's name
    return None if labels is None or np.ndim(labels) != 1 else np.asarray(labels, dtype=np.int64)


def _counts(labels: Any) -> dict[int, int]:
    values, counts = np.unique(np.asarray(labels), return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
