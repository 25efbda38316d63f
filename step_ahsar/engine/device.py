"""Devices, precision and processes of a run: all of them are accelerate's."""

from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin, parse_flag_from_env
from torch import Tensor

from step_ahsar import internals, ranks
from step_ahsar.errors import UserError

# What `accelerate config` can ask for, by the variable in which `accelerate launch` hands it on.
_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


def create_accelerator(amp: str | None) -> Accelerator:
    """What moves, casts and joins: the accelerator if there is one, else the CPU, of this process.

    ``torchrun`` and ``accelerate launch`` start several processes; ``ACCELERATE_USE_CPU=1`` forces the CPU. Precision
    and accumulation are those of the config, whatever `accelerate config` says.

    Args:
        amp: "bf16", "fp16" or None.

    Raises:
        UserError: fp16 on a CPU, which needs bf16, or a model that is to be divided among devices.
    """
    for variable, name in _SHARDING.items():
        if parse_flag_from_env(variable):
            raise UserError(
                f"accelerate is set to {name}, but every device holds the whole model here: choose multi-GPU or "
                "multi-CPU in `accelerate config`"
            )
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    if amp == "fp16" and cpu:
        raise UserError("train.amp: fp16 needs an accelerator and this machine has none; take bf16 or null")
    internals.forget_precision()
    accelerator = Accelerator(
        cpu=cpu,  # without this accelerate would not join processes on CPUs
        mixed_precision=amp or "no",
        # The last group of batches of an epoch may be smaller, so that the loop divides by itself.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    if accelerator.num_processes != ranks.size():
        raise UserError(
            f"{ranks.size()} processes cannot train one model on {accelerator.device.type}; start one, or set "
            "ACCELERATE_USE_CPU=1"
        )
    return accelerator


def move(batch: Any, device: torch.device) -> Any:
    """Moves inputs or targets, tensors in any lists and dicts, to the device."""
    return each_tensor(lambda tensor: tensor.to(device, non_blocking=True), batch)


def each_tensor(function: Callable[[Tensor], Tensor], batch: Any) -> Any:
    """What a function makes of a tensor, or of each tensor in any lists and dicts."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, dict):
        return {name: each_tensor(function, value) for name, value in batch.items()}
    return [each_tensor(function, each) for each in batch]
