#!/usr/bin/env python
"""Writes the table of neurons and backends into the documents that have a place for it, from the registry.

python scripts/neuron_table.py           # after a neuron was added
python scripts/neuron_table.py --check   # fails if a table is out of date
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from step_ahsar.neurons import SpikingNeuron, list_backends, list_neurons

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACE = re.compile(r"(<!-- neuron table -->\n).*?(<!-- /neuron table -->)", re.DOTALL)
MARKS = "¹²³⁴⁵⁶⁷⁸⁹"


def classes(of: type[SpikingNeuron] = SpikingNeuron) -> Iterator[type[SpikingNeuron]]:
    """Every class of neurons that is defined."""
    yield of
    for each in of.__subclasses__():
        yield from classes(each)


def table() -> str:
    """Markdown: a line for each neuron, and a column for each backend that names the class of the neuron there."""
    on = {backend: list_neurons(backend) for backend in list_backends()}
    backends = sorted(on, key=lambda backend: (-len(on[backend]), backend))
    by_name = {(c.name, c.backend): c for c in classes() if "backend" in vars(c)}
    names = [name for name in list_neurons() if name != "ahsar"]
    rows = [["neuron", "", *backends, "folds"], ["---", "---", *[":---:"] * (len(backends) + 1)]]
    notes: list[str] = []
    for name in names:
        here = {backend: by_name[name, backend] for backend in backends if name in on[backend]}
        first = next(iter(here.values()))
        what = re.split(r"[,:(.]", (first.__doc__ or "").replace(":func:", ""), maxsplit=1)[0].strip()
        cells = [_cell(here[backend], notes) if backend in here else "" for backend in backends]
        rows.append([f"`{name}`", what, *cells, "yes" if first.scales_with_input else ""])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"{mark} {note}.  " for mark, note in zip(MARKS, notes, strict=False))]) + "\n"


def _cell(neuron: type[SpikingNeuron], notes: list[str]) -> str:
    fixed = getattr(neuron, "fixed", {})
    cell = f"`{getattr(neuron, 'node_class', neuron.__name__)}`"
    if fixed:
        note = "Has only " + " and ".join(f"`{option}={value!r}`" for option, value in fixed.items())
        if note not in notes:
            notes.append(note)
        cell += MARKS[notes.index(note)]
    return cell


def stale() -> dict[Path, str]:
    """The documents whose table is out of date, and what they should be."""
    new = {document: PLACE.sub(rf"\g<1>{table()}\g<2>", document.read_text()) for document in DOCUMENTS}
    return {document: text for document, text in new.items() if text != document.read_text()}


def main() -> int:
    """1 if a table is out of date and was to be checked only, else 0."""
    check = "--check" in sys.argv
    out_of_date = stale()
    for document, text in out_of_date.items():
        print(f"{document.relative_to(ROOT)}: {'out of date' if check else 'written'}")
        if not check:
            document.write_text(text)
    return int(check and bool(out_of_date))


if __name__ == "__main__":
    sys.exit(main())
