"""What a run gets from accelerate."""

import pytest
import torch
from torch import nn

from step_ahsar.engine.device import create_accelerator
from step_ahsar.errors import UserError

NO_GPU = pytest.mark.skipif(torch.accelerator.is_available(), reason="for machines without an accelerator")


def test_runs_of_one_process_may_differ_in_precision():
    """Fault: accelerate keeps the first one, and refuses another."""
    for amp, dtype in ((None, torch.float32), ("bf16", torch.bfloat16), (None, torch.float32)):
        with create_accelerator(amp).autocast():
            assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype


def test_the_config_alone_decides(monkeypatch):
    """`accelerate launch` hands on the answers to `accelerate config`, of another project maybe."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    accelerator = create_accelerator(None)
    assert accelerator.mixed_precision == "no"
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward(3 * weight.sum())
    assert weight.grad.item() == 3.0


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_models_are_not_divided(monkeypatch, name):
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(UserError, match="every device holds the whole model here: choose multi-GPU or multi-CPU"):
        create_accelerator(None)


def test_processes_that_accelerate_has_not_joined(monkeypatch):
    monkeypatch.setattr("step_ahsar.ranks.size", lambda: 2)
    with pytest.raises(UserError, match="2 processes cannot train one model on"):
        create_accelerator(None)


@NO_GPU
def test_fp16_needs_an_accelerator():
    with pytest.raises(UserError, match="fp16 needs an accelerator and this machine has none"):
        create_accelerator("fp16")
