"""Summarising a folder: the summary of a comparison or of a single run, finished or not, from the files of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from step_ahsar.compare import statistics
from step_ahsar.compare.folder import COMPARISON, error_of, run_path
from step_ahsar.compare.pairs import described
from step_ahsar.compare.schema import RESULTS
from step_ahsar.compare.summary import load, summarise
from step_ahsar.config import CellConfig, CompareConfig, Config, load_config
from step_ahsar.data import find_dataset
from step_ahsar.engine import (
    OPERATIONS,
    Run,
    conditions_of,
    counted,
    energies,
    measured_conditions,
    measured_early_exit,
)
from step_ahsar.errors import UserError
from step_ahsar.measure import Preset, presets
from step_ahsar.neurons import neuron_kind
from step_ahsar.progress import followed


def collect(directory: Path) -> dict[str, Any]:
    """The summary (docs/summary.md) of a folder: of a comparison, of a run, or one with nothing but a summary.json.

    Raises:
        UserError: the folder is none of these, or a file in it is damaged.
    """
    if (directory / COMPARISON).is_file():
        return _comparison(directory)
    if (directory / "config.yaml").is_file():
        return _single(directory)
    return load(directory)


def _comparison(directory: Path) -> dict[str, Any]:
    config = load_config(directory / COMPARISON)
    if config.compare is None:
        raise UserError(f"{directory / COMPARISON} is damaged: it has no section 'compare'")
    seeds, target = config.compare.seeds, config.compare.target
    estimates = presets(config.own_energy)
    cells, manifests = [], []
    planned = config.cells()
    conditions = conditions_of(config.compare.conditions, [cell for _, cell in planned])
    each = zip(planned, described(planned), conditions, strict=True)
    for (name, cell), known, tested in followed("reading the runs of each cell", each, len(planned)):
        found = [run for seed in seeds if (run := _open(run_path(directory, name, seed))) is not None]
        errors = {seed: error_of(directory, name, seed) for seed in seeds}
        criterion = config.compare.early_exit
        entries = [_entry(run, target, errors[run.config.seed], estimates, tested, criterion) for run in found]
        begun = {run.config.seed for run in found}
        entries += [_broken(seed, error) for seed, error in errors.items() if error and seed not in begun]
        ordered = sorted((entry for entry in entries if entry), key=lambda entry: seeds.index(entry["seed"]))
        cells.append(_cell(known, cell, found, ordered))
        manifests += [run.manifest() for run in found]
    return summarise(_manifest(directory.resolve().name, config, config.compare, cells, manifests), cells)


def _single(directory: Path) -> dict[str, Any]:
    run = Run.existing(directory)
    config = run.config
    entry = _entry(run, None, None, presets(config.own_energy))
    name = f"{config.model.name}-{config.model.neuron}"
    [known] = described([(name, config)])
    cells = [_cell(known, config, [run], [] if entry is None else [entry])]
    alone = CompareConfig(seeds=[config.seed], cells=[CellConfig(id=name)])
    return summarise(_manifest(name, config, alone, cells, [run.manifest()]), cells)


def _open(path: Path) -> Run | None:
    """The run in a folder; None if none has started. The manifest is the last file that a starting run writes."""
    return run if (path / "config.yaml").is_file() and (run := Run.existing(path)).has_begun else None


def _entry(
    run: Run,
    target: float | None,
    error: str | None,
    estimates: Mapping[str, Preset],
    conditions: Sequence[str] | None = None,
    criterion: str | None = None,
) -> dict[str, Any] | None:
    """A run's entry of `seeds`; None if it has neither an epoch nor an error yet.

    Args:
        run: the run.
        target: value of the judged metric to reach.
        error: why it failed.
        estimates: presets of the energy.
        conditions: those whose results are told; None = all that were measured.
        criterion: that of early exit; None = its results are not told.
    """
    result = run.result()
    if result is None:
        epochs = run.metrics()
        if not epochs and error is None:
            return None
        result = _broken(run.config.seed, error) | {"epochs": epochs}
    epochs, reached = result["epochs"], None
    if target is not None and result["status"] == "ok":
        metric = _metric(run)
        reached = statistics.epochs_to_target([epoch["metrics"][metric] for epoch in epochs], target)
    return _without(result, "metric") | {
        "epochs": [_without(epoch, "metric", "layers") for epoch in epochs],
        "layers": _over_epochs(epochs),
        "epochs_to_target": reached,
        **_costs(result, estimates),
        "conditions": _tested(run, conditions) if result["status"] == "ok" else None,
        "early_exit": None if criterion is None else measured_early_exit(run.path, criterion),
    }


def _tested(run: Run, conditions: Sequence[str] | None) -> dict[str, Any] | None:
    """What was measured under conditions; None if nothing was."""
    if conditions is not None and not conditions:
        return None
    measured = measured_conditions(run.path)
    names = measured if conditions is None else [name for name in conditions if name in measured]
    return {name: _without(measured[name], "condition", "epoch") for name in names} or None


def _costs(result: dict[str, Any], estimates: Mapping[str, Preset]) -> dict[str, Any]:
    """The totals of the operations that were counted, what they cost, and the spikes that synapses get."""
    found = counted(result)
    if found is None:
        return {"synapses": None}
    spiking, without_spikes = energies(found, estimates)
    return {
        "operations": {kind: getattr(found, kind) for kind in OPERATIONS},
        "energy": spiking,
        "energy_without_spikes": without_spikes,
        "synapses": {
            layer.name: {"group": layer.group, "spikes": layer.spikes_per_synapse}
            for layer in found.layers
            if layer.spikes_per_synapse is not None
        },
    }


def _without(record: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}


def _over_epochs(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """From what each epoch says of each layer, by its name, to lists over the epochs."""
    layers = {}
    for name, first in epochs[0]["layers"].items() if epochs else ():
        rows = [epoch["layers"][name] for epoch in epochs]
        scales = [row["threshold_scale"] for row in rows]
        dead = [row.get("dead_fraction") for row in rows]  # earlier versions did not write it
        layers[name] = {
            "group": first["group"],
            "rate": [row["rate"] for row in rows],
            "threshold_scale": None if None in scales else scales,
            "dead_fraction": None if None in dead else dead,
        }
    return layers


def _metric(run: Run) -> str:
    """The name of the metric that the run is judged by."""
    manifest = run.manifest()
    if "metric" not in manifest:
        raise UserError(f"{run.path} holds a run of an earlier version: its manifest.json names no metric")
    return manifest["metric"]


def _broken(seed: int, error: str | None) -> dict[str, Any]:
    """The entry of a run without a result: it failed with `error`, or is still running, or was interrupted."""
    status = "unfinished" if error is None else "failed"
    return {"seed": seed, "status": status, "error": error, "epochs": [], "layers": {}} | dict.fromkeys(RESULTS)


def _cell(known: dict[str, Any], config: Config, runs: list[Run], seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """An entry of `cells`, without what :func:`summarise` adds: `known` before it was trained, and its runs."""
    model = config.model
    kind = neuron_kind(model.neuron, model.backend, model.base)
    groups = {group: None for seed in seeds for epoch in seed["epochs"] for group in epoch["firing_rate"]}
    return known | {
        "task": config.task,
        "metric": _metric(runs[0]) if runs else None,
        "modality": find_dataset(config.data.name).modality,
        "dataset": config.data.name,
        "model": model.name,
        "backend": model.backend,
        "threshold": kind.threshold if model.threshold is None else model.threshold,
        "time_steps": model.time_steps,
        "chosen_on": config.judged_on,
        "parameters": runs[0].manifest()["parameters"] if runs else None,
        "epochs": config.train.epochs,
        "band": {group: config.ahsar.band_of(group) for group in groups} if _has_band(known, config) else None,
        "seeds": seeds,
    }


def _has_band(known: dict[str, Any], config: Config) -> bool:
    """Whether layers are led into a band. After a calibrated start it is only a guard, and under a budget nothing."""
    ahsar = config.ahsar
    return known["regulated"] and not ahsar.calibrates and ahsar.thresholds_of is None


def _manifest(
    title: str,
    config: Config,
    plan: CompareConfig,
    cells: list[dict[str, Any]],
    runs: list[dict[str, Any]],
) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    hardware = [run["hardware"] | {"device": run["device"]} for run in runs]
    return {
        "title": title,
        "target": plan.target,
        "margin": plan.margin,
        "pairs": plan.pairs,
        "places": plan.places,
        "seeds": plan.seeds,
        "runs": len(cells) * len(plan.seeds),
        "runs_done": sum(seed["status"] != "unfinished" for cell in cells for seed in cell["seeds"]),
        "started": min((run["started"] for run in runs), default=now),
        "updated": now,
        "versions": merged([run["versions"] for run in runs]),
        "hardware": merged(hardware),
        "git_commit": merged([{"": run["git_commit"]} for run in runs]).get(""),
        "datasets": list({repr(run["dataset"]): run["dataset"] for run in runs}.values()),
        "config": config.to_dict(),
        "reference": plan.reference,
    }


def merged(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One record of many. If values differ, as in a comparison that was continued elsewhere, all of them are shown."""
    keys = dict.fromkeys(key for record in records for key in record)
    values = {key: list(dict.fromkeys(record.get(key) for record in records)) for key in keys}
    return {key: found[0] if len(found) == 1 else " | ".join(map(str, found)) for key, found in values.items()}
