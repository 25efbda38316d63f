#!/usr/bin/env python
"""Kills a run at random moments, again and again, and checks that it ends as the run that was left alone.

python scripts/kill_check.py              # 100 kills
python scripts/kill_check.py 20 --seed 1

Every process is ended by SIGKILL, which it cannot notice, and the next one resumes the run. When the run has ended, its
epochs, its result and its last checkpoint must be those of a run that was never interrupted, bit for bit; then another
one begins. Exit status 1 if anything differs. POSIX only: processes are forked, so that each starts at once.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from step_ahsar.config import Config
from step_ahsar.engine import Run, train

TIMES = ("step_ms", "seconds")
SMALL = {
    "data.batch_size": 256,
    "data.img_size": 4,
    "model.time_steps": 1,
    "model.neuron": "ahsar",
    "train.epochs": 12,
    "train.ema_decay": 0.9,
}


def outcome(path: Path) -> dict[str, Any]:
    """What a run that has ended left behind, without times."""
    run = Run.existing(path)
    result = run.result()
    assert result is not None
    last = max((path / "checkpoints").iterdir())
    return {
        "epochs": [{key: value for key, value in row.items() if key not in TIMES} for row in run.metrics()],
        "result": {key: result[key] for key in ("status", "metrics", "best", "firing_rate", "threshold_scale")},
        "weights": {name: tensor.tolist() for name, tensor in load_file(last / "model.safetensors").items()},
        "state": str(torch.load(last / "state.pt", weights_only=True)["controller"]),
    }


def train_and_kill(config: Config, path: Path, seconds: float) -> bool:
    """Trains in a process of its own that is killed after some seconds. Whether it ended by itself before."""
    child = os.fork()
    if child == 0:
        try:
            train(config, path, resume=True)
            os._exit(0)
        except BaseException as fault:
            print(f"{type(fault).__name__}: {fault}", file=sys.stderr)
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0:
        raise SystemExit("a run that was resumed failed")
    return os.WIFEXITED(status)


def main() -> int:
    """1 if a run differs from the one that was left alone, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ["STEP_AHSAR_COMPILE"] = "0"
    torch.set_num_threads(1)  # a forked process has no threads but one
    draw, config = random.Random(given.seed), Config().with_values(SMALL)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        train(config, Path(folder) / "alone")
        whole, expected = time.monotonic() - began, outcome(Path(folder) / "alone")
        kills = runs = resumed = 0
        while kills < given.kills:
            path = Path(folder) / str(runs)
            while not train_and_kill(config, path, draw.uniform(0, whole / 3)):
                kills += 1
                resumed += (path / "checkpoints").is_dir()
            if outcome(path) != expected:
                print(f"run {runs}, after {kills} kills in all, differs from the run that was left alone")
                return 1
            runs += 1
    print(f"{kills} kills, {resumed} of them after the first checkpoint, in {runs} runs: all equal bit for bit")
    return 0


if __name__ == "__main__":
    sys.exit(main())
