#!/usr/bin/env python
"""Trains a cell of results/main in fp64 on two backends: what differs in fp32 by rounding alone is equal there.

python scripts/backends_fp64.py [SEED ...]    # QKFormer, LIF at threshold 1, on the images; two minutes a run
"""

import sys
import tempfile
from pathlib import Path

import torch

from step_ahsar.config import load_config
from step_ahsar.engine import train

CELL = "digits-img_size12-qkformer_3_64-lif-threshold1"


def main(seeds: list[int]) -> bool:
    """Prints losses and test accuracy of both backends, and returns whether they are equal."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    cells, equal = dict(load_config("results/main").cells()), True
    for seed in seeds:
        found = []
        for backend in ("torch", "spikingjelly"):
            config = cells[f"{CELL}-{backend}"].model_copy(update={"seed": seed})
            with tempfile.TemporaryDirectory() as folder:
                result = train(config, Path(folder) / "run")
            found.append(([epoch["train_loss"] for epoch in result["epochs"]], result["metrics"]["acc1"]))
            print(f"seed {seed}, {backend}: losses {found[-1][0]}, accuracy {found[-1][1]}", flush=True)
        equal &= found[0] == found[1]
    print("equal" if equal else "not equal")
    return equal


if __name__ == "__main__":
    sys.exit(0 if main([int(seed) for seed in sys.argv[1:]] or [0]) else 1)
