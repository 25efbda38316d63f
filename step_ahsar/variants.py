"""The variants of all models, as zoos describe them: known without torch and timm, whose import takes seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from step_ahsar.paths import zoo_dir
from step_ahsar.plugins import load_plugins


@dataclass(frozen=True)
class Variant:
    """A variant of a family of models.

    Args:
        family: folder of the zoo.
        arguments: arguments of the constructor of the family's class.
        stride: pixels of the input for each of the last level.
        cfg: what timm's record says of it besides.
    """

    family: str
    arguments: Mapping[str, Any]
    stride: int
    cfg: Mapping[str, Any]

    @property
    def is_series(self) -> bool:
        """Whether its input is a series and not an image."""
        return self.arguments.get("ndim") == 1

    @property
    def input_size(self) -> tuple[int, int, int]:
        """The default input (C, H, W); a series of length L is recorded as (C, 1, L)."""
        size = self.arguments["img_size"]
        return self.arguments["in_chans"], 1 if self.is_series else size, size


_added: dict[str, Variant] = {}


def add_family(family: str, zoo: Path) -> dict[str, Variant]:
    """Reads the variants in ``<zoo>/<family>/variants.yaml``. Returns them by name."""
    stored = yaml.safe_load((zoo / family / "variants.yaml").read_text(encoding="utf-8"))
    found = {}
    for name, variant in stored["variants"].items():
        form = stored["forms"][variant["form"]]
        arguments, cfg = {**form["args"], **variant["args"]}, {**stored["source"], **form["cfg"]}
        found[name] = Variant(family, arguments, variant.get("stride", form["stride"]), cfg)
    _added.update(found)
    return found


def list_variants() -> dict[str, Variant]:
    """All variants by name: of this package's zoo, and of those whose families other packages have registered."""
    load_plugins()
    read = {variant.family for variant in _added.values()}
    for path in zoo_dir().glob("*/variants.yaml"):
        if path.parent.name not in read:
            add_family(path.parent.name, zoo_dir())
    return dict(sorted(_added.items()))
