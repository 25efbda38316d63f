"""Joining the summaries of several folders into one, as if their cells had been trained in one comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from step_ahsar.compare.collecting import merged
from step_ahsar.compare.pairs import differing_settings
from step_ahsar.compare.summary import summarise
from step_ahsar.config import Config, DataConfig
from step_ahsar.config.schema import build_config
from step_ahsar.errors import UserError

Summary = dict[str, Any]

_OVER_SEEDS = ("n", "n_reached", "median_epochs_to_target", "mean", "ci95")  # what `summarise` adds to a cell
_WHERE = {"root", "cache", "workers"}  # settings of data that say where and how they are read, not what they are


def join(parts: Mapping[str, Summary], title: str) -> Summary:
    """One summary of several, with pairs across them.

    Cells with the same config are one cell with the seeds of all parts. A seed that several parts have is taken from
    the first part in which it ended well. Different cells with the same id get the name of their part before it. Data
    with the same content are the same data, wherever each part has read them.

    If the parts have different data, the settings that are the same for all cells of a part, such as the number of
    epochs, belong to its data when methods are ranked across data sets.

    Args:
        parts: summaries in the format of docs/summary.md, by names of their own such as those of their folders.
        title: the title of the whole.

    Raises:
        UserError: the parts have different margins, or their data have changed in between, or the config of one is not
            one of this version.
    """
    margins = {name: part["manifest"]["margin"] for name, part in parts.items()}
    if len(set(margins.values())) > 1:
        listed = ", ".join(f"{name}: {margin:g}" for name, margin in margins.items())
        raise UserError(
            f"the comparisons have different margins of equivalence ({listed}); repeat the command `compare` of one "
            "with another compare.margin, which trains nothing again"
        )
    targets = {part["manifest"]["target"] for part in parts.values()}
    target = targets.pop() if len(targets) == 1 else None
    data = _Data()
    cells: list[_Cell] = []
    for name, part in parts.items():
        for entry, config in zip(part["cells"], _configs(name, part), strict=True):
            config = data.located(config, name, part["manifest"]["datasets"])
            cell = next((cell for cell in cells if cell.config == config), None)
            if cell is None:
                cells.append(cell := _Cell(entry["id"], name, config, entry))
            cell.add(entry, part["manifest"]["seeds"])
    ids = [cell.id for cell in cells]
    for cell in cells:
        if ids.count(cell.id) > 1:
            cell.id = f"{cell.part}/{cell.id}"
    settings = differing_settings([cell.config for cell in cells])
    entries = [cell.joined(own, target) for cell, own in zip(cells, settings, strict=True)]
    return summarise(_manifest(title, target, parts, cells, settings), entries)


@dataclass
class _Cell:
    """A cell of the joined summary, and what the parts know about it."""

    id: str
    part: str  # the first one
    config: Config
    entry: dict[str, Any]
    seeds: dict[int, dict[str, Any]] = field(default_factory=dict)
    planned: dict[int, None] = field(default_factory=dict)

    def add(self, entry: dict[str, Any], planned: list[int]) -> None:
        """Adds the seeds of a part's entry."""
        self.planned |= dict.fromkeys(planned)
        if self.entry["metric"] is None:  # the first part had not begun it
            self.entry = entry | {"id": self.entry["id"]}
        for seed in entry["seeds"]:
            if seed["seed"] not in self.seeds or (seed["status"] == "ok" != self.seeds[seed["seed"]]["status"]):
                self.seeds[seed["seed"]] = seed

    def joined(self, settings: dict[str, Any], target: float | None) -> dict[str, Any]:
        """The entry for :func:`summarise`."""
        own = {key: value for key, value in self.entry.items() if key not in _OVER_SEEDS}
        seeds = [self.seeds[seed] for seed in self.planned if seed in self.seeds]
        if target is None:
            seeds = [seed | {"epochs_to_target": None} for seed in seeds]
        return own | {"id": self.id, "settings": settings, "seeds": seeds}


class _Data:
    """The data of the parts that were seen so far."""

    def __init__(self) -> None:
        self._known: list[tuple[DataConfig, str, set[tuple[Any, Any]]]] = []

    def located(self, config: Config, part: str, records: list[dict[str, Any]]) -> Config:
        """The config with the place of its data where an earlier part has read the same.

        Raises:
            UserError: an earlier part has read other data from the same place.
        """
        data = config.data
        prints = {(d.get("fingerprint_version"), d["fingerprint"]) for d in records if d["name"] == data.name}
        for earlier, where, theirs in self._known:
            if earlier.model_dump(exclude=_WHERE) != data.model_dump(exclude=_WHERE):
                continue
            comparable = {version for version, _ in prints} & {version for version, _ in theirs}
            if prints & theirs or (not comparable and earlier.root == data.root):
                return config.model_copy(update={"data": earlier})
            if comparable and earlier.root == data.root:
                raise UserError(
                    f"{where} and {part} were trained on different data: {data.name} has another content in each, so "
                    "their cells cannot be compared"
                )
        self._known.append((data, part, prints))
        return config


def _configs(name: str, part: Summary) -> list[Config]:
    """The config of each cell of a part, without its seed."""
    if part["manifest"]["parts"]:
        folders = ", ".join(each["name"] for each in part["manifest"]["parts"])
        raise UserError(f"{name} is itself joined from {folders}; name these folders in its place")
    try:
        config = build_config(part["manifest"]["config"])
    except UserError as error:
        raise UserError(f"{name}: its config is not one of this version: {error}") from None
    found = [config.single()] if config.compare is None else [cell for _, cell in config.cells()]
    return [cell.model_copy(update={"seed": 0}) for cell in found]


def _manifest(
    title: str,
    target: float | None,
    parts: Mapping[str, Summary],
    cells: list[_Cell],
    settings: list[dict[str, Any]],
) -> dict[str, Any]:
    manifests = [part["manifest"] for part in parts.values()]
    named = [manifest["pairs"] for manifest in manifests]
    datasets = [data for manifest in manifests for data in manifest["datasets"]]
    return {
        "title": title,
        "target": target,
        "margin": manifests[0]["margin"],
        "pairs": None if None in named else list(dict.fromkeys(factor for factors in named for factor in factors)),
        "places": _places(manifests, cells, settings),
        "seeds": list(dict.fromkeys(seed for cell in cells for seed in cell.planned)),
        "runs": sum(len(cell.planned) for cell in cells),
        "runs_done": sum(seed["status"] != "unfinished" for cell in cells for seed in cell.seeds.values()),
        "started": min(manifest["started"] for manifest in manifests),
        "updated": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": merged([manifest["versions"] for manifest in manifests]),
        "hardware": merged([manifest["hardware"] for manifest in manifests]),
        "git_commit": merged([{"": manifest["git_commit"]} for manifest in manifests])[""],
        "datasets": list({repr(data): data for data in datasets}.values()),
        "config": {},
        "reference": next(
            (
                cell.id
                for name, part in parts.items()
                for cell in cells
                if (cell.part, cell.entry["id"]) == (name, part["manifest"]["reference"])
            ),
            None,
        ),
        "parts": [
            {
                "name": name,
                "config": part["manifest"]["config"],
                "cells": {cell.id: cell.entry["id"] for cell in cells if cell.part == name},
            }
            for name, part in parts.items()
        ],
    }


def _places(manifests: list[dict[str, Any]], cells: list[_Cell], settings: list[dict[str, Any]]) -> list[str]:
    """The keys that tell data sets from methods: those of the parts, and what the data of each part were given."""
    places = dict.fromkeys(place for manifest in manifests for place in manifest["places"])
    of_part: dict[str, list[_Cell]] = {}
    for cell in cells:
        of_part.setdefault(cell.part, []).append(cell)
    data = [{(cell.config.task, cell.config.data.name) for cell in part} for part in of_part.values()]
    if sum(map(len, data)) == len(set().union(*data)):  # no two parts have data in common
        own = [differing_settings([cell.config for cell in part]) for part in of_part.values()]
        differing = {key for part in own for each in part for key in each}
        places |= dict.fromkeys(key for each in settings for key in each if key not in differing)
    return list(places)
