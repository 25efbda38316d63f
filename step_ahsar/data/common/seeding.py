"""Random draws that are a function of a name alone: independent of earlier draws and of the process."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch


def derive_seed(*names: int | str) -> int:
    """A 32-bit seed for these names, independent of the seeds for all other names.

    >>> derive_seed(0, "order", 3)
    2905030650
    """
    digest = blake2b(repr(names).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


@contextmanager
def seeded(*names: int | str) -> Iterator[None]:
    """Seeds the generators with ``derive_seed(*names)`` inside the block, and restores them afterwards.

    These are Python's, NumPy's and torch's on the CPU; timm's augmentations draw from all three.
    """
    seed = derive_seed(*names)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # timm draws from it
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
