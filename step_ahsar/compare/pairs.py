"""Finding the pairs of cells that may be compared: they differ in the regulation and, at most, in their thresholds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from step_ahsar.config import Config

# Keys that make a cell regulated or plain.
_REGULATION = ("model.neuron", "model.base", "ahsar.")
# Keys that may differ as well, because plain neurons are compared at several thresholds. Each pair lists them.
_THRESHOLDS = ("model.threshold", "model.attn_threshold")


def differing_settings(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """For each config its values of the dotted keys in which the configs differ. Seeds are ignored."""
    flat = [_flat(config.model_dump(mode="json", exclude={"seed", "compare"})) for config in configs]
    keys = dict.fromkeys(key for each in flat for key in each)
    differing = [key for key in keys if any(each.get(key) != flat[0].get(key) for each in flat)]
    return [{key: each.get(key) for key in differing} for each in flat]


def pairs_of(cells: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """All pairs of a regulated cell and a plain control.

    The control has the neuron that the cell regulates. Its thresholds may differ, all other settings must be equal.

    Returns:
        For each pair: cell, control, and further differences as {key: (value of the cell, value of the control)}.
    """
    found = []
    for cell in cells:
        for control in cells:
            if not cell["regulated"] or control["regulated"] or control["neuron"] != cell["base"]:
                continue
            differs = _difference(cell["settings"], control["settings"])
            besides = {key: pair for key, pair in differs.items() if not key.startswith(_REGULATION)}
            if set(besides) <= set(_THRESHOLDS):
                found.append((cell, control, besides))
    return found


def _difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    keys = dict.fromkeys((*ours, *theirs))
    return {key: (ours.get(key), theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)}


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested values by dotted key. Lists and empty sections are values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = value
    return flat
