"""Runs in processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from step_ahsar.compare.launchers.base import threads_of
from step_ahsar.compare.observer import PlannedRun
from step_ahsar.config import LaunchConfig

if TYPE_CHECKING:
    from step_ahsar.compare.worker import Worker


class LocalProcesses:
    """A fixed number of processes, each with its share of the machine's threads, and of its GPUs.

    Each process is a pool of its own. So if one is lost, it is known which run it trained, and the others go on. A
    process ends with the one that started it.
    """

    def __init__(self, out: Path, config: LaunchConfig) -> None:
        self._out, self._threads = out, threads_of(config)
        self._closed = False
        self._lost: dict[PlannedRun, str] = {}
        self._pids: dict[ProcessPoolExecutor, int] = {}
        self._free: SimpleQueue[tuple[int, ProcessPoolExecutor]] = SimpleQueue()
        for place in range(config.jobs):
            self._free.put((place, self._new_process(place)))
        self._turns = ThreadPoolExecutor(config.jobs)

    def submit(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Launcher`."""
        for run in runs:
            self._turns.submit(self._train, run)

    def lost(self) -> Mapping[PlannedRun, str]:
        """See :class:`Launcher`."""
        return dict(self._lost)

    def close(self) -> None:
        """See :class:`Launcher`."""
        self._closed = True
        self._turns.shutdown(wait=False, cancel_futures=True)
        self._end_idle()
        for pid in list(self._pids.values()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self._turns.shutdown()
        self._end_idle()

    def _end_idle(self) -> None:
        """Ends the processes that train nothing; unlike those that are killed, they clean up."""
        while not self._free.empty():
            _, process = self._free.get()
            self._pids.pop(process, None)
            process.shutdown()

    def _train(self, run: PlannedRun) -> None:
        """Trains a run in the next free process, and waits for it, in one of the threads of `_turns`."""
        place, process = self._free.get()
        try:
            if process not in self._pids:
                self._pids[process] = process.submit(os.getpid).result()
            if not self._closed:
                process.submit(_train, run).result()
        except BrokenProcessPool:
            self._pids.pop(process, None)
            process = self._new_process(place)
            self._lost[run] = "its process was ended from outside, as it is when memory runs out"
        except Exception as fault:  # that the run could not record itself, as on a full disk
            self._lost[run] = f"{type(fault).__name__}: {fault}"
        finally:
            self._free.put((place, process))

    def _new_process(self, place: int) -> ProcessPoolExecutor:
        # A forked process would have copies of the locks of torch's threads, but not the threads that release them.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(1, context, initializer=_begin, initargs=(self._out, self._threads, place))


def gpu_of(place: int, gpus: int) -> str:
    """The name of the GPU for one of the processes: they take turns, among those that the user made visible."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    return visible[place % gpus]


# -- in a process that trains runs -------------------------------------------------------------------------------------

_worker: Worker | None = None


def _begin(out: Path, threads: int, place: int) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started them ends them
    Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    if (gpus := torch.cuda.device_count()) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu_of(place, gpus)
    from step_ahsar.compare.worker import Worker

    _worker = Worker(out)


def _train(run: PlannedRun) -> None:
    assert _worker is not None
    _worker.train(run)


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)
