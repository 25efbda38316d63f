"""Runs as jobs of a Slurm cluster, submitted through submitit as one array.

The job that trains a run is written into a file beside the run's folder. So the head process may be killed, or its
terminal closed: the next one finds the jobs that wait or run, and submits the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from step_ahsar.compare.folder import job_path
from step_ahsar.compare.launchers.base import imported
from step_ahsar.compare.observer import PlannedRun
from step_ahsar.config import LaunchConfig
from step_ahsar.errors import UserError
from step_ahsar.files import write_file

_NO_SLURM = "launcher 'slurm' needs Slurm's commands (srun, sbatch, squeue) on this machine"
_ASK_EVERY = 5.0  # seconds between two questions to Slurm
_PATIENCE = 60.0  # seconds that are given to files on their way over a network, and to a Slurm that does not answer

# States of jobs that have not ended, see squeue(1).
_ALIVE = {
    *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"),
    *("REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"),
}
# States after which the result may still be on its way, or Slurm may still requeue the job.
_PASSING = ("COMPLETED", "PREEMPTED", "NODE_FAIL", None)
_MEANING = {
    "TIMEOUT": "it ran out of time, launch.time",
    "OUT_OF_MEMORY": "it ran out of memory, launch.memory",
    "CANCELLED": "it was cancelled",
    "PREEMPTED": "another job took its place, and Slurm did not requeue it",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "DEADLINE": "its deadline passed",
    "FAILED": "its process ended",
    "COMPLETED": "it has ended without a result",
    None: "Slurm does not know it any more",
}


class SlurmJobs:
    """Jobs, `jobs` at a time, each with its threads, GPUs, memory and time.

    A job that is requeued goes on from its epoch. A run with several GPUs is trained by as many processes, on one node.
    """

    def __init__(self, out: Path, config: LaunchConfig) -> None:
        self._out, self._config = out, config
        self._jobs: dict[PlannedRun, str] = {}
        self._ended: dict[PlannedRun, float] = {}
        self._lost: dict[PlannedRun, str] = {}
        self._asked, self._answered = 0.0, time.monotonic()

    def submit(self, runs: Sequence[PlannedRun]) -> None:
        """See :class:`Launcher`. Runs whose job waits or runs are not submitted again."""
        states = _states()
        for run in runs:
            job = _read(job_path(self._out, run.cell, run.seed))
            if states.get(job) in _ALIVE:
                self._jobs[run] = job
        new = [run for run in runs if run not in self._jobs]
        if new:
            self._jobs |= dict(zip(new, self._submit(new), strict=True))
        for run in new:
            path = job_path(self._out, run.cell, run.seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, self._jobs[run])

    def _submit(self, runs: Sequence[PlannedRun]) -> list[str]:
        config, threads = self._config, self._config.threads or 1
        submitit = imported("submitit", "submitit", "slurm")
        try:
            executor = submitit.SlurmExecutor(self._out / "jobs")
        except RuntimeError:
            raise UserError(_NO_SLURM) from None
        executor.update_parameters(
            job_name="step-ahsar",
            array_parallelism=config.jobs,
            nodes=1,
            ntasks_per_node=max(1, config.gpus),
            cpus_per_task=threads,
            additional_parameters={"requeue": True},
            **({"partition": config.partition} if config.partition else {}),
            **({"gpus_per_node": config.gpus} if config.gpus else {}),
            **({"mem": f"{round(config.memory * 1024)}M"} if config.memory else {}),
            time=config.time,  # None is the partition's own limit; submitit's default would be five minutes
            signal_delay_s=1,  # its signal before the limit, which jobs ignore, must not come before they can
        )
        task = Task(self._out.resolve(), threads)
        try:
            with executor.batch():
                jobs = [executor.submit(task, run) for run in runs]
        except (submitit.core.utils.FailedJobError, subprocess.CalledProcessError) as error:
            reason = " ".join(str(error).split()[-20:])
            raise UserError(f"Slurm has refused the jobs: {reason}") from None
        return [job.job_id for job in jobs]

    def lost(self) -> Mapping[PlannedRun, str]:
        """See :class:`Launcher`."""
        now = time.monotonic()
        if now - self._asked >= _ASK_EVERY:
            try:
                self._look()
                self._answered = now
            except UserError:
                if now - self._answered > _PATIENCE:
                    raise
            self._asked = time.monotonic()
        return dict(self._lost)

    def _look(self) -> None:
        states = _states()
        for run, job in self._jobs.items():
            state = states.get(job)
            if run in self._lost:
                continue
            if state in _ALIVE:
                self._ended.pop(run, None)
                continue
            ended = self._ended.setdefault(run, time.monotonic())
            if state in _PASSING and time.monotonic() - ended < _PATIENCE:
                continue
            log = self._out / "jobs" / f"{job}_0_log.err"
            what = _MEANING.get(state, "it has ended")
            said = f" ({reason})" if (reason := _reason(log)) else ""
            self._lost[run] = f"Slurm job {job} ended as {state or 'unknown'}: {what}{said}; its log is {log}"

    def close(self) -> None:
        """See :class:`Launcher`."""
        states = _states()
        alive = [job for job in self._jobs.values() if states.get(job) in _ALIVE]
        if alive:
            subprocess.run(["scancel", *alive], check=False)


class Task:
    """What a job does: it trains one run, or goes on with it.

    Args:
        out: the comparison's folder.
        threads: threads of the run.
    """

    def __init__(self, out: Path, threads: int) -> None:
        self._out, self._threads = out, threads

    def __call__(self, run: PlannedRun) -> None:
        """Trains the run, with the other processes of the job if there are any."""
        # submitit ignores SIGTERM, and takes the signal before the time limit for a request to stop. But there is
        # nothing to do at the end of a job: checkpoints are written at the end of every epoch.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        import torch

        from step_ahsar.compare.worker import Worker

        torch.set_num_threads(self._threads)
        if int(os.environ.get("SLURM_NTASKS", "1")) > 1:
            submitit = imported("submitit", "submitit", "slurm")
            submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        Worker(self._out).train(run)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _reason(log: Path) -> str | None:
    """The last thing that Slurm itself wrote into the log of a job."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    said = [line.partition("error: ")[2].strip("* ") for line in lines if line.startswith("slurmstepd")]
    return said[-1] if said else None


def _states() -> dict[str, str]:
    """The state of each of the user's jobs that Slurm still knows, by its id such as 12_3."""
    command = ["squeue", "--me", "--array", "--noheader", "--states=all", "--format=%i %T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UserError(_NO_SLURM) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"Slurm does not answer: {' '.join(error.stderr.split())}") from None
    return {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.strip()}
