"""A made-up comparison with everything a report has to show: two models, plain and regulated cells, failures."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from step_ahsar.compare.schema import RESULTS
from step_ahsar.compare.summary import summarise
from step_ahsar.report import render

_LAYERS = (
    [(f"patch_embed.stages.{i}.neuron", "stem") for i in range(4)]
    + [(f"blocks.{b}.attn.{n}", "attention") for b in range(2) for n in ("q", "k", "v", "attn", "proj")]
    + [(f"blocks.{b}.mlp.{n}", "mlp") for b in range(2) for n in ("fc1", "fc2")]
)


def _seed(seed: int, neuron: str, threshold: float, speed: float, epochs: int) -> dict[str, Any]:
    draw = random.Random(f"{seed} {neuron} {threshold}")
    pace = speed * (1.0 + 0.1 * draw.random())
    lines: list[dict[str, Any]] = []
    layers: dict[str, Any] = {path: {"group": group, "rate": [], "threshold_scale": []} for path, group in _LAYERS}
    for epoch in range(1, epochs + 1):
        for depth, (path, _) in enumerate(_LAYERS):
            start = 0.35 * math.exp(-0.7 * (threshold - 0.5) - 0.03 * depth)
            settle = 1 - math.exp(-0.6 * epoch) if neuron == "ahsar" else 0.0
            rate = start + settle * (0.25 - start) * (0.8 + 0.3 * draw.random()) + 0.02 * draw.random()
            scale = math.exp(settle * math.log(0.45 / threshold) * (0.7 + 0.5 * depth / len(_LAYERS)))
            layers[path]["rate"].append(rate)
            layers[path]["threshold_scale"].append(scale)
        lines.append({
            "epoch": epoch,
            "train_loss": 2.3 * math.exp(-pace * epoch) + 0.03 + 0.02 * draw.random(),
            "metrics": {"acc1": min(1.0, 1 - 0.9 * math.exp(-1.1 * pace * epoch) - 0.02 * draw.random())},
            "lr": 1e-3, "step_ms": 20 + draw.random(), "dead_fraction": 0.02 * draw.random(),
            "firing_rate": _groups(layers, "rate"), "gamma": None, "seconds": 1.5,
        })  # fmt: skip
    last, scales = lines[-1], _groups(layers, "threshold_scale")
    if neuron != "ahsar":
        scales = None
        for layer in layers.values():
            layer["threshold_scale"] = None
    target = next((line["epoch"] for line in lines if line["metrics"]["acc1"] >= 0.9), None)
    return {
        "seed": seed, "status": "ok", "error": None, "epochs": lines, "layers": layers, "metrics": last["metrics"],
        "best": {"epoch": len(lines), "metrics": last["metrics"]}, "epochs_to_target": target,
        "step_ms": last["step_ms"], "peak_memory_mib": 410.0,
        "firing_rate": last["firing_rate"], "dead_fraction": last["dead_fraction"],
        "threshold_scale": scales,
        "operations": {
            "macs": 9e3, "macs_repeated": 36e3, "synaptic_operations": 1e7 * sum(last["firing_rate"].values()),
            "dense_macs": 123456e6, "updates": 4.5e6,
            "spikes": 1.5e6 * sum(last["firing_rate"].values()),
        },
        "energy": {"compute-fp32": 9 * sum(last["firing_rate"].values()), "memory": 700.0},
        "energy_without_spikes": dict.fromkeys(
            (f"{preset}.{kind}" for preset in ("compute-fp32", "memory") for kind in ("relu", "quantised")), 50.0
        ),
        "neurons": {
            path: {"group": group, "quantiles": [0.0, 0.1, rate, rate + 0.1, 0.9], "dead": 0.125, "saturated": 0.25}
            for path, group in _LAYERS
            for rate in layers[path]["rate"][-1:]
        },
        "conditions": {
            name: _under(last["metrics"]["acc1"], share)
            for name, share in [
                ("clean", 1.0), ("jpeg:1", 0.9), ("jpeg:5", 0.5), ("contrast:1", 0.8), ("contrast:5", 0.2),
                ("threshold:0.5", 0.7), ("fgsm:8", 0.3), ("time_steps:8", None if neuron == "ahsar" else 0.95),
            ]
        },
        "early_exit": {
            "criterion": "confidence", "epoch": epochs, "chosen": 0.5, "operations": [1e6, 4e6],
            "points": [
                _exit(0.5, 0.9 * last["metrics"]["acc1"], 2.0, 2e6), _exit(None, last["metrics"]["acc1"], 4.0, 4e6),
            ],
        },
        "synapses": {path: {"group": group, "spikes": 4 * layers[path]["rate"][-1]} for path, group in _LAYERS[1:]},
    }  # fmt: skip


def _exit(threshold: float | None, accuracy: float, steps: float, operations: float) -> dict[str, Any]:
    return {
        "threshold": threshold, "acc1": accuracy, "time_steps": steps, "shares": [0.5, 0.5], "operations": operations,
        "validation_acc1": accuracy, "validation_time_steps": steps,
    }  # fmt: skip


def _under(accuracy: float, share: float | None) -> dict[str, Any]:
    """The record of a condition, under which this share of the accuracy is left; None = the model does not have it."""
    if share is None:
        return {"metrics": None, "firing_rate": None, "dead_fraction": None, "error": "it is bound to its <T>"}
    metrics = {"acc1": accuracy * share, "ece": 0.5 * (1 - share)}
    return {"metrics": metrics, "firing_rate": {"stem": 0.2}, "dead_fraction": 0.1, "error": None}


def _groups(layers: dict[str, Any], key: str) -> dict[str, float]:
    """By group the mean over layers, of their last epoch."""
    columns: dict[str, list[float]] = {}
    for layer in layers.values():
        columns.setdefault(layer["group"], []).append(layer[key][-1])
    return {group: sum(values) / len(values) for group, values in columns.items()}


def _cell(id: str, model: str, neuron: str, threshold: float, speed: float, epochs: int = 8) -> dict[str, Any]:
    settings = {"model.name": model, "model.neuron": neuron, "model.threshold": threshold}
    return {
        "id": id, "task": "classification", "metric": "acc1", "modality": "static", "dataset": "digits",
        "model": model, "neuron": neuron, "regulated": neuron == "ahsar",
        "base": "lif" if neuron == "ahsar" else None, "backend": "torch", "threshold": threshold, "time_steps": 4,
        "settings": settings, "chosen_on": "validation", "parameters": 168_394, "epochs": epochs,
        "band": dict.fromkeys(("stem", "attention", "mlp"), (0.2, 0.4)) if neuron == "ahsar" else None,
        "seeds": [_seed(seed, neuron, threshold, speed, epochs) for seed in (0, 1, 2)],
    }  # fmt: skip


_PAGES: dict[int, str] = {}


def rendered(summary: dict[str, Any]) -> str:
    """The page of a summary that lives as long as the session, rendered once."""
    if id(summary) not in _PAGES:
        _PAGES[id(summary)] = render(summary)
    return _PAGES[id(summary)]


def fail(cell: dict[str, Any], seed: int, after: int, error: str) -> None:
    """Turn one run of `cell` into one that failed after `after` epochs."""
    run = next(s for s in cell["seeds"] if s["seed"] == seed)
    run.update(dict.fromkeys(RESULTS), status="failed", error=error)
    cut(run, after)


def cut(run: dict[str, Any], epochs: int) -> None:
    """Leave `run` its first few epochs."""
    run["epochs"] = run["epochs"][:epochs]
    for layer in run["layers"].values():
        for key in ("rate", "threshold_scale"):
            layer[key] = layer[key] and layer[key][:epochs]
    if not epochs:
        run["layers"] = {}


def change_task(cell: dict[str, Any], task: str, judged: str, others: Sequence[str]) -> dict[str, Any]:
    """`cell` with another task's metrics in place of its accuracies."""
    for run in cell["seeds"]:
        run |= {"conditions": None, "early_exit": None}
        for record in (*run["epochs"], run, run["best"]):
            value = record["metrics"]["acc1"]
            record["metrics"] = {judged: value} | dict.fromkeys(others, value**2)
    settings = cell["settings"] | {"task": task}
    return cell | {"task": task, "metric": judged, "dataset": "digits_scenes", "settings": settings}


def manifest(**changes: Any) -> dict[str, Any]:
    """A made-up manifest."""
    return {
        "title": "quickstart", "target": 0.9, "margin": 0.01, "pairs": None, "places": ["data", "task", "model.name"],
        "seeds": [0, 1, 2], "runs": 21, "runs_done": 21, "started": "2026-01-05T10:00:00+00:00",
        "updated": "2026-01-05T10:04:31+00:00",
        "versions": {"step-ahsar": "0.1.0", "python": "3.11.7", "torch": "2.14.1", "timm": "1.0.31"},
        "hardware": {"device": "cpu", "cpu": "x86_64", "threads": 2},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "datasets": [{"name": "digits", "fingerprint": "sha256:" + "ab" * 32, "train": 1297, "test": 500}],
        "config": {"model": {"name": "spikformer_2_64"}}, "reference": "spikformer-lif-0.5",
    } | changes  # fmt: skip


def cells() -> list[dict[str, Any]]:
    """The cells of the quick start."""
    return [
        _cell("spikformer-lif-0.5", "spikformer_2_64", "lif", 0.5, 0.55),
        _cell("spikformer-lif-1", "spikformer_2_64", "lif", 1.0, 0.3),
        _cell("spikformer-lif-2", "spikformer_2_64", "lif", 2.0, 0.08),
        _cell("spikformer-ahsar-1", "spikformer_2_64", "ahsar", 1.0, 0.5),
        _cell("spikformer-ahsar-2", "spikformer_2_64", "ahsar", 2.0, 0.45),
        _cell("qkformer-lif-1", "qkformer_3_64", "lif", 1.0, 0.35),
        _cell("qkformer-ahsar-1", "qkformer_3_64", "ahsar", 1.0, 0.5),
    ]


@pytest.fixture(scope="session")
def summary() -> dict[str, Any]:
    """Seven cells under three seeds, all well."""
    return summarise(manifest(), cells())


@pytest.fixture(scope="session")
def ranked_summary() -> dict[str, Any]:
    """Five methods on three data sets."""
    found = [
        cell | {"id": f"{cell['id']}-{data}", "dataset": data, "settings": cell["settings"] | {"data.name": data}}
        for data in ("digits", "fsdd", "nmnist")
        for cell in cells()[:5]
    ]
    return summarise(manifest(), found)


@pytest.fixture(scope="session")
def exact_summary() -> dict[str, Any]:
    """The same with all digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("step_ahsar.compare.summary.DIGITS", 17)
        return summarise(manifest(), cells())


@pytest.fixture(scope="session")
def failed_summary() -> dict[str, Any]:
    """The same, but one run has failed on the way and one cell altogether, before its first epoch was over."""
    failed = cells()
    fail(failed[2], 1, 3, "loss is nan at epoch 4, step 12")
    for seed in (0, 1, 2):
        fail(failed[5], seed, 0, "RuntimeError: <b>out of memory</b> & more")
    return summarise(manifest(), failed)


@pytest.fixture(scope="session")
def begun_summary() -> dict[str, Any]:
    """A comparison that has one unfinished run and nothing else."""
    begun = cells()
    for cell in begun:
        cell["seeds"], cell["parameters"] = [], None
    run = _seed(0, "ahsar", 1.0, 0.5, 8)
    run.update(dict.fromkeys(RESULTS), status="unfinished")
    cut(run, 1)
    begun[3]["seeds"] = [run]
    return summarise(manifest(runs_done=0), begun)


@pytest.fixture(scope="session")
def tasks_summary() -> dict[str, Any]:
    """Cells of two tasks, with files that were left out."""
    all_cells = cells()[:5]
    for index in range(5):
        id = all_cells[index]["id"]
        cell = change_task(all_cells[index], "segmentation", "miou", ("pixel_accuracy", "iou_background", "iou_3"))
        if index in (0, 4):
            cell = change_task(cells()[index], "detection", "map", ("map_50", "map_75", "map_small"))
        all_cells[index] = cell | {"id": id.replace("spikformer", cell["task"][:3])}
    data = {
        "name": "digits_scenes", "fingerprint": "sha256:" + "cd" * 32, "train": 1000, "test": 200,
        "skipped": [f"images/{i}.png: <not> an image" for i in range(5)],
    }  # fmt: skip
    return summarise(manifest(title="scenes", datasets=[data, data]), all_cells)


@pytest.fixture(scope="session")
def single_summary() -> dict[str, Any]:
    """One run, without a target."""
    cell = cells()[3]
    cell["seeds"] = cell["seeds"][:1]
    cell["seeds"][0]["epochs_to_target"] = None
    return summarise(manifest(target=None, seeds=[0], runs=1, runs_done=1), [cell])
