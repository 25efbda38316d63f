"""Random numbers for a neuron that do not change the random numbers that a model's weights are drawn from."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


@contextmanager
def own_stream(number: int = 0) -> Iterator[None]:
    """Draws random numbers from a separate stream inside the block.

    The stream is seeded from the state of torch's generator and from ``number``. Afterwards torch's generator is in the
    state it had before. So under one seed a model has the same weights whatever its neurons draw, and the neurons draw
    the same numbers again.

    Args:
        number: gives different streams for the same state of torch's generator.

    >>> torch.manual_seed(0) and None
    >>> with own_stream():
    ...     first = torch.rand(())
    >>> torch.manual_seed(0) and None
    >>> with own_stream():
    ...     again = torch.rand(())
    >>> bool(first == again), bool(torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(0)))
    (True, True)
    """
    seed = blake2b(torch.get_rng_state().numpy().tobytes() + number.to_bytes(8, "little"), digest_size=8).digest()
    device = torch.empty(0).device  # the default one; torch 2.2 has no function that tells it
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(int.from_bytes(seed, "little") >> 1)  # a seed is a signed 64-bit number
        if device.type == "cuda":
            torch.cuda.manual_seed(int.from_bytes(seed, "little") >> 1)
        yield
