"""Runs as tasks of a Ray cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from step_ahsar.compare.launchers.base import imported
from step_ahsar.compare.observer import PlannedRun
from step_ahsar.config import LaunchConfig
from step_ahsar.errors import UserError


class RayTasks:
    """Tasks, `jobs` at a time, each with its CPUs, GPU and memory. All nodes must see the comparison's folder.

    Ray starts a task again, elsewhere, if its process or its node is lost; the run then goes on from its epoch. Tasks
    end with the process that started them.
    """

    def __init__(self, out: Path, config: LaunchConfig) -> None:
        if config.gpus > 1:
            raise UserError(f"launcher 'ray' trains each run in one process, on one GPU; launch.gpus is {config.gpus}")
        ray = self._ray = imported("ray", "Ray", "ray")
        try:
            ray.init(address="auto", log_to_driver=False)
        except ConnectionError:
            raise UserError(
                "launcher 'ray' needs a running cluster: `ray start --head` on one machine, and on the others the "
                "command that it prints"
            ) from None
        self._out, self._jobs, threads = out.resolve(), config.jobs, config.threads or 1
        wanted = {"CPU": float(threads), "GPU": float(config.gpus)}
        if not any(all(node["Resources"].get(k, 0) >= v for k, v in wanted.items()) for node in ray.nodes()):
            raise UserError(
                f"no node of the Ray cluster has the {threads} CPUs and {config.gpus} GPUs that each run is to have "
                "(launch.threads, launch.gpus)"
            )
        self._train = ray.remote(_train).options(
            num_cpus=threads,
            num_gpus=config.gpus,
            max_retries=config.retries,
            **({"memory": int(config.memory * 2**30)} if config.memory else {}),
        )
        self._threads = threads
        self._waiting: deque[PlannedRun] = deque()
        self._running: dict[Any, PlannedRun] = {}
        self._lost: dict[PlannedRun, str] = {}

    def submit(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Launcher`."""
        self._waiting.extend(runs)
        self._fill()

    def lost(self) -> Mapping[PlannedRun, str]:
        """See :class:`Launcher`."""
        running = list(self._running)
        for task in self._ray.wait(running, num_returns=len(running), timeout=0)[0] if running else ():
            run = self._running.pop(task)
            try:
                self._ray.get(task)
            except self._ray.exceptions.RayError as error:
                first = str(error).strip().splitlines()[0]
                self._lost[run] = f"its Ray task was lost: {type(error).__name__}: {first}"
        self._fill()
        return dict(self._lost)

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._jobs:
            run = self._waiting.popleft()
            self._running[self._train.remote(str(self._out), self._threads, run)] = run

    def close(self) -> None:
        """See :class:`Launcher`."""
        self._waiting.clear()
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()


def _train(out: str, threads: int, run: PlannedRun) -> None:
    import torch

    from step_ahsar.compare.worker import Worker

    torch.set_num_threads(threads)
    Worker(Path(out)).train(run)
