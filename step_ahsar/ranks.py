"""The processes that train one run together, each with its share of every batch.

The field calls them ranks. ``torchrun`` and ``accelerate launch`` start them, and accelerate joins them to torch's
process group. In a run of one process these functions do nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from os import environ
from time import sleep
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from step_ahsar.errors import ToldByMain, UserError

_Value = TypeVar("_Value")
_WAIT = 3.0  # seconds that ranks are given to say that they are there, after one was lost


class LostRank(UserError):
    """Another rank has ended in the middle of a run."""


def size() -> int:
    """The number of ranks."""
    return dist.get_world_size() if _joined() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if _joined() else 0


def is_main() -> bool:
    """Whether this is rank 0, the only one that writes files and talks to the user."""
    return rank() == 0


def total(x: Tensor) -> Tensor:
    """The sum of ``x`` over all ranks, of the same shape. ``x`` itself is not changed."""
    if size() == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x


def mean(x: Tensor, weight: float) -> Tensor:
    """The mean of ``x`` over all ranks, each with its weight, such as the number of samples that its ``x`` is of."""
    if size() == 1:
        return x
    dtype = torch.promote_types(x.dtype, torch.float32)
    summed = total(torch.cat([x.flatten().to(dtype) * weight, x.new_full((1,), weight, dtype=dtype)]))
    return (summed[:-1] / summed[-1]).view(x.shape).to(x.dtype)


def share(batch: Any) -> Any:
    """This rank's samples of a batch: a sequence, or a tensor [B, ...]. Every size()-th from rank() on."""
    return batch if size() == 1 else batch[rank() :: size()]


def joined(part: Tensor, number: int) -> Tensor:
    """The batch [number, ...] of which each rank has its :func:`share`, [n, ...]."""
    if size() == 1:
        return part
    most = -(-number // size())
    padded = torch.cat([part, part.new_zeros(most - len(part), *part.shape[1:])])
    return stacked(padded).transpose(0, 1).flatten(0, 1)[:number]


def block(number: int) -> range:
    """This rank's part of ``number`` samples, one after the other: the parts of all ranks in order are the whole."""
    return range(number * rank() // size(), number * (rank() + 1) // size())


def stacked(x: Tensor) -> Tensor:
    """The tensors of all ranks, which must have one shape: [size(), *x.shape]."""
    each = [torch.empty_like(x) for _ in range(size())]
    dist.all_gather(each, x.contiguous())
    return torch.stack(each)


def gathered(value: _Value) -> list[_Value]:
    """The value of each rank, in their order. It is pickled."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


def agreed(action: Callable[[], _Value]) -> _Value:
    """Runs ``action`` in the main process alone. Returns its value, or raises its UserError, in every process."""
    if size() == 1:
        return action()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = action()
        except UserError as error:
            dist.broadcast_object_list([None, str(error)])
            raise
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise ToldByMain(outcome[1])
    return outcome[0]


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Gives the buffers of every rank's model the values that they have in the main process."""
    if size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


@contextmanager
def watched(how_to_go_on: str) -> Iterator[None]:
    """Raises LostRank, with the numbers of those that are missing, if another rank ends inside the block.

    torch then fails in whatever the ranks do together, with an error that names a socket.

    Args:
        how_to_go_on: the end of the message.
    """
    try:
        yield
    except RuntimeError as error:
        if size() == 1 or not _is_of_the_connection(error):
            raise
        missing = _missing()
        who = ", ".join(map(str, missing)) or "unknown"
        raise LostRank(f"a process has ended: rank {who} of {size()}; {how_to_go_on}") from error


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def _is_of_the_connection(error: RuntimeError) -> bool:
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "connection" in text or "gloo" in text


def _missing() -> list[int]:
    """The ranks that do not answer. Those that are there write so into the store in which they first met."""
    try:
        address = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        store = dist.TCPStore(*address, is_master=False, timeout=timedelta(seconds=_WAIT))
        store.set(_name(rank()), "")
        sleep(_WAIT)
        return [each for each in range(size()) if not store.check([_name(each)])]
    except KeyError:
        return []
    except dist.DistError:  # the store ended with the process that kept it
        return [0]


def _name(number: int) -> str:
    return f"step-ahsar/after-a-loss/{number}"
