"""What a run was made with: versions, hardware, commit."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from step_ahsar import __version__

_LIBRARIES = ("timm", "numpy", "torchvision", "torchmetrics", "accelerate", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of this package, Python and the libraries that results depend on."""
    found = {"step-ahsar": __version__, "python": platform.python_version(), "torch": torch.__version__}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The machine: platform, processor, threads torch uses, memory, and the accelerator if there is one."""
    accelerator = torch.accelerator.is_available()
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": _accelerator_name() if accelerator else None,
    }


@cache
def git_commit() -> str | None:
    """The commit of the checkout that this package is run from, with "-dirty" if files differ; None outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed somewhere below another project's checkout, perhaps
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@cache
def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _accelerator_name() -> str:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    return torch.cuda.get_device_name() if device.type == "cuda" else device.type
