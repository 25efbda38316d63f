"""Peak memory of training."""

import ctypes
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 2**20


class PeakMemory:
    """Most memory in use while training steps run, in MiB; None where the platform does not tell.

    On an accelerator: the most that torch had allocated (`max_memory_allocated`). On a CPU, under Linux: how far the
    resident set rose above its level between two steps, plus `resident` bytes that are held then as well (weights and
    optimiser state). Starting from that level leaves out what the process held before, compilers included. The kernel
    keeps the high-water mark, so nothing is sampled and no step is slowed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start: int | None = None
        self.mib: float | None = None

    def start(self) -> None:
        """Begins to watch; call it between two steps."""
        if self._device.type != "cpu":
            torch.accelerator.reset_peak_memory_stats()
            return
        _release_free_heap()
        try:
            _CLEAR.write_text("5")  # resets the high-water mark, see proc(5)
        except OSError:
            return
        self._start = _status("VmRSS")

    def stop(self, resident: int) -> None:
        """Notes the peak since :meth:`start`, to which ``resident`` bytes belong."""
        if self._device.type != "cpu":
            peak = torch.accelerator.max_memory_allocated()
        elif self._start is None:
            return
        else:
            peak = max(_status("VmHWM") - self._start, 0) + resident
        self.mib = max(self.mib or 0.0, peak / _MIB)


def _status(key: str) -> int:
    """A field of /proc/self/status, in bytes."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024


def _release_free_heap() -> None:
    """Gives freed memory back to the system, which else hides how much the next step takes. glibc only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
