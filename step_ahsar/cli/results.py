"""Printing the results of a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.columns import Columns
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from step_ahsar.cli.progress import duration
from step_ahsar.compare import Estimate
from step_ahsar.measure import Operations, Preset, energy
from step_ahsar.measure.estimating import break_even
from step_ahsar.measure.firing import SHARES, Distribution
from step_ahsar.report import text
from step_ahsar.report.table import print_wide
from step_ahsar.robustness import ADAPTED, CLEAN, scores

_IN_ONE_LINE = 8  # if there are more metrics, those of single classes are printed as a table


def print_training(run: Path, result: dict[str, Any], console: Console) -> None:
    """Prints the test metrics of a finished run, after its last epoch and at its best one."""
    metric, best, last = result["metric"], result["best"], result["epochs"][-1]["epoch"]
    at_best = "" if best["epoch"] == last else f"; best epoch {best['epoch']}, test {_percent(best['metrics'], metric)}"
    _line(console, f"{run}: epoch {last}, test {_percent(result['metrics'], metric)}{at_best}")
    _print_rest(result, console)


def print_evaluation(run: Path, found: dict[str, Any], console: Console) -> None:
    """Prints the result of :func:`step_ahsar.engine.evaluate`."""
    score = _percent(found["metrics"], found["metric"])
    _line(console, f"{run}: epoch {found['epoch']}, test {score}")
    _print_rest(found, console)
    if found["operations"] is not None:
        _print_operations(found["operations"], found["presets"], console)
        console.print()
        print_wide(_activity(found["neurons"]), console)


def print_conditions(
    run: Path,
    found: dict[str, dict[str, Any]],
    reference: Path | None,
    theirs: dict[str, dict[str, Any]] | None,
    console: Console,
) -> None:
    """Prints what :func:`step_ahsar.engine.measure_conditions` has measured, and the scores that sum it up."""
    clean = found[CLEAN]
    metric = next(iter(clean["metrics"]))  # the judged one comes first
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    calibrated = "ece" in clean["metrics"]
    heads = ["condition", f"{text.metric(metric)}, %", *(["ECE, %"] if calibrated else []), "firing rate", "silent, %"]
    for name in heads:
        table.add_column(name, justify="left" if name == "condition" else "right", no_wrap=True)
    for name, row in found.items():
        if row["error"] is not None:
            table.add_row(name, *["–"] * (len(heads) - 1))
            continue
        values = [row["metrics"][metric], *([row["metrics"]["ece"]] if calibrated else [])]
        rates = " / ".join(f"{rate:.3f}" for rate in row["firing_rate"].values())
        table.add_row(name, *(f"{100 * value:.2f}" for value in values), rates, f"{100 * row['dead_fraction']:.1f}")
    _line(console, f"{run}: epoch {clean['epoch']}; firing rates of {', '.join(clean['firing_rate'])}")
    print_wide(table, console)
    for name, row in found.items():
        if row["error"] is not None:
            _line(console, f"{name}: {row['error']}")
    summed = scores(found, metric, theirs)
    words = {
        "corrupted": f"{text.metric(metric)} under corruption",
        "relative": "of the clean one",
        "mce": f"mean corruption error against {reference}",
        "relative_mce": "relative mean corruption error",
        "ece_corrupted": "ECE under corruption",
    }
    shown = [f"{what} {100 * summed[name]:.2f} %" for name, what in words.items() if name in summed]
    gains = [(each, summed[f"gain_{each}"]) for each in ADAPTED if f"gain_{each}" in summed]
    shown += [f"adapting {each} gains {100 * gain:+.2f} points under corruption" for each, gain in gains]
    if shown:
        _line(console, "; ".join(shown))


def print_early_exit(run: Path, found: dict[str, Any], console: Console) -> None:
    """Prints what :func:`step_ahsar.engine.measure_early_exit` has measured."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in (found["criterion"], "accuracy, %", "time steps", "synaptic operations", "in validation, %"):
        table.add_column(name, justify="right", no_wrap=True)
    for point in found["points"]:
        chosen = " *" if point["threshold"] == found["chosen"] else ""
        operations = "–" if point["operations"] is None else f"{point['operations']:,.0f}"
        name = "all steps" if point["threshold"] is None else f"{point['threshold']:g}"
        accuracy, judged = (f"{100 * point[key]:.2f}" for key in ("acc1", "validation_acc1"))
        table.add_row(name + chosen, accuracy, f"{point['time_steps']:.2f}", operations, judged)
    _line(console, f"{run}: epoch {found['epoch']}; samples leave when their {found['criterion']} reaches a threshold")
    print_wide(table, console)
    _line(console, "* chosen in validation: the fewest steps with no less accuracy than all steps have")


def print_estimate(found: Estimate, out: Path, jobs: int, console: Console) -> None:
    """Prints what :func:`step_ahsar.compare.estimate` found."""
    for line in found.changes:
        _line(console, line)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("cell", "runs left", "epochs left", "time", "disk"):
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
    for cell in found.cells:
        table.add_row(cell.cell, str(cell.runs), str(cell.epochs), duration(cell.seconds), decimal(cell.bytes))
    print_wide(table, console)
    runs, epochs = sum(cell.runs for cell in found.cells), sum(cell.epochs for cell in found.cells)
    seconds, size = sum(cell.seconds for cell in found.cells), sum(cell.bytes for cell in found.cells)
    free = shutil.disk_usage(next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())).free
    together = max(1, min(jobs, runs))
    _line(
        console,
        f"{len(found.cells)} cells, {runs} of {found.runs} runs left, {epochs} epochs: about "
        f"{duration(seconds / together)} with {together} at a time; {decimal(size)} on disk, of {decimal(free)} free",
    )


def _print_rest(found: dict[str, Any], console: Console) -> None:
    """Prints the other metrics, and the firing rates."""
    metrics = found["metrics"]
    others = [name for name in metrics if name != found["metric"]]
    by_class = [name for name in others if text.is_of_class(name)] if len(others) > _IN_ONE_LINE else []
    if in_line := [name for name in others if name not in by_class]:
        _line(console, ", ".join(_percent(metrics, name) for name in in_line))
    _line(console, _firing(found))
    if by_class:
        names, values = [text.metric(name) for name in by_class], [f"{100 * metrics[name]:.1f} %" for name in by_class]
        widths = max(map(len, names)), max(map(len, values))
        rows = [f"{name:<{widths[0]}}  {value:>{widths[1]}}" for name, value in zip(names, values, strict=True)]
        console.print(Columns(rows, padding=(0, 4), column_first=True), markup=False, highlight=False)


def _print_operations(found: Operations, presets: Mapping[str, Preset], console: Console) -> None:
    """Prints the operations of each layer for one sample, and what they come to."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    texts, numbers = ("layer", "kind", "group"), ("dense MACs", "synaptic operations", "spikes/synapse", "updates")
    for name in (*texts, "rate", "inputs", *numbers):
        table.add_column(name, justify="left" if name in texts else "right", no_wrap=True)
    for layer in found.layers:
        rates = " x ".join(f"{rate:.3f}" for rate in layer.rates)
        inputs = "" if layer.kind == "neuron" else "real" if layer.analog else "spikes"
        macs, synaptic, updates = (
            f"{count:,.0f}" if count else "" for count in (layer.macs, layer.synaptic_operations, layer.updates)
        )
        spikes = "" if layer.spikes_per_synapse is None else f"{layer.spikes_per_synapse:.3f}"
        table.add_row(layer.name, layer.kind, layer.group or "", rates, inputs, macs, synaptic, spikes, updates)
    console.print()
    print_wide(table, console)
    console.print()
    print_wide(_groups(found), console)
    times = f"computed at each of {found.time_steps} time steps"
    repeated = (
        "" if found.macs_repeated == found.macs else f" ({found.macs_repeated:,.0f} with the first layer {times})"
    )
    _line(
        console,
        f"a sample, mean of {found.samples}: {found.macs:,.0f} MACs of real numbers{repeated}, "
        f"{found.synaptic_operations:,.0f} synaptic operations, {found.updates:,.0f} updates of membranes; without "
        f"spikes, in one pass: {found.dense_macs:,.0f} MACs",
    )
    console.print()
    print_wide(_energies(found, presets), console)
    below = break_even(found, "compute-fp32")
    _line(
        console,
        f"Estimates of {len(presets)} conventions, not to be mixed. At {found.time_steps} time steps compute-fp32 lets "
        f"every layer with an input rate below {below:.2f} win over ReLU" + (": all of them." if below >= 1 else "."),
    )


def _groups(found: Operations) -> Table:
    """The operations of each group of layers for one sample."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("group", "MACs of real numbers", "synaptic operations", "updates", "spikes"):
        table.add_column(name, justify="left" if name == "group" else "right", no_wrap=True)
    for group, sums in found.groups().items():
        table.add_row(group, *(f"{value:,.0f}" if value else "" for value in sums))
    return table


def _activity(neurons: dict[str, Distribution]) -> Table:
    """How the firing rates of each layer's neurons are distributed."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    shares = (f"{100 * share:g} %" for share in SHARES)
    for name in ("neurons", "group", *shares, "silent, %", "saturated, %"):
        table.add_column(name, justify="left" if name in ("neurons", "group") else "right", no_wrap=True)
    for name, layer in neurons.items():
        rates = (f"{rate:.3f}" for rate in layer.quantiles)
        table.add_row(name, layer.group or "", *rates, f"{100 * layer.dead:.1f}", f"{100 * layer.saturated:.1f}")
    return table


def _energies(found: Operations, presets: Mapping[str, Preset]) -> Table:
    """The energy of one inference under each preset, beside that of networks without spikes."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    bits = energy(found, "compute-fp32").quantised_bits
    for name in ("energy, µJ", "spiking", "ReLU", f"{bits}-bit activations"):
        table.add_column(name, justify="left" if name == "energy, µJ" else "right", no_wrap=True)
    for name, preset in presets.items():
        estimate = energy(found, preset)
        values = (estimate.spiking, estimate.relu, estimate.quantised)
        table.add_row(name, *(f"{1e-6 * value:,.3g}" for value in values))
    return table


def _line(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _percent(metrics: dict[str, float], name: str) -> str:
    return f"{text.metric(name)} {100 * metrics[name]:.2f} %"


def _firing(found: dict[str, Any]) -> str:
    rates = ", ".join(f"{group} {rate:.3f}" for group, rate in found["firing_rate"].items())
    return f"firing rate: {rates}; {100 * found['dead_fraction']:.1f} % of neurons silent"
