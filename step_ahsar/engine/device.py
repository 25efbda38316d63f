"""The device and the precision of a run."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor

from step_ahsar.errors import UserError

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device() -> torch.device:
    """The accelerator if there is one, else the CPU, as `accelerate` sees it (ACCELERATE_USE_CPU=1 forces the CPU)."""
    state = PartialState()
    if state.num_processes > 1:
        raise UserError(
            f"one process trains a run, got {state.num_processes}; start step-ahsar without a multi-process launcher"
        )
    return state.device


def autocast(device: torch.device, amp: str | None) -> AbstractContextManager[Any]:
    """A context for forward passes in mixed precision, or one without effect.

    Raises:
        UserError: fp16 on a CPU, which needs bf16.
    """
    if amp is None:
        return nullcontext()
    if amp == "fp16" and device.type == "cpu":
        raise UserError("train.amp: fp16 needs an accelerator and this machine has none; take bf16 or null")
    return torch.autocast(device.type, _AMP[amp])


def move(batch: Any, device: torch.device) -> Any:
    """Moves inputs or targets, tensors in any lists and dicts, to the device."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: move(value, device) for name, value in batch.items()}
    return [move(each, device) for each in batch]
