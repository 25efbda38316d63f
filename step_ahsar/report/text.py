"""Formatting numbers and names, for the terminal's table and the page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from math import floor, log10
from statistics import fmean, median
from typing import Any

from step_ahsar.errors import shortened

NONE = "–"
SHOWN = 3  # files, or cells, that are listed by name
_LONG = 100  # characters of a list that is not told in full
LEVEL = 0.05  # of every test
_BOUNDS = {"exact": "", "at_most": "≤ ", "at_least": "≥ "}
_METRICS = {"acc1": "accuracy", "miou": "mIoU", "iou": "IoU", "map": "mAP", "mask_map": "mask mAP", "ap": "AP"}
_DEFINITIONS = {
    "miou": "mIoU is the mean over classes of intersection over union, each pooled over all pixels of the test set",
    "map": "mAP is COCO’s average precision, averaged over classes and over IoU thresholds from 0.5 to 0.95",
}


def metric(name: str) -> str:
    """A metric's name for readers.

    >>> metric("acc1"), metric("map_50"), metric("iou_traffic_light"), metric("pixel_accuracy")
    ('accuracy', 'mAP 50', 'IoU traffic light', 'pixel accuracy')
    """
    if name in _METRICS:
        return _METRICS[name]
    first, *others = name.split("_")
    return " ".join([_METRICS.get(first, first), *others])


def is_of_class(name: str) -> bool:
    """Whether a metric is one class's own, such as 'ap_person' and 'iou_road'."""
    return name.startswith(("ap_", "iou_"))


def title(name: str) -> str:
    """A metric's name at the beginning of a heading: 'Accuracy', 'mIoU'."""
    shown = metric(name)
    return shown.capitalize() if shown.islower() else shown


def common_metric(cells: Sequence[dict[str, Any]]) -> str | None:
    """The name, for readers, of the metric that all cells are judged by; None if they differ or it is not known."""
    names = {cell["metric"] for cell in cells} - {None}
    return metric(names.pop()) if len(names) == 1 else None


def definitions(cells: Sequence[dict[str, Any]]) -> list[str]:
    """Explanations of the cells' metrics, for metrics that need one."""
    names = dict.fromkeys(cell["metric"] for cell in cells)
    return [_DEFINITIONS[name] for name in names if name in _DEFINITIONS]


def place(cell: dict[str, Any]) -> str:
    """The data set, and the task unless it is classification: 'camvid (segmentation)'."""
    return cell["dataset"] if cell["task"] == "classification" else f"{cell['dataset']} ({cell['task']})"


def neuron(cell: dict[str, Any]) -> str:
    """'lif', or a regulated neuron with its base unless that is lif: 'ahsar(plif)'."""
    base = cell["base"]
    return cell["neuron"] if base in (None, "lif") else f"{cell['neuron']}({base})"


def signed(value: float) -> str:
    """A fraction as signed percentage points, without a negative zero: '+3.1', '−0.4', '0.0'."""
    points = round(100 * value, 1)
    return "0.0" if points == 0 else f"{points:+.1f}".replace("-", "−")


def threshold(cell: dict[str, Any]) -> str:
    """The threshold, of a regulated cell the initial one: '0.5'."""
    return NONE if cell["threshold"] is None else f"{cell['threshold']:g}"


def chosen_on(cells: Sequence[dict[str, Any]]) -> str:
    """On which set curves, targets, the best epoch and slow loops are based, in one sentence."""
    kinds = {cell["chosen_on"] for cell in cells}
    if kinds == {"validation"}:
        return (
            "Curves, epochs to the target, the best epoch and AHSAR’s slow loop are based on a validation set. The "
            "test set was measured after training, at the last epoch and at the best one."
        )
    which = "" if kinds == {"test"} else " of the cells without a validation set"
    return (
        f"Chosen on the test set (data.validation: 0): curves, epochs to the target, the best epoch and AHSAR’s slow "
        f"loop{which} are based on the test set. Figures at the best epoch and epochs to the target are optimistic."
    )


def differs(pair: dict[str, Any]) -> str:
    """The settings in which a pair differs: 'neuron', or 'neuron, threshold (2, 0.5)'."""
    besides = [
        f"{key.rpartition('.')[2]} ({', '.join(map(_setting, values))})" for key, values in pair["differs"].items()
    ]
    section, _, key = pair["factor"].rpartition(".")
    return ", ".join([section if key == "name" else key, *besides])


def _setting(value: Any) -> str:
    if value is None:
        return "default"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def control(pair: dict[str, Any]) -> str:
    """The control's id, and from how many cells it was chosen on which set."""
    count, chosen_on = len(pair["chosen_from"]), {"validation": "in validation", "test": "on the test set"}
    return f"{pair['control']} (best of {count} {chosen_on[pair['chosen_on']]})" if count else pair["control"]


def verdict(pair: dict[str, Any], margin: float) -> str:
    """What a pair shows: 'better', 'worse', 'equal within 1 point', or 'not shown'."""
    test, mean = pair["test"], pair["metric_difference"]["mean"]
    if mean is None:
        return NONE
    if test["p_equivalence"] is not None and test["p_equivalence"] < LEVEL:
        return f"equal within {points(margin)}"
    if test["p_holm"] is not None and test["p_holm"] < LEVEL:
        return "better" if mean > 0 else "worse"
    return "not shown"


def verdicts(pairs: Sequence[dict[str, Any]], margin: float) -> list[str]:
    """What all pairs together show: a sentence for each factor, and one for choices of the best control."""
    tells = {
        "better": "better than its control",
        "worse": "worse than its control",
        f"equal within {points(margin)}": f"equal to its control within {points(margin)}",
        "not shown": "no difference shown",
    }
    groups: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        if pair["seeds"]:
            besides = " against the best fixed threshold" if pair["chosen_from"] else ""
            groups.setdefault(differs(pair | {"differs": {}}) + besides, []).append(pair)
    sentences = []
    for what, found in groups.items():
        by_verdict: dict[str, list[str]] = {}
        for pair in found:
            by_verdict.setdefault(verdict(pair, margin), []).append(pair["cell"])
        parts: list[str] = []
        for name in tells:
            if cells := by_verdict.get(name):
                of_all = "" if parts else f" of {len(found)} pair{'s' if len(found) > 1 else ''}"
                named = "" if name == "not shown" else f" ({shortened(dict.fromkeys(cells), SHOWN)})"
                parts.append(f"{tells[name]} in {len(cells)}{of_all}{named}")
        sentences.append(f"{what}: {'; '.join(parts)}.")
    return sentences


def points(fraction: float) -> str:
    """'1 point', '2.5 points'."""
    return f"{100 * fraction:g} point{'' if fraction == 0.01 else 's'}"


def iqm(method: dict[str, Any]) -> str:
    """'71.2 [70.4, 72.1]' in percent."""
    low, high = method["ci95"]
    return f"{100 * method['iqm']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def p_value(value: float | None) -> str:
    """'0.031', or '< 0.001'."""
    if value is None:
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def wins(pair: dict[str, Any]) -> str:
    """In how many seeds the cell wins, ties and loses: '3 / 0 / 0'."""
    return " / ".join(str(pair["wins"][name]) for name in ("win", "tie", "loss"))


def detectable(pairs: Sequence[dict[str, Any]]) -> str | None:
    """How small a difference these comparisons could have shown, in one sentence; None if nothing is known of it."""
    known = sorted(pair["test"]["detectable"] for pair in pairs if pair["test"]["detectable"] is not None)
    if not known:
        return None
    seeds = sorted({len(pair["seeds"]) for pair in pairs if pair["test"]["detectable"] is not None})
    span = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    each = "" if len(known) == 1 else f" in the median pair ({100 * known[0]:.1f} to {100 * known[-1]:.1f})"
    return (
        f"With {span} seeds and their spread, the least difference that a t-test at 5 % would have found four times "
        f"out of five is {100 * median(known):.1f} points{each}. “Not shown” is no statement that there is none."
    )


def score(cell: dict[str, Any], name: str | None = None, at_best: bool = False) -> str:
    """Mean over seeds of a metric on the test set in percent, with half the width of its 95 % interval: '95.5 ± 1.2'.

    Args:
        cell: an entry of `cells`.
        name: the metric; None for the one that the cell is judged by.
        at_best: at the best epoch instead of the last.
    """
    means, intervals = (cell[key]["best_metrics" if at_best else "metrics"] or {} for key in ("mean", "ci95"))
    name = name or cell["metric"]
    return with_interval(means.get(name), intervals.get(name), scale=100)


def named_score(cell: dict[str, Any], common: str | None) -> str:
    """The judged metric, with its name unless all cells have it in common."""
    shown = score(cell)
    return shown if common or shown == NONE else f"{shown} {metric(cell['metric'])}"


def with_interval(mean: float | None, interval: Sequence[float] | None, scale: float = 1.0, digits: int = 1) -> str:
    """'mean ± half width of the interval', or the mean alone."""
    if mean is None:
        return NONE
    text = f"{scale * mean:.{digits}f}"
    return text if interval is None else f"{text} ± {scale * (interval[1] - interval[0]) / 2:.{digits}f}"


def commands(summary: dict[str, Any]) -> list[tuple[str | None, list[tuple[dict[str, Any], str]]]]:
    """For each folder, None being that of the page, its cells and the command that trains each again."""
    manifest, cells = summary["manifest"], {cell["id"]: cell for cell in summary["cells"]}
    if not manifest["parts"]:
        return [(None, [(cell, command(cell, manifest["config"])) for cell in cells.values()])]
    return [
        (
            part["name"],
            [(cells[id], command(cells[id] | {"id": there}, part["config"])) for id, there in part["cells"].items()],
        )
        for part in manifest["parts"]
    ]


def command(cell: dict[str, Any], config: dict[str, Any]) -> str:
    """The command that trains a cell's first seed again, in the folder of the comparison.

    Args:
        cell: of a summary.
        config: of its manifest: a comparison's, or a run's.
    """
    words = ["config.yaml"]
    if (plan := config.get("compare")) is not None:
        axes = {key: cell["settings"].get(key, values[0]) for key, values in plan.get("grid", {}).items()}
        written = next((each for each in plan.get("cells", ()) if each["id"] == cell["id"]), axes)
        values: dict[str, Any] = written | {"seed": plan["seeds"][0]}
        words = ["comparison.yaml", *(f"{key}={json.dumps(value)}" for key, value in values.items() if key != "id")]
    return shlex.join(["step-ahsar", "train", *words, "--out", f"again/{cell['id']}"])


def epochs_to_target(cell: dict[str, Any], target: float | None) -> str:
    """The mean over seeds if all reached the target; else '> epochs', how many did not, and the median."""
    n, reached = cell["n"], cell["n_reached"]
    if not n or target is None:
        return NONE
    if reached == n:
        return f"{cell['mean']['epochs_to_target']:.1f}"
    missed = f"> {cell['epochs']}"
    if reached == 0:
        return missed
    median = cell.get("median_epochs_to_target")
    return f"{missed} ({n - reached} of {n})" + ("" if median is None else f", median {median:g}")


def beside_the_line(comparisons: Sequence[dict[str, Any]], line: str) -> list[tuple[str, ...]]:
    """Rows of cells beside their fixed thresholds: cell, thresholds, difference, p (Holm), what it shows.

    Args:
        comparisons: the pairs.
        line: equal_rate, equal_operations or equal_accuracy.
    """
    rows: list[tuple[str, ...]] = []
    for each in comparisons:
        found = each[line]
        if not found:
            continue
        tested, p = found["difference"], found["test"]["p_holm"]
        if tested["mean"] is None:
            shown = "every seed is beyond the ends of the line"
        else:
            shown = "not shown" if p is None or p >= LEVEL else "better" if tested["mean"] > 0 else "worse"
            if found["outside"]:
                shown += f"; {found['outside']} of {len(tested['values']) + found['outside']} seeds outside of the line"
        thresholds = ", ".join(each["chosen_from"])
        if len(thresholds) > _LONG:
            thresholds = f"{len(each['chosen_from'])} fixed thresholds"
        rows.append((each["cell"], thresholds, difference(tested), p_value(p), shown))
    return rows


def presets(cells: Sequence[dict[str, Any]]) -> list[str]:
    """The presets by which the energy of some of the cells was estimated."""
    return list(dict.fromkeys(preset for cell in cells for preset in cell["mean"]["energy"] or ()))


def activity(cell: dict[str, Any], groups: Sequence[str]) -> str:
    """Shares of silent and of always firing neurons, and spikes per synapse, by group: means over layers and seeds."""
    runs = [seed for seed in cell["seeds"] if seed["status"] == "ok" and seed["neurons"]]

    def means(column: str, key: str) -> dict[str, float]:
        found: dict[str, list[float]] = {}
        for run in runs:
            for layer in (run[column] or {}).values():
                found.setdefault(layer["group"], []).append(layer[key])
        return {group: fmean(found[group]) for group in groups if group in found}

    shares = {"silent": means("neurons", "dead"), "always firing": means("neurons", "saturated")}
    parts = [
        f"{what} " + ", ".join(f"{group} {100 * share:.1f} %" for group, share in found.items())
        for what, found in shares.items()
    ]
    if spikes := means("synapses", "spikes"):
        parts.append("spikes per synapse " + ", ".join(f"{group} {number:.2f}" for group, number in spikes.items()))
    return "; ".join(parts)


# Of each score of robustness the head of its column, and what is below it.
SCORES = {
    "corrupted": ("corrupted", "%"),
    "relative": ("relative", "% of clean"),
    "mce": ("mCE", "% of the reference"),
    "relative_mce": ("relative mCE", "% of the reference"),
    "ece": ("ECE", "clean, %"),
    "ece_corrupted": ("ECE", "corrupted, %"),
    "gain_thresholds": ("thresholds adapted", "gain, points"),
    "gain_norm": ("norms adapted", "gain, points"),
}


def scores(cells: Sequence[dict[str, Any]]) -> list[str]:
    """The scores of robustness that some of the cells have."""
    return [name for name in SCORES if any(name in (cell["mean"]["robustness"] or ()) for cell in cells)]


def robustness(
    cells: Sequence[dict[str, Any]], comparisons: Sequence[dict[str, Any]], manifest: dict[str, Any]
) -> list[str]:
    """What pairs show about robustness, and which conditions some models do not have."""
    ids = {cell["id"] for cell in cells}
    lines = []
    for score, what in (("corrupted", "Under corruption"), ("relative", "Relative to the clean test set")):
        found = [
            (each, each["robustness"][score])
            for each in comparisons
            if each["cell"] in ids and score in (each["robustness"] or ())
        ]
        if not found:
            continue
        shown = [
            f"{each['cell']} beside {each['control']} {signed(tested['difference']['mean'])} points"
            for each, tested in found
            if (p := tested["test"]["p_holm"]) is not None and p < LEVEL
        ]
        lines.append(f"{what}, in {len(found)} pairs: " + (f"{'; '.join(shown)}." if shown else "no difference shown."))
    if manifest["reference"] is not None:
        lines.append(f"Mean corruption errors are relative to {manifest['reference']}, seed by seed.")
    faults = {
        f"{name}: {row['error']}"
        for cell in cells
        for seed in cell["seeds"]
        for name, row in (seed["conditions"] or {}).items()
        if row["error"] is not None
    }
    return lines + sorted(faults)


def significant(value: float) -> str:
    """Three significant digits, without an exponent: '0.00826', '4.69', '1,230'."""
    digits = 3 - 1 - floor(log10(abs(value))) if value else 0
    return f"{round(value, digits):,.{max(0, digits)}f}"


def brief(value: Any) -> str:
    """A number with a fraction in three digits, anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def by_group(values: Mapping[str, float] | None, groups: Sequence[str], between: str = " / ") -> str:
    """'0.13 / 0.06 / 0.07' in the order of `groups`."""
    if not values:
        return NONE
    return between.join(_small(values[group]) if group in values else NONE for group in groups)


def _small(value: float) -> str:
    """Two decimals, or three for a small number that would otherwise be shown as 0.00."""
    if value >= 0.01 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def seeds(cell: dict[str, Any]) -> str:
    """The number of runs that ended well, that failed, and that have not ended."""
    others = [status for seed in cell["seeds"] if (status := seed["status"]) != "ok"]
    counts = [f"{others.count(status)} {status}" for status in ("failed", "unfinished") if status in others]
    return ", ".join([str(cell["n"]), *counts])


def ratio(epochs_ratio: dict[str, Any]) -> str:
    """'0.52 [0.41, 0.66]', or a bound: '≤ 0.40'."""
    if epochs_ratio["mean"] is None:
        return NONE
    text = f"{_BOUNDS[epochs_ratio['bound']]}{epochs_ratio['mean']:.2f}"
    interval = epochs_ratio["ci95"]
    return text + (f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "")


def ratios(epochs_ratio: dict[str, Any]) -> str:
    """The ratio of every seed."""
    pairs = zip(epochs_ratio["values"], epochs_ratio["bounds"], strict=True)
    return ", ".join(NONE if value is None else f"{_BOUNDS[bound]}{value:.2f}" for value, bound in pairs) or NONE


def difference(metric_difference: dict[str, Any]) -> str:
    """'+3.1 [−0.4, +6.6]' in percentage points."""
    if metric_difference["mean"] is None:
        return NONE
    interval = metric_difference["ci95"]
    text = signed(metric_difference["mean"])
    return text + (f" [{signed(interval[0])}, {signed(interval[1])}]" if interval else "")


def differences(metric_difference: dict[str, Any]) -> str:
    """The difference of every seed, in percentage points."""
    return ", ".join(map(signed, metric_difference["values"])) or NONE


def about_data(datasets: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was done to data sets: files that were left out, with the first faults, and series that were padded."""
    lines = []
    for data in datasets:
        if faults := data.get("skipped"):
            files = "1 file" if len(faults) == 1 else f"{len(faults)} files"
            lines.append(f"{files} of {data['name']} left out: {shortened(faults, SHOWN, '; ')}")
        if "padded_to" in data:
            lines.append(
                f"series of {data['name']}: the model pads length {data['length']} with zeros to {data['padded_to']}"
            )
    return list(dict.fromkeys(lines))


def failures(cells: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """(cell, seed, error) of every run that failed."""
    return [
        (cell["id"], seed["seed"], seed["error"])
        for cell in cells
        for seed in cell["seeds"]
        if seed["status"] == "failed"
    ]
