#!/usr/bin/env python
"""Writes the table of model families into docs/models.md, from the zoo's data.

python scripts/model_table.py           # after a model was added
"""

import json
import re
from pathlib import Path

import yaml

from step_ahsar.models import list_models
from step_ahsar.paths import zoo_dir

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
PLACE = re.compile(r"(<!-- model table -->\n).*?(<!-- /model table -->)", re.DOTALL)


def table() -> str:
    """Markdown: a line for each family, with its models, their parameters, and the reference for its logits."""
    rows = [["family", "models (millions of parameters)", "small, for CPUs", "reference for logits"], ["---"] * 4]
    for path in sorted(zoo_dir().glob("*/variants.yaml")):
        family = path.parent.name
        zoo = yaml.safe_load(path.read_text(encoding="utf-8"))
        golden = json.loads((path.parent / "golden.json").read_text(encoding="utf-8"))
        names = [name for name in zoo["variants"] if name in list_models(family)]
        large = [f"`{name}` ({golden[name]['parameters'] / 1e6:.2f})" for name in names if not name.endswith("_64")]
        small = [f"`{name}`" for name in names if name.endswith("_64")]
        card = f"[{zoo['source']['paper_name']}](../zoo/{family}/CARD.md)"
        rows.append([card, ", ".join(large), ", ".join(small), zoo["logits"]])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def fresh() -> str:
    """The document as it should be."""
    return PLACE.sub(rf"\g<1>{table()}\g<2>", DOCUMENT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    DOCUMENT.write_text(fresh(), encoding="utf-8")
