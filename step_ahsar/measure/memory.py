"""Peak memory of training."""

import ctypes
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MIB = 2**20


class PeakMemory:
    """Peak memory of training steps, in MiB; None if the platform does not report it.

    On an accelerator it is torch's `max_memory_allocated`. On a CPU, under Linux, it is the rise of the resident set
    during steps above its level between two steps, plus the `resident` bytes that are part of that level (weights and
    optimiser state). This leaves out the memory that the process had before, for example for compiling. The kernel
    records the peak, so nothing is sampled and no step is slowed down.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._start: int | None = None
        self.mib: float | None = None

    def start(self) -> None:
        """Starts measuring. Call it between two steps."""
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
        """Takes the peak since :meth:`start`; ``resident`` bytes are added to it on a CPU."""
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
    """Returns freed memory to the system, so that the next step's allocations are visible. With glibc only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
