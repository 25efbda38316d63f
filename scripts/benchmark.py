#!/usr/bin/env python
"""Measures speed and memory. A and B run in turn (A B A B ...); medians of both and of their ratios are printed.

    .venv/bin/python scripts/benchmark.py [neuron] [model] [ahsar] [operations] [compile] [--pairs N] [--threads N]

- neuron: forward and backward of LIF on [4, 64, 64, 256], against SpikingJelly's LIFNode
- model: one training step of Spikformer (dim 64, depth 2, 32x32, batch 64, T 4), time and peak memory above idle,
  against SpikingJelly's Spikformer of the same size
- ahsar: one training step of the same model with `ahsar` (controller included), against `lif`
- operations: evaluation of the same model, and of QKFormer, with its operations counted, against evaluation alone
- compile: by how many seconds the first training step is longer than a later one, with an empty compiler cache and then
  with a filled one
"""

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as the command line does; read when torch is loaded

import torch

PARTS = ("neuron", "model", "ahsar", "operations", "compile")
Step = Callable[[], Any]


def paired(a: Step, b: Step, pairs: int, warmup: int = 3) -> tuple[float, float, list[float]]:
    """Median milliseconds of a and of b, and the ratio of each pair, sorted."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(warmup + pairs):
        for step, into in zip((a, b), times, strict=True):
            start = time.perf_counter()
            step()
            if i >= warmup:
                into.append(1e3 * (time.perf_counter() - start))
    ratios = sorted(x / y for x, y in zip(*times, strict=True))
    return statistics.median(times[0]), statistics.median(times[1]), ratios


def show(name: str, a: float, b: float, ratios: list[float], unit: str = "ms") -> None:
    low, high = ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]
    print(
        f"{name:<58} {a:9.2f} {b:9.2f} {unit:<4} {statistics.median(ratios):6.3f} [{low:.3f}, {high:.3f}]", flush=True
    )


def neuron_steps() -> tuple[Step, Step]:
    from spikingjelly.activation_based import functional, neuron, surrogate

    from step_ahsar.neurons import create_neuron

    ours = create_neuron("lif")
    theirs = neuron.LIFNode(
        tau=2.0, v_reset=0.0, detach_reset=True, step_mode="m", surrogate_function=surrogate.Sigmoid(4.0)
    )
    x = torch.randn(4, 64, 64, 256, requires_grad=True)
    grad = torch.randn_like(x)

    def a() -> None:
        x.grad = None
        ours(x).backward(grad)

    def b() -> None:
        x.grad = None
        functional.reset_net(theirs)
        theirs(x).backward(grad)

    return a, b


def training_step(kind: str) -> Step:
    """One training step of "lif", "ahsar" or "spikingjelly" on the same batch."""
    import timm

    import step_ahsar.models  # noqa: F401  (registers the models)
    from step_ahsar.ahsar import regulate

    torch.manual_seed(0)
    x, y = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    controller = None
    if kind == "spikingjelly":
        from spikingjelly.activation_based import functional
        from spikingjelly.activation_based.model.spikformer import Spikformer

        model = Spikformer(
            T=4, img_size_h=32, img_size_w=32, patch_size=4, num_classes=10, embed_dims=64, num_heads=2, depths=2
        )
    else:
        model = timm.create_model("spikformer_2_64", num_classes=10, pool_first=True, neuron=kind)
        controller = regulate(model) if kind == "ahsar" else None
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> None:
        if kind == "spikingjelly":
            functional.reset_net(model)
        logits = model(x)
        loss = torch.nn.functional.cross_entropy(logits.mean(0) if logits.ndim == 3 else logits, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if controller is not None:
            controller.step()

    return step


def evaluations(name: str) -> tuple[Step, Step]:
    """Evaluation of a lively model on a batch, with its operations counted and without."""
    import timm

    import step_ahsar.models  # noqa: F401  (registers the models)
    from step_ahsar.measure import OperationMeter

    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, threshold=0.25)
    with torch.no_grad():
        model.train()(torch.randn(64, 3, 32, 32))  # norms have statistics, so spikes are as many as in training
    model.eval()
    x = torch.randn(64, 3, 32, 32)

    @torch.inference_mode()
    def counted() -> None:
        with OperationMeter(model) as meter, meter.batch(len(x)):
            model(x)

    @torch.inference_mode()
    def alone() -> None:
        model(x)

    return counted, alone


def peak_memory(kind: str, threads: int) -> float:
    """Peak resident memory of a training step above the idle process that holds the warm model, MiB. Linux only."""
    torch.set_num_threads(threads)
    step = training_step(kind)
    for _ in range(3):
        step()
    gc.collect()
    idle = _status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark starts anew
    for _ in range(3):
        step()
    return _status("VmHWM") - idle


def _status(key: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(key))


def measure_memory(pairs: int, threads: int) -> None:
    values = {"lif": [], "spikingjelly": []}
    # freed memory goes back to the system at once, or what an earlier phase left behind would hide the peak
    os.environ["MALLOC_MMAP_THRESHOLD_"] = os.environ["MALLOC_TRIM_THRESHOLD_"] = "65536"
    for _ in range(pairs):
        for kind, into in values.items():
            with get_context("spawn").Pool(1) as pool:
                into.append(pool.apply(peak_memory, (kind, threads)))
    ratios = sorted(a / b for a, b in zip(values["lif"], values["spikingjelly"], strict=True))
    a, b = (statistics.median(v) for v in values.values())
    show("training step, peak memory above idle: lif / SpikingJelly", a, b, ratios, "MiB")


FIRST_STEP = """
import sys, time, torch
torch.set_num_threads({threads})
sys.path.insert(0, {here!r})
import benchmark
step = benchmark.training_step("ahsar")
times = []
for _ in range(4):
    start = time.perf_counter(); step(); times.append(time.perf_counter() - start)
print(times[0] - min(times[1:]))
"""


def measure_compile(threads: int) -> None:
    code = FIRST_STEP.format(threads=threads, here=os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}
        for name in ("cold cache", "warm cache"):
            out = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
            print(f"{'first training step, ' + name:<58} {float(out.stdout.split()[-1]):9.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="what to measure; all if none is named")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    parts = args.parts or PARTS
    print(f"torch {torch.__version__}, {args.threads} threads, fp32, {args.pairs} pairs; ratio: median [10 %, 90 %]")
    print(f"{'A / B':<58} {'A':>9} {'B':>9} {'':<4} ratio")
    if "neuron" in parts:
        show("neuron forward + backward: lif / SpikingJelly", *paired(*neuron_steps(), args.pairs))
    if "model" in parts:
        steps = training_step("lif"), training_step("spikingjelly")
        show("training step: lif / SpikingJelly", *paired(*steps, args.pairs))
        measure_memory(3, args.threads)
    if "ahsar" in parts:
        steps = training_step("ahsar"), training_step("lif")
        show("training step: ahsar / lif", *paired(*steps, args.pairs))
    if "operations" in parts:
        for name in ("spikformer_2_64", "qkformer_3_64"):
            show(f"evaluation: {name}, operations counted / not", *paired(*evaluations(name), args.pairs))
    if "compile" in parts:
        measure_compile(args.threads)


if __name__ == "__main__":
    main()
