#!/usr/bin/env python
"""Writes the tables of the summaries in results/ into docs/results.md, and those of results/bench into docs/speed.md.

python scripts/results_table.py    # after a summary in results/ has changed

For the table of any other comparison: step-ahsar report DIR --format md
"""

import json
import re
from pathlib import Path

from step_ahsar.compare import load
from step_ahsar.report import bench
from step_ahsar.report.formats import as_markdown

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "results.md"
SPEED = ROOT / "docs" / "speed.md"
PLACE = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- /results -->)", re.DOTALL)


def fresh() -> str:
    """The document as it should be."""
    return PLACE.sub(
        lambda place: f"{place[1]}{as_markdown(load(ROOT / 'results' / place[2]))}\n{place[3]}", DOCUMENT.read_text()
    )


def fresh_speed() -> str:
    """The page on speed as it should be."""
    found = json.loads((ROOT / "results" / "bench" / "bench.json").read_text())
    table = f"<!-- bench -->\n{bench.as_markdown(found)}<!-- /bench -->"
    return re.sub(r"<!-- bench -->\n.*?<!-- /bench -->", lambda _: table, SPEED.read_text(), flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(fresh())
    SPEED.write_text(fresh_speed())
