"""Finding the pairs of cells that may be compared: they differ in one factor, and in nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from step_ahsar.compare.statistics import mean
from step_ahsar.config import Config, flat
from step_ahsar.errors import UserError, shortened, unknown
from step_ahsar.neurons import neuron_kind

Cell = dict[str, Any]

NEURON = "model.neuron"
# Settings that belong to the factor `model.neuron`: they have no effect on plain neurons.
_REGULATION = ("model.base", "ahsar.")
# Cells that differ in one of these are no pair unless it is asked for: their metrics are of other data.
_INCOMPARABLE = ("task", "data.name", "data.root")
_THRESHOLDS = ("model.threshold", "model.attn_threshold")
_PENALTY = "train.rate_penalty."
_BUDGETS = tuple(_PENALTY + key for key in ("budget", "budget_ops", "band"))  # where all are none there is no penalty


@dataclass(frozen=True)
class Pair:
    """A cell and the control that it is compared with.

    Args:
        cell: an entry of `cells` of a summary.
        control: another one.
        factor: the dotted key in which they differ, or the section.
        chosen_from: the cells among which the control is to be the best in validation, ``control`` being one of them;
            empty if there was no choice.
        differs: settings besides the factor that differ, {key: (value of the cell, value of the control)}: thresholds
            and a penalty, if the control was chosen.
    """

    cell: Cell
    control: Cell
    factor: str
    chosen_from: Sequence[Cell] = ()
    differs: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def differing_settings(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """For each config its values of the dotted keys in which the configs differ. Seeds are ignored."""
    every = [flat(config.single().model_dump(mode="json", exclude={"seed", "energy"})) for config in configs]
    keys = dict.fromkeys(key for each in every for key in each)
    differing = [key for key in keys if any(each.get(key) != every[0].get(key) for each in every)]
    return [{key: each.get(key) for key in differing} for each in every]


def pairs_of(cells: Sequence[Cell], factors: Sequence[str] | None = None) -> list[Pair]:
    """The pairs of a comparison, factor by factor.

    Cells that differ in nothing but the factor are compared with one control: for a regulated cell that with the neuron
    that it regulates, otherwise the first plain one of them. A cell that is regulated, or whose firing rate is
    penalised, is also compared with the best of its controls at several thresholds, chosen in validation.

    Args:
        cells: entries of `cells` of a summary, whose `settings` are all in which they differ.
        factors: dotted keys, or sections such as ``ahsar.shares``, whose keys are one factor; None for every key in
            which cells differ, but for the task and the data set.
    """
    keys = list(dict.fromkeys(key for cell in cells for key in cell["settings"]))
    factors = [key for key in keys if key not in _INCOMPARABLE] if factors is None else factors
    pairs = []
    for factor in factors:
        others = [key for key in keys if not _is_of(key, factor)]
        rest = [key for key in others if not (factor == NEURON and key.startswith(_REGULATION))]
        for same in _alike(cells, rest):
            pairs += [Pair(cell, control, factor) for cell in same if (control := _control(cell, same, factor))]
    best = [pair for pair in _best_controls(cells, keys) if pair.factor in factors]
    chosen = {(pair.cell["id"], pair.control["id"]) for pair in best}  # told once, as the best
    pairs = [pair for pair in pairs if (pair.cell["id"], pair.control["id"]) not in chosen] + best
    # Cells of different tasks have no metric in common.
    return [pair for pair in pairs if len({pair.cell["metric"], pair.control["metric"]} - {None}) < 2]


def described(cells: Sequence[tuple[str, Config]]) -> list[Cell]:
    """What is known of cells before they are trained, as far as pairs are about it."""
    settings = differing_settings([config for _, config in cells])
    found = []
    for (name, config), setting in zip(cells, settings, strict=True):
        model = config.model
        kind = neuron_kind(model.neuron, model.backend, model.base)
        found.append({
            "id": name,
            "neuron": model.neuron,
            "regulated": kind.regulated,
            "base": kind.base if kind.regulated else None,
            "metric": None,
            "settings": setting,
            "seeds": [],
        })  # fmt: skip
    return found


def unpaired(cells: Sequence[Cell], pairs: Iterable[Pair]) -> list[str]:
    """The cells that are in no pair."""
    paired = {cell["id"] for pair in pairs for cell in (pair.cell, pair.control, *pair.chosen_from)}
    return [cell["id"] for cell in cells if cell["id"] not in paired]


def check_factors(cells: Sequence[Cell], factors: Sequence[str]) -> None:
    """Raises UserError for a factor in which no two cells differ, or in which none differ alone."""
    for factor in factors:
        having = [cell for cell in cells if _values(cell, factor)]
        if not having:
            raise unknown("factor in compare.pairs", factor, {key for cell in cells for key in cell["settings"]})
        if not pairs_of(cells, [factor]):
            first = having[0]
            other = next(cell for cell in having if _values(cell, factor) != _values(first, factor))
            besides = [key for key in first["settings"] if first["settings"][key] != other["settings"].get(key)]
            besides = [key for key in besides if not _is_of(key, factor)]
            raise UserError(
                f"compare.pairs: no two cells differ in {factor} alone: {first['id']!r} and {other['id']!r} also "
                f"differ in {shortened(besides)}"
            )


def _is_of(key: str, factor: str) -> bool:
    """Whether a dotted key is the factor, or in the section that is one."""
    return key == factor or key.startswith(f"{factor}.")


def _values(cell: Cell, factor: str) -> dict[str, Any]:
    """A cell's values of a factor, by key."""
    return {key: value for key, value in cell["settings"].items() if _is_of(key, factor)}


def _alike(cells: Sequence[Cell], keys: Sequence[str]) -> list[list[Cell]]:
    """Groups of cells that have the same values of the keys."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(repr([cell["settings"].get(key) for key in keys]), []).append(cell)
    return list(groups.values())


def _control(cell: Cell, same: Sequence[Cell], factor: str) -> Cell | None:
    """The control of a cell among cells that differ in one factor; None if it is the control itself."""
    plain = [each for each in same if not each["regulated"]]
    own = [each for each in plain if each["neuron"] == cell["base"]]
    control = (own or plain or list(same))[0]
    return control if _values(control, factor) != _values(cell, factor) else None


def _best_controls(cells: Sequence[Cell], keys: Sequence[str]) -> list[Pair]:
    """Every cell that is regulated or penalised, and the best of its controls at several thresholds."""
    pairs = []
    free = (NEURON, *_REGULATION, _PENALTY, *_THRESHOLDS)
    for same in _alike(cells, [key for key in keys if not key.startswith(free)]):
        plain = [cell for cell in same if not _steered(cell)]
        for cell in filter(_steered, same):
            factor = NEURON if cell["regulated"] else _penalties(cell)[0]
            candidates = [each for each in plain if each["neuron"] == (cell["base"] or cell["neuron"])]
            if len(candidates) > 1:
                best = max(candidates, key=_validated)
                pairs.append(Pair(cell, best, factor, candidates, _besides(cell, best, factor)))
    return pairs


def _steered(cell: Cell) -> bool:
    """Whether something keeps the firing rate: the neuron's thresholds, or a penalty that other cells do not have."""
    return cell["regulated"] or bool(_penalties(cell))


def _penalties(cell: Cell) -> list[str]:
    """The keys that give the cell a penalty which not all cells have."""
    return [key for key in _BUDGETS if cell["settings"].get(key) is not None]


def _validated(cell: Cell) -> float:
    """The mean over seeds of the judged metric in validation, after the last epoch."""
    known = [seed["epochs"][-1]["metrics"][cell["metric"]] for seed in cell["seeds"] if seed["status"] == "ok"]
    value = mean(known)
    return -1.0 if value is None else value  # behind every cell that has a result


def _besides(cell: Cell, control: Cell, factor: str) -> dict[str, tuple[Any, Any]]:
    """Thresholds, and a penalty that is not the factor, in which a cell differs from a control that was chosen."""
    ours, theirs = cell["settings"], control["settings"]
    keys = [key for key in (*_THRESHOLDS, *_BUDGETS) if key != factor]
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}
