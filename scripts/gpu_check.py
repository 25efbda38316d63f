#!/usr/bin/env python
"""Checks and measures on a GPU everything that needs one, in one command of less than ten minutes.

scripts/gpu_check          # the results go to build/gpu_check, as gpu_check.md and gpu_check.json
scripts/gpu_check DIR

It compares the neurons and two networks with the CPU, trains in bf16 and fp16, looks for waits of the host, times the
parts of `step-ahsar bench` that depend on the device and CUDA graphs, and trains for one epoch as long as CIFAR's. On a
machine without a GPU it goes through the same at small sizes, and says what it left out. Exit status 1 if a check
failed; what was only timed cannot fail.
"""

import argparse
import copy
import gc
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from step_ahsar.ahsar import regulate
from step_ahsar.bench import PARTS, Row, Setting
from step_ahsar.bench.networks import OURS, REGULATED, SMALL, TINY, Case, network, training_step
from step_ahsar.bench.parts import rivals
from step_ahsar.bench.timing import Step, interleaved
from step_ahsar.config import Config
from step_ahsar.engine import train
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.record import git_commit, hardware, versions
from step_ahsar.errors import first_line
from step_ahsar.files import write_file
from step_ahsar.neurons import SpikingNeuron, create_neuron, list_neurons, neuron_kind
from step_ahsar.neurons.kernels import compiler_available
from step_ahsar.neurons.kernels import compiling as passes
from step_ahsar.report.bench import as_markdown, lines

CPU = torch.device("cpu")
OK, FAILED, SKIPPED, TIMED = "ok", "FAILED", "skipped", "timed"
TOLERANCE = 1e-5  # of gradients, relative to the largest
SEEDS = 20  # inputs among which one with this distance is looked for
JUMP = 1e-3  # a larger change of a gradient within the margin is a surrogate's edge
BATCH, CHANNELS, LENGTH = 4, 8, 32
LIMIT = 560.0  # seconds after which no check begins


class Line(NamedTuple):
    """One line of the table: what was checked, on what, with which outcome, and what was found."""

    check: str
    case: str
    outcome: str
    found: str


class Report:
    """What was found so far. It is printed as it is found, and written after every check."""

    def __init__(self, folder: Path, device: torch.device, rounds: int) -> None:
        self.folder = folder
        self.lines: list[Line] = []
        self.found: dict[str, Any] = {
            "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "commit": git_commit(),
            "device": device.type,
            "rounds": rounds,
            "hardware": hardware(),
            "versions": versions() | rivals(),
            "seconds": {},
            "rows": [],
        }

    def line(self, check: str, case: str, outcome: str, found: str) -> None:
        """Adds a line to the table."""
        self.lines.append(Line(check, case, outcome, found))
        print(f"{outcome:<8}{check}{f' of {case}' if case else ''}: {found}", flush=True)

    def row(self, row: Row) -> None:
        """Adds what was timed of several contenders."""
        stored = row.stored()
        self.found["rows"].append(stored)
        print("\n".join(lines(stored)), flush=True)

    def write(self) -> None:
        """Writes gpu_check.md and gpu_check.json."""
        rows = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in self.lines)
        table = f"| check | of | outcome | found |\n|---|---|---|---|\n{rows}\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        write_file(self.folder / "gpu_check.md", f"# gpu_check\n\n{table}\n{as_markdown(self.found)}")
        stored = self.found | {"checks": [line._asdict() for line in self.lines]}
        write_file(self.folder / "gpu_check.json", json.dumps(stored, indent=1))

    @property
    def has_failed(self) -> bool:
        """Whether any check has."""
        return any(line.outcome == FAILED for line in self.lines)


# -- the same on both devices ------------------------------------------------------------------------------------------


@contextmanager
def compiling(on: bool) -> Iterator[None]:
    """Whether the fused passes are compiled in the block. That compiling fails there is an error, no warning."""
    before = os.environ.get("STEP_AHSAR_COMPILE")
    os.environ["STEP_AHSAR_COMPILE"] = "1" if on else "0"
    passes._broken.clear()  # or after one failure all others would run uncompiled, and seem to be right
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="spiking neurons run uncompiled")
            yield
    finally:
        del os.environ["STEP_AHSAR_COMPILE"]
        if before is not None:
            os.environ["STEP_AHSAR_COMPILE"] = before


class Result(NamedTuple):
    """What a module made of an input: its output, and the gradients of its input and of its parameters."""

    output: Tensor
    gradients: list[Tensor | None]


def result_of(module: nn.Module, x: Tensor, device: torch.device) -> Result:
    """Runs a copy of a module on a device, since running averages move. All tensors come back to the CPU."""
    module = copy.deepcopy(module).to(device)
    x = x.detach().to(device).requires_grad_()
    output = module(x)
    weight = 0.5 + torch.rand(output.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((output * weight.to(x)).sum(), [x, *module.parameters()], allow_unused=True)
    return Result(output.detach().to(CPU), [None if each is None else each.to(CPU) for each in found])


def off(found: Result, expected: Result) -> float:
    """The largest difference of a gradient, relative to the largest value of that gradient; nan if there is one."""
    worst = torch.zeros((), dtype=torch.float64)
    for got, wanted in zip(found.gradients, expected.gradients, strict=True):
        if got is None and wanted is None:
            continue
        if got is None or wanted is None:
            return float("nan")
        largest = wanted.abs().max().double().clamp(min=1e-30)
        worst = torch.maximum(worst, (got - wanted).abs().max().double() / largest)
    return worst.item()


class Normed(nn.Module):
    """A neuron behind a batch norm, or alone, with its threshold multiplied by a scale."""

    def __init__(self, name: str, time_steps: int, normed: bool) -> None:
        super().__init__()
        sizes = {"time_steps": time_steps, "channels": CHANNELS}
        known = neuron_kind(name).options or {}
        self.neuron = create_neuron(name, **{size: value for size, value in sizes.items() if size in known})
        self.neuron.add_scale()
        self.norm = nn.BatchNorm1d(CHANNELS) if normed else None
        if self.norm is not None:
            nn.init.uniform_(self.norm.weight, 1.0, 3.0)
            nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``x: [T, B, C, L]`` to spikes of the same shape."""
        return self.neuron(x, self.norm)

    def scaled(self, scale: float) -> nn.Module:
        """A copy with another threshold."""
        other = copy.deepcopy(self)
        assert other.neuron.threshold_scale is not None
        other.neuron.threshold_scale.fill_(scale)
        return other


def compare(name: str, time_steps: int, normed: bool, device: torch.device) -> tuple[int, float]:
    """A neuron on a device, compiled, beside the same one on the CPU, uncompiled.

    Two devices round differently, so that a membrane which meets its threshold to the last digit may fire on one of
    them. The input is one in which none comes as near: thresholds a little lower and higher give the same spikes. The
    equation that is not compiled, Hodgkin and Huxley's, multiplies rounding so much that it is compared in float64.

    Returns:
        the number of spikes that differ, and how far gradients are off, relative to the largest.
    """
    torch.manual_seed(0)
    module = Normed(name, time_steps, normed)
    dtype, margin = (torch.float32, 1e-5) if getattr(module.neuron, "compiled", True) else (torch.float64, 1e-9)
    module.to(dtype)
    for seed in range(SEEDS):
        generator = torch.Generator().manual_seed(seed)
        x = 2 * torch.randn(time_steps, BATCH, CHANNELS, LENGTH, generator=generator).to(dtype)
        with compiling(False):
            expected = result_of(module, x, CPU)
            others = [result_of(module.scaled(scale), x, CPU) for scale in (1 - margin, 1 + margin)]
        if all(torch.equal(other.output, expected.output) and off(other, expected) < JUMP for other in others):
            break
    else:
        raise RuntimeError(f"in each of {SEEDS} inputs a membrane is nearer to its threshold than {margin:g}")
    with compiling(True):
        found = result_of(module, x, device)
    return int((found.output != expected.output).sum()), off(found, expected)


KINDS = ((4, False), (4, True), (20, False), (1, False), (16, True), (16, False), (1, True))  # T, and with a norm


def equality_of(name: str, device: torch.device, until: float) -> Line:
    """Compares a neuron for several T, alone and with a norm, until the time is up."""
    agreed, wrong, worst = [], [], 0.0
    for time_steps, normed in KINDS:
        if time.time() > until:
            break
        kind = f"T {time_steps}{' normed' if normed else ''}"
        try:
            differing, error = compare(name, time_steps, normed, device)
        except Exception as fault:
            wrong.append(f"{kind}: {first_line(fault)}")
            continue
        if differing or not error <= TOLERANCE:
            wrong.append(f"{kind}: {differing} spikes differ, gradients by {error:.1e}")
        else:
            agreed.append(kind)
            worst = max(worst, error)
    left = KINDS[len(agreed) + len(wrong) :]
    told = [*wrong]
    if agreed:
        told.append(f"spikes equal, gradients to {worst:.1e}: {', '.join(agreed)}")
    if left:
        told.append(f"no time for {len(left)} of {len(KINDS)} kinds")
    return Line("equality", name, FAILED if wrong else OK if agreed else SKIPPED, "; ".join(told))


def prepare_process() -> None:
    """A process that compares has one thread, and products in full precision (no TF32)."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def equality(report: Report, device: torch.device, seconds: float) -> None:
    """Every neuron of the registry. Compiling takes most of the time, so there are several processes."""
    with compiling(True):
        compiles = compiler_available(device)
    if not compiles:
        what = "the passes are not compiled here: torch before 2.9, or no Triton, or no C++ compiler"
        report.line("equality", "", SKIPPED if device.type == "cpu" else FAILED, what)
        if device.type == "cpu":  # where only the compiled passes could differ
            return
    names = sorted((name for name in list_neurons("torch") if name != "ahsar"), key=lambda name: (name != "lif", name))
    processes = max(1, min(8, (os.cpu_count() or 1) // 2))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # read by processes when they start; each would start many more
    until = time.time() + seconds
    with ProcessPoolExecutor(processes, get_context("spawn"), prepare_process) as pool:
        running = {pool.submit(equality_of, name, device, until): name for name in names}
        left = []
        for done in as_completed(running):
            try:
                line = done.result()
            except Exception as fault:  # the process has ended
                line = Line("equality", running[done], FAILED, first_line(fault))
            if line.outcome == SKIPPED:
                left.append(line.case)
            else:
                report.line(*line)
    if left:
        report.line("equality", f"{len(left)} neurons", SKIPPED, f"no time for {', '.join(sorted(left))}")


def networks(report: Report, device: torch.device, seconds: float) -> None:
    """Networks in float64, in which no membrane meets its threshold by chance."""
    on_gpu = device.type == "cuda"
    for case in (TINY[0], Case("QKFormer 3-64, 32x32", "qkformer_3_64", 2)):
        model = network(OURS, case).double()
        x = torch.randn(case.batch, 3, case.size, case.size, generator=torch.Generator().manual_seed(0)).double()
        with compiling(False):
            expected = result_of(model, x, CPU)
        with compiling(on_gpu):
            found = result_of(model, x, device)
        logits = (found.output - expected.output).abs().max().item() / expected.output.abs().max().item()
        error = off(found, expected)
        good = logits <= TOLERANCE and error <= TOLERANCE
        told = f"float64: logits to {logits:.1e}, gradients to {error:.1e}{'' if on_gpu else ', the CPU beside itself'}"
        report.line("equality", case.name, OK if good else FAILED, told)


# -- training ----------------------------------------------------------------------------------------------------------


def mixed_precision(report: Report, device: torch.device, seconds: float) -> None:
    """Training steps in bf16 and fp16, as a run does them."""
    case = SMALL if device.type == "cuda" else TINY[0]
    for amp in ("bf16", "fp16"):
        if amp == "fp16" and device.type == "cpu":
            report.line("mixed precision", amp, SKIPPED, "needs a GPU")
            continue
        report.line("mixed precision", amp, *trained_in(amp, case))


def trained_in(amp: str, case: Case, steps: int = 30) -> tuple[str, str]:
    """Trains in a precision. Returns the outcome and what was found."""
    accelerator = create_accelerator(amp)
    model = network(REGULATED, case).to(accelerator.device)
    controller = regulate(model)
    trained, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=1e-3))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.batch, 3, case.size, case.size, generator=generator).to(accelerator.device)
    y = torch.randint(10, (case.batch,), generator=generator).to(accelerator.device)
    neurons = [module for module in model.modules() if isinstance(module, SpikingNeuron)]
    losses, others, dtypes = [], [], set()

    def look(module: nn.Module, args: Any, spikes: Tensor) -> None:
        others.append(((spikes != 0) & (spikes != 1)).sum())
        dtypes.add(str(spikes.dtype).removeprefix("torch."))

    for step in range(steps):
        hooks = [neuron.register_forward_hook(look) for neuron in neurons] if step == steps - 1 else []
        with accelerator.autocast():
            loss = nn.functional.cross_entropy(trained(x), y)
        for hook in hooks:
            hook.remove()
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        controller.step()
        losses.append(loss.item())
    scales = torch.stack([neuron.threshold_scale for neuron in neurons if neuron.threshold_scale is not None])
    good = {
        "losses are finite": all(abs(loss) < float("inf") for loss in losses),
        "the loss falls": losses[-1] < losses[0],
        "weights are finite": all(bool(value.isfinite().all()) for value in model.state_dict().values()),
        "spikes are 0 and 1": sum(int(other) for other in others) == 0 and len(others) >= len(neurons),
        "thresholds move": bool((scales != 1).any()),
    }
    wrong = [what for what, holds in good.items() if not holds]
    found = f"loss {losses[0]:.2f} to {losses[-1]:.2f} in {steps} steps; spikes in {', '.join(sorted(dtypes))}; "
    return (FAILED, f"{found}not so: {', '.join(wrong)}") if wrong else (OK, f"{found}{', '.join(good)}")


def waits(report: Report, device: torch.device, seconds: float) -> None:
    """Whether the host waits for the device in a training step that is regulated."""
    if device.type != "cuda":
        report.line("host waits", "", SKIPPED, "needs a GPU")
        return
    step = training_step(REGULATED, SMALL, device)
    for _ in range(40):  # the controller reads rates in the first steps, which calibrate
        step()
    torch.cuda.synchronize()
    steps = 10
    places: Counter[str] = Counter()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(steps):
                step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for each in caught:
        if "called a synchronizing" in str(each.message):
            places[f"{Path(each.filename).name}:{each.lineno}"] += 1
    told = ", ".join(f"{place} {number}x" for place, number in places.most_common(5)) or "none"
    report.line("host waits", f"{steps} regulated steps", FAILED if places else OK, f"by torch's debug mode: {told}")
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(steps):
            step()
    counts = {event.key: event.count for event in profile.key_averages()}
    if not any(name.startswith(("cudaLaunch", "cuLaunch")) for name in counts):
        report.line("host waits", "the profiler", SKIPPED, "it sees no calls of CUDA on this machine")
        return
    found = {
        name: number
        for name, number in counts.items()
        if name in ("cudaStreamSynchronize", "cudaEventSynchronize") or name.startswith("Memcpy DtoH")
    }
    launches = sum(number for name, number in counts.items() if "LaunchKernel" in name)
    outcome = FAILED if sum(found.values()) >= steps else OK  # the profiler may have one of its own
    told = ", ".join(f"{name} {number}x" for name, number in found.items()) or "no waits"
    report.line("host waits", "the profiler", outcome, f"{told}; {launches / steps:.0f} kernels a step")


class OutOfTime(Exception):
    """The time for the epoch is up."""


class Patterns(torch.utils.data.Dataset):
    """Images of ten classes, [3, 32, 32]: a pattern of its own for each, under noise. Nothing is downloaded."""

    classes = tuple("0123456789")

    def __init__(self, number: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.patterns = torch.randn(len(self.classes), 3, 32, 32, generator=generator)
        self.targets = [i % len(self.classes) for i in range(number)]
        self.seed = seed

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(self.seed + index))
        return self.patterns[self.targets[index]] + noise, self.targets[index]


def epoch(report: Report, device: torch.device, seconds: float) -> None:
    """One epoch of a run: 50,000 images of 32x32 in bf16 on a GPU, a few batches of a small network elsewhere."""
    large = device.type == "cuda"
    model, number, batch = ("spikformer_4_384", 50_000, 128) if large else ("spikformer_2_64", 64, 16)
    config = Config().with_values({
        "data.name": "own/patterns",
        "data.batch_size": batch,
        "data.validation": 0,
        "data.workers": min(8, (os.cpu_count() or 1) // 2) if large else 0,
        "model.name": model,
        "model.neuron": "ahsar",
        "train.epochs": 1,
        "train.amp": "bf16" if large else None,
    })  # fmt: skip
    datasets = {"train": Patterns(number, 1), "test": Patterns(number // 50 + 10, 1 + number)}
    until = time.monotonic() + seconds

    def on_step(step: dict[str, Any]) -> None:
        if time.monotonic() > until:
            raise OutOfTime(f"{step['step']} of {step['steps']} steps in {seconds:.0f} s, loss {step['loss']:.2f}")

    case = f"{model}, {number} images, batch {batch}{', bf16' if large else ''}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = train(config, Path(folder) / "run", on_step=on_step, datasets=datasets)
        except OutOfTime as up:
            report.line("epoch", case, OK, f"ended early: {up}")
            return
    (row,) = result["epochs"]
    scales = result["threshold_scale"] or {}
    good = result["status"] == "ok" and any(scale != 1 for scale in scales.values())
    told = f"{row['seconds']:.0f} s, {row['step_ms']:.1f} ms a step, loss {row['train_loss']:.2f}, test accuracy "
    told += f"{100 * result['metrics']['acc1']:.0f} %, {result['peak_memory_mib'] or 0:.0f} MiB"
    report.line("epoch", case, OK if good else FAILED, told if good else f"{told}; thresholds did not move: {scales}")


# -- times -------------------------------------------------------------------------------------------------------------


def part(name: str, setting: Setting, report: Report, device: torch.device, seconds: float) -> None:
    """A part of the benchmark, row by row until the time is up."""
    until = time.monotonic() + seconds
    for row in PARTS[name].measure(setting):
        report.row(row)
        if time.monotonic() > until:
            report.line("bench", name, TIMED, f"below, as far as {seconds:.0f} s went")
            return
    report.line("bench", name, TIMED, "below")


def rival(report: Report, device: torch.device, seconds: float) -> None:
    """By what SpikingJelly runs its neurons here."""
    from spikingjelly.activation_based.functional import neuron_implementation

    found = neuron_implementation("lif", device)
    without = ", ".join(found["unavailable"]) or "nothing"
    report.line("SpikingJelly", "LIF", TIMED, f"runs by {found['implementation']}; not available: {without}")


def graphs(report: Report, device: torch.device, seconds: float) -> None:
    """Forward and backward pass as CUDA graphs, beside the same without."""
    if device.type != "cuda":
        report.line("CUDA graphs", "", SKIPPED, "needs a GPU")
        return
    for batch in (1, 64):
        case = replace(SMALL, batch=batch)
        x = torch.randn(batch, 3, case.size, case.size, device=device)
        y = torch.randint(10, (batch,), device=device)
        plain, graphed = (network(OURS, case).to(device) for _ in range(2))
        forward_and_backward(plain, x, y)()  # compiles
        graphed = torch.cuda.make_graphed_callables(graphed, (x,), allow_unused_input=True)
        steps = {"CUDA graphs": forward_and_backward(graphed, x, y), "without": forward_and_backward(plain, x, y)}
        times = interleaved("", steps, report.found["rounds"], device)
        report.row(Row("CUDA graphs", f"{case.name}, batch {batch}, forward and backward", "ms", times.wall))
    report.line("CUDA graphs", SMALL.name, TIMED, "below")


def forward_and_backward(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """A training step without the optimiser."""

    def step() -> None:
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()

    return step


class Check(NamedTuple):
    """A check, the seconds that it may take on a GPU and elsewhere, and whether it can fail."""

    run: Callable[[Report, torch.device, float], None]
    on_gpu: float
    elsewhere: float
    can_fail: bool = True


def checks(setting: Setting) -> dict[str, Check]:
    """All of them, in order. What might leave the device unusable comes last."""
    timed = {name: partial(part, name, setting) for name in ("neuron", "training", "memory", "inference")}
    return {
        "equality": Check(equality, 140, 40),
        "networks": Check(networks, 30, 20),
        "mixed precision": Check(mixed_precision, 30, 10),
        "host waits": Check(waits, 20, 0),
        "SpikingJelly": Check(rival, 5, 5, can_fail=False),
        "neuron": Check(timed["neuron"], 40, 10, can_fail=False),
        "training": Check(timed["training"], 60, 10, can_fail=False),
        "memory": Check(timed["memory"], 30, 10, can_fail=False),
        "inference": Check(timed["inference"], 30, 10, can_fail=False),
        "epoch": Check(epoch, 60, 20),
        "CUDA graphs": Check(graphs, 30, 0, can_fail=False),
    }


def run_check(name: str, check: Check, report: Report, device: torch.device, most: float) -> None:
    """Runs a check for at most so many seconds, whatever it raises, and writes the report."""
    began, seconds = time.monotonic(), check.on_gpu if device.type == "cuda" else check.elsewhere
    try:
        if most > 0:
            check.run(report, device, min(seconds, most))
        else:
            report.line(name, "", SKIPPED, "no time")
    except Exception as fault:
        report.line(name, "", FAILED if check.can_fail else SKIPPED, first_line(fault))
    report.found["seconds"][name] = time.monotonic() - began
    report.write()
    if device.type == "cuda":  # the part "memory" runs in other processes
        gc.collect()
        with suppress(RuntimeError):  # of a device that a check has left unusable
            torch.cuda.empty_cache()


def main() -> int:
    """1 if a check failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=Path, nargs="?", default=Path("build/gpu_check"))
    folder = parser.parse_args().folder
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if not on_gpu:
        os.environ["ACCELERATE_USE_CPU"] = "1"  # other accelerators are not what this is about
        os.environ["STEP_AHSAR_COMPILE"] = "0"  # sizes are so small that compiling would take most of the time
    setting = Setting(device.type, torch.get_num_threads(), rounds=10 if on_gpu else 1, small=not on_gpu)
    report, began = Report(folder, device, setting.rounds), time.monotonic()
    machine = report.found["hardware"]["accelerator" if on_gpu else "cpu"]
    print(f"{machine}; torch {torch.__version__}, CUDA {torch.version.cuda}", flush=True)
    if not on_gpu:
        report.line("device", "", SKIPPED, "no GPU: small sizes on the CPU, to see that all runs; times mean nothing")
    for name, check in checks(setting).items():
        run_check(name, check, report, device, LIMIT - (time.monotonic() - began))
    print(f"{time.monotonic() - began:.0f} s; {folder / 'gpu_check.md'}")
    return int(report.has_failed)


if __name__ == "__main__":
    sys.exit(main())
