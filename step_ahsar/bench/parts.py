"""What the benchmark measures. Each part yields rows as they are measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

from step_ahsar.bench.loading import embedded_configs, reading_and_training
from step_ahsar.bench.networks import (
    CASES,
    OURS,
    REGULATED,
    RELU,
    RIVAL,
    SMALL,
    TINY,
    TRAINED,
    Case,
    inference,
    network,
    training_step,
)
from step_ahsar.bench.timing import Row, Step, interleaved
from step_ahsar.engine.record import git_commit, hardware, versions
from step_ahsar.errors import UserError, first_line, unknown
from step_ahsar.libraries.adapter import require
from step_ahsar.measure import OperationMeter
from step_ahsar.measure.memory import PeakMemory
from step_ahsar.neurons import create_neuron
from step_ahsar.progress import followed, work


@dataclass(frozen=True)
class Setting:
    """How everything is measured.

    Args:
        device: where, as torch names it.
        threads: of torch, on a CPU.
        rounds: how often each contender is measured.
        small: sizes that take seconds, to see that everything runs; the figures then mean nothing.
    """

    device: str = "cpu"
    threads: int = 2
    rounds: int = 15
    small: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.threads < 1:
            raise UserError(f"rounds and threads must be >= 1, got {self.rounds} and {self.threads}")
        try:
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as fault:  # torch raises either
            raise UserError(f"device {self.device!r} cannot be used: {first_line(fault)}") from fault

    @property
    def place(self) -> torch.device:
        """The device."""
        return torch.device(self.device)

    @property
    def cases(self) -> tuple[Case, ...]:
        """The networks. On an accelerator, which a few images do not fill, with more of them."""
        if self.small:
            return TINY
        return CASES if self.place.type == "cpu" else tuple(replace(case, batch=128) for case in CASES)

    @property
    def overhead_case(self) -> Case:
        """A network that is small enough for the overhead to show."""
        return TINY[0] if self.small else SMALL


def run_bench(parts: Sequence[str], setting: Setting) -> Iterator[dict[str, Any]]:
    """Measures, and yields what was measured so far as soon as another row is there.

    Args:
        parts: names of :data:`PARTS`; all if there is none.
        setting: how.

    Returns:
        the rows as JSON has them, with the machine and the versions.

    Raises:
        UserError: there is no part of such a name.
    """
    for part in parts:
        if part not in PARTS:
            raise unknown("part of the benchmark", part, PARTS)
    torch.set_num_threads(setting.threads)
    found: dict[str, Any] = {
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "device": setting.device,
        "rounds": setting.rounds,
        "small": setting.small,
        "hardware": hardware(),
        "versions": versions() | rivals(),
        "rows": [],
    }
    chosen = parts or list(PARTS)
    with work("benchmark", len(chosen)) as begin:
        for part in chosen:
            begin(part)
            for row in PARTS[part].measure(setting):
                found["rows"].append(row.stored())
                yield found


def rivals() -> dict[str, str]:
    """The versions of what is measured beside this package, as far as it is installed."""
    found = {}
    for name in ("spikingjelly", "braincog", "triton"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _available(kinds: Iterable[str], make: Callable[[str], Step]) -> tuple[dict[str, Step], dict[str, str]]:
    """A step of each contender, and why others are left out: another library may be missing, or fail on the device."""
    steps, skipped = {}, {}
    for kind in kinds:
        try:
            step = make(kind)
            step()
        except UserError as fault:
            skipped[kind] = str(fault)
        except Exception as fault:
            if kind in (OURS, REGULATED):
                raise
            skipped[kind] = first_line(fault)
        else:
            steps[kind] = step
    return steps, skipped


def _timed(
    part: str, case: str, kinds: Iterable[str], make: Callable[[str], Step], setting: Setting, at: int | None = None
) -> Row:
    """The row of contenders whose steps are timed."""
    steps, skipped = _available(kinds, make)
    return Row(part, case, "ms", interleaved(case, steps, setting.rounds, setting.place).wall, skipped, at)


# -- neurons and networks ----------------------------------------------------------------------------------------------


def _neuron(setting: Setting) -> Iterator[Row]:
    for size in (10_000,) if setting.small else (100_000, 1_000_000, 10_000_000):
        for time_steps in (1, 4, 16):
            x = torch.randn(time_steps, size // time_steps, device=setting.place)
            case = f"LIF, {size:.0e} values, T {time_steps}"
            yield _timed("neuron", case, _NEURONS, partial(_neuron_step, x=x), setting)


def _neuron_step(kind: str, x: torch.Tensor) -> Step:
    return _NEURONS[kind](x)


def _our_neuron(x: torch.Tensor) -> Step:
    return _forward_and_backward(create_neuron("lif"), x)


def _their_neuron(x: torch.Tensor) -> Step:
    require("spikingjelly")
    from spikingjelly.activation_based import functional, neuron, surrogate

    theirs = neuron.LIFNode(
        tau=2.0,
        v_reset=0.0,
        detach_reset=True,
        step_mode="m",
        surrogate_function=surrogate.Sigmoid(4.0),
    )

    def fresh(values: torch.Tensor) -> torch.Tensor:
        functional.reset_net(theirs)
        return theirs(values)

    return _forward_and_backward(fresh, x)


def _forward_and_backward(neuron: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Step:
    x = x.clone().requires_grad_()
    grad = torch.randn_like(x)

    def step() -> None:
        x.grad = None
        neuron(x).backward(grad)

    return step


def _bytes(x: torch.Tensor) -> Step:
    """Reads and writes what a neuron must: its input and its spikes, then its input and both gradients."""
    spikes, grad, out = torch.empty_like(x), torch.randn_like(x), torch.empty_like(x)

    def step() -> None:
        spikes.copy_(x)
        torch.add(x, grad, out=out)

    return step


_NEURONS = {OURS: _our_neuron, RIVAL: _their_neuron, "moving its bytes": _bytes}


def _training(setting: Setting) -> Iterator[Row]:
    for case in setting.cases:
        make = partial(training_step, case=case, device=setting.place)
        yield _timed("training", case.title, TRAINED, make, setting)


def _inference(setting: Setting) -> Iterator[Row]:
    for case in setting.cases:
        make = partial(inference, case=case, device=setting.place)
        yield _timed("inference", case.title, TRAINED, make, setting)


def _ahsar(setting: Setting) -> Iterator[Row]:
    """AHSAR's cost is below one percent, so it takes many rounds to see it."""
    case = setting.overhead_case
    steps = {kind: training_step(kind, case, setting.place) for kind in (REGULATED, OURS)}
    times = interleaved(case.name, steps, 10 * setting.rounds, setting.place)
    yield Row("ahsar", f"{case.title}, by the clock", "ms", times.wall)
    yield Row("ahsar", f"{case.title}, on the processor", "ms", times.cpu)
    yield from _peaks("ahsar", case, (REGULATED, OURS), setting)


def _memory(setting: Setting) -> Iterator[Row]:
    for case in setting.cases:
        yield from _peaks("memory", case, (OURS, RIVAL, RELU), setting)


def _peaks(part: str, case: Case, kinds: Iterable[str], setting: Setting) -> Iterator[Row]:
    """Peak memory above the idle process, each time in a process of its own."""
    _, skipped = _available(kinds, lambda kind: network(kind, case).zero_grad)
    values: dict[str, list[float]] = {kind: [] for kind in kinds if kind not in skipped}
    rounds = min(3, setting.rounds) if setting.place.type == "cpu" else 1  # torch's own count is always the same
    for _ in followed(case.name, range(rounds)):
        for kind, into in values.items():
            freed_at_once = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
            with _env(**freed_at_once), ProcessPoolExecutor(1, get_context("spawn")) as process:
                peak = process.submit(_peak, kind, case, setting.device, setting.threads).result()
            if peak is None:
                yield Row(part, case.name, "MiB", {}, {kind: "this platform does not tell peak memory"})
                return
            into.append(peak)
    yield Row(part, f"{case.title}, peak memory of a training step", "MiB", values, skipped)


def _peak(kind: str, case: Case, device: str, threads: int) -> float | None:
    torch.set_num_threads(threads)
    where = torch.device(device)
    step = training_step(kind, case, where)
    for _ in range(3):
        step()
    memory = PeakMemory(where)
    memory.start()
    for _ in range(3):
        step()
    memory.stop(resident=0)
    return memory.mib


@contextmanager
def _env(**variables: str) -> Iterator[None]:
    """Environment variables of the processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# -- cost against the size of the work ---------------------------------------------------------------------------------


def _time_steps(setting: Setting) -> Iterator[Row]:
    case = setting.overhead_case if setting.small else replace(SMALL, batch=16)
    for time_steps in (1, 2, 4) if setting.small else (1, 2, 4, 8, 16, 32):
        sized = replace(case, time_steps=time_steps)
        yield _at("time-steps", f"{case.title}, T {time_steps}", time_steps, sized, setting)


def _batches(setting: Setting) -> Iterator[Row]:
    case = setting.overhead_case
    for batch in (1, 2) if setting.small else (1, 4, 16, 64):
        sized = replace(case, batch=batch)
        yield _at("batches", f"{case.name}, T {case.time_steps}, batch {batch}", batch, sized, setting)


def _at(part: str, name: str, at: int, case: Case, setting: Setting) -> Row:
    make = partial(training_step, case=case, device=setting.place)
    return _timed(part, name, (OURS, RIVAL), make, setting, at)


def _operations(setting: Setting) -> Iterator[Row]:
    """Counting operations beside evaluating without."""
    for name in ("spikformer_2_64", "qkformer_3_64"):
        case = Case(name, name, 2 if setting.small else 64, args={"threshold": 0.25})
        times = interleaved(name, _evaluations(case, setting.place), setting.rounds, setting.place)
        yield Row("operations", f"evaluation of {case.title}", "ms", times.wall)


def _evaluations(case: Case, device: torch.device) -> dict[str, Step]:
    model = network(OURS, case).to(device)
    x = torch.randn(case.batch, 3, case.size, case.size, device=device)
    with torch.no_grad():
        model(x)  # norms have statistics, so the spikes are as many as in training
    model.eval()

    @torch.inference_mode()
    def counted() -> None:
        with OperationMeter(model) as meter, meter.batch(len(x)):
            model(x)

    @torch.inference_mode()
    def alone() -> None:
        model(x)

    return {"counted": counted, "alone": alone}


def _loading(setting: Setting) -> Iterator[Row]:
    """On one core. Where reading takes longer than training, data.workers prepares the next batch beside the step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, config in islice(embedded_configs(), 1 if setting.small else None):
            times = interleaved(name, reading_and_training(config), min(5, setting.rounds), torch.device("cpu"))
            yield Row("loading", f"{name}, batch {config.data.batch_size}", "ms", times.wall)
    finally:
        torch.set_num_threads(threads)


# -- starting ----------------------------------------------------------------------------------------------------------

_COMMANDS = {
    "step-ahsar --help": ["-m", "step_ahsar", "--help"],
    "step-ahsar list neurons": ["-m", "step_ahsar", "list", "neurons"],
    "step-ahsar list models": ["-m", "step_ahsar", "list", "models"],
}
_FIRST_STEP = """
import time, torch
torch.set_num_threads({threads})
from step_ahsar.bench.networks import REGULATED, SMALL, TINY, training_step
step = training_step(REGULATED, {case}, torch.device({device!r}))
times = []
for _ in range(4):
    start = time.perf_counter()
    step()
    times.append(time.perf_counter() - start)
print(times[0] - min(times[1:]))
"""


def _start(setting: Setting) -> Iterator[Row]:
    """Seconds until a command has printed, beside importing torch; and what the first training step takes longer."""
    rounds = min(5, setting.rounds)
    values: dict[str, dict[str, list[float]]] = {name: {"command": [], "import torch": []} for name in _COMMANDS}
    for _ in followed("commands", range(rounds)):
        for name, command in _COMMANDS.items():
            values[name]["command"].append(_seconds(command))
            values[name]["import torch"].append(_seconds(["-c", "import torch"]))
    for name, found in values.items():
        yield Row("start", name, "s", found)
    case = "TINY[0]" if setting.small else "SMALL"
    code = _FIRST_STEP.format(threads=setting.threads, case=case, device=setting.device)
    found = {"empty cache": [], "filled cache": []}
    for _ in followed("first step", range(1 if setting.small else 3)):
        with tempfile.TemporaryDirectory() as cache:
            for into in found.values():
                into.append(float(_output(["-c", code], TORCHINDUCTOR_CACHE_DIR=cache).split()[-1]))
    yield Row("start", f"first training step, {setting.overhead_case.name}, beside later ones", "s", found)


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    _output(command)
    return time.perf_counter() - start


def _output(command: list[str], **env: str) -> str:
    return subprocess.run(
        [sys.executable, *command], env=os.environ | env, check=True, capture_output=True, text=True
    ).stdout


class Part(NamedTuple):
    """A part of the benchmark: what it measures, and the function that does."""

    about: str
    measure: Callable[[Setting], Iterator[Row]]


PARTS = {
    "neuron": Part("LIF alone, forward and backward", _neuron),
    "training": Part("training steps", _training),
    "memory": Part("peak memory of training steps", _memory),
    "ahsar": Part("training with AHSAR beside training without", _ahsar),
    "inference": Part("forward passes of folded models", _inference),
    "time-steps": Part("training steps against T", _time_steps),
    "batches": Part("training steps against the batch size", _batches),
    "operations": Part("counting operations", _operations),
    "loading": Part("reading a batch beside training on it, for configs whose data are in the package", _loading),
    "start": Part("commands until they print, and compiling", _start),
}
