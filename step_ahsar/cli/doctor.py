"""`step-ahsar doctor`: what is installed, what works, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from getpass import getuser
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path
from typing import NamedTuple

# For each extra the distribution that shows whether it is installed.
_EXTRAS = {
    "spikingjelly": "spikingjelly",
    "braincog": "braincog",
    "snntorch": "snntorch",
    "sinabs": "sinabs",
    "events": "tonic",
    "hf": "datasets",
    "onnx": "onnxscript",
    "attacks": "adversarial-robustness-toolbox",
    "slurm": "submitit",
    "ray": "ray",
}
_COMPILED_IN = 60.0  # seconds
SECTIONS = 6  # of :func:`findings`


class Finding(NamedTuple):
    """One line.

    Args:
        name: what was looked at.
        value: what was found.
        advice: what to do about it; empty if nothing has to be done.
    """

    name: str
    value: str
    advice: str = ""


def findings() -> Iterator[tuple[str, list[Finding]]]:
    """Sections and their lines. It compiles a neuron, so it takes some seconds."""
    plugins = list(_plugins())  # first, because whoever looks up a name loads them
    yield "software", _software()
    yield "devices", list(_devices())
    yield "neurons", list(_neurons())
    yield "extras", [_extra(name, distribution) for name, distribution in _EXTRAS.items()]
    yield "plugins", plugins
    yield "caches", list(_caches())


def _software() -> list[Finding]:
    names = ("step-ahsar", "torch", "timm", "torchvision", "accelerate")
    return [
        Finding("Python", platform.python_version()),
        *(Finding(name, _version(name) or "missing") for name in names),
    ]


def _devices() -> Iterator[Finding]:
    import torch

    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    few = f"OMP_NUM_THREADS={os.environ['OMP_NUM_THREADS']} is set" if os.environ.get("OMP_NUM_THREADS") else ""
    yield Finding("CPU", f"{cores} cores, {threads} threads", few if threads < cores else "")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(index).total_memory
            yield Finding(f"cuda:{index}", f"{torch.cuda.get_device_name(index)}, {memory / 2**30:.0f} GiB")
    elif torch.backends.mps.is_available():
        yield Finding("mps", "available")
    else:
        yield Finding("accelerator", "none", "training runs on the CPU")


def _neurons() -> Iterator[Finding]:
    import torch

    from step_ahsar.neurons import create_neuron, list_backends, list_neurons
    from step_ahsar.neurons.kernels.compiling import compiler_available

    if os.environ.get("STEP_AHSAR_COMPILE") == "0":
        yield Finding("compiled", "no", "STEP_AHSAR_COMPILE=0 is set; unset it")
    elif not compiler_available(torch.device("cpu")):
        yield Finding("compiled", "no", "no C++ compiler is found; install g++ or clang, or name one by CXX")
    else:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            start = time.perf_counter()
            create_neuron("lif")(torch.randn(4, 8, 16))
            took = time.perf_counter() - start
        failed = next((str(each.message) for each in told if "uncompiled" in str(each.message)), "")
        slow = f"more than {_COMPILED_IN:.0f} s; is the machine busy?" if took > _COMPILED_IN else ""
        yield Finding("compiled", "no" if failed else f"yes, the first neuron in {took:.1f} s", failed or slow)
    for backend in list_backends():
        found = f"{len(list_neurons(backend))} neurons"
        try:
            create_neuron("lif", backend)
            yield Finding(f"backend {backend}", found)
        except Exception as error:  # whatever the import of another library raises
            yield Finding(f"backend {backend}", f"{found}, of no use", " ".join(str(error).split()))


def _extra(name: str, distribution: str) -> Finding:
    found = _version(distribution)
    return Finding(name, found or "missing", "" if found else f"pip install 'step-ahsar[{name}]' if you need it")


def _plugins() -> Iterator[Finding]:
    from step_ahsar import plugins

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        plugins.load_plugins()
    texts = [str(each.message) for each in told]
    entries = sorted(entry_points(group=plugins.GROUP), key=lambda entry: entry.name)
    for entry in entries:
        failed = next((text for text in texts if f"plugin {entry.name!r}" in text), "")
        yield Finding(entry.name, "cannot be loaded" if failed else entry.value, failed)
    if not entries:
        yield Finding("plugins", "none")


def _caches() -> Iterator[Finding]:
    from step_ahsar.config import DataConfig
    from step_ahsar.data import cache_folder

    compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR") or Path(tempfile.gettempdir(), f"torchinductor_{getuser()}")
    for name, folder in (("frames of events", cache_folder(DataConfig())), ("compiled neurons", Path(compiled))):
        held = _size(folder)
        advice = "may be removed; it is made anew when it is needed" if held else ""
        yield Finding(name, f"{folder}, {held / 1e6:.1f} MB", advice)
    free = shutil.disk_usage(Path.cwd()).free
    yield Finding("room for runs", f"{free / 1e9:.1f} GB here", "little is left" if free < 1e9 else "")


def _size(folder: Path) -> int:
    """Bytes of the files in a folder; files that are removed meanwhile do not count."""
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
