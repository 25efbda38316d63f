"""The page in a real browser: tables are sorted and filtered by clicks, and nothing goes wrong."""

import copy
import html
import json
import re
import shutil
import subprocess

import pytest

from step_ahsar.report import render
from step_ahsar.report.formats import as_latex, as_markdown
from tests.unit.report.conftest import rendered

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium"),
    pytest.mark.xdist_group("page"),
]

# Runs in the page after its own script, and leaves what it finds as JSON in an element of its own.
PROBE = """
<script>
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
const visible = (table) => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const shown = (table) => visible(table).map((row) => row.cells[0].innerText.trim());
const report = (found) => {
  const pre = document.body.appendChild(document.createElement("pre"));
  pre.id = "found";
  pre.textContent = JSON.stringify({ ...found, errors });
};
ACTIONS
</script>
"""


def act(page, actions, tmp_path):
    """What `report` was given by the actions."""
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", PROBE.replace("ACTIONS", actions) + "</body>"), encoding="utf-8")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=1000",
        "--dump-dom",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = json.loads(html.unescape(re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)[1]))
    assert found.pop("errors") == []
    return found


def test_clicks_sort_within_models(summary, tmp_path):
    actions = """
    const table = document.querySelector("table.tools");
    const header = table.tHead.rows[0].cells[2];
    const before = shown(table);
    header.click();
    const up = shown(table), state = header.getAttribute("aria-sort");
    header.click();
    report({ before, up, state, down: shown(table), after: header.getAttribute("aria-sort") });
    """
    found = act(rendered(summary), actions, tmp_path)
    # Values that look the same keep their order.
    order = {cell["id"]: round(100 * cell["mean"]["metrics"]["acc1"], 1) for cell in summary["cells"]}
    spikformer, qkformer = (sorted((i for i in order if i.startswith(m)), key=order.get) for m in ("spik", "qk"))
    first, second = (name for name in found["before"] if name not in order)
    assert (found["state"], found["after"]) == ("ascending", "descending")
    assert found["up"] == [first, *spikformer, second, *qkformer]
    down = (sorted(each, key=order.get, reverse=True) for each in (spikformer, qkformer))
    assert found["down"] == [first, *next(down), second, *next(down)]


def test_texts_are_below_numbers_both_ways(summary, tmp_path):
    actions = """
    const table = document.querySelector("table.tools");
    const header = table.tHead.rows[0].cells[2];
    const rows = [...table.tBodies[0].rows].filter((row) => !row.classList.contains("group")).slice(0, 3);
    ["not reached", "3.0", "12.0"].forEach((text, i) => rows[i].cells[2].innerText = text);
    for (const row of [...table.tBodies[0].rows]) if (!rows.includes(row)) row.remove();
    const texts = () => { header.click(); return [...table.tBodies[0].rows].map((row) => row.cells[2].innerText); };
    report({ up: texts(), down: texts() });
    """
    found = act(rendered(summary), actions, tmp_path)
    assert found == {"up": ["3.0", "12.0", "not reached"], "down": ["12.0", "3.0", "not reached"]}


def test_a_filter_hides_rows_and_empty_groups(summary, tmp_path):
    actions = """
    const table = document.querySelector("table.tools");
    const field = document.querySelector("input[type=search]");
    const by = (text) => { field.value = text; field.dispatchEvent(new Event("input")); return shown(table); };
    report({ ahsar: by("AHSAR-2 spik"), none: by("nothing"), all: by("") });
    """
    found = act(rendered(summary), actions, tmp_path)
    assert found["ahsar"][1:] == ["spikformer-ahsar-2"]
    assert found["none"] == []
    assert len(found["all"]) == len(summary["cells"]) + 2


def test_buttons_copy_the_tables(summary, tmp_path):
    actions = """
    const copied = [];
    Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => copied.push(text) } });
    const buttons = [...document.querySelectorAll("section > button.copy")];
    for (const button of buttons) button.click();
    const hidden = buttons.some((button) => button.hidden);
    setTimeout(() => report({ copied, hidden, labels: buttons.map((button) => button.textContent) }), 50);
    """
    found = act(rendered(summary), actions, tmp_path)
    assert found == {"copied": [as_markdown(summary), as_latex(summary)], "labels": ["copied"] * 2, "hidden": False}


def test_cells_are_hidden_in_every_plot_with_a_legend(summary, tmp_path):
    actions = """
    const cell = "spikformer-ahsar-2";
    const drawn = () => [...document.querySelectorAll(`figure:has(.legend) [data-cell="${cell}"]`)];
    const others = () => [...document.querySelectorAll("[data-cell]")].filter((each) => each.style.display === "none");
    const labels = [...document.querySelectorAll(`[data-hides="${cell}"]`)];
    const states = () => labels.map((label) => label.getAttribute("aria-pressed"));
    const number = drawn().length;
    labels[0].click();
    const off = drawn().every((each) => each.style.display === "none") && others().length === number;
    const pressed = states();
    labels[1].dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
    report({ number, off, pressed, on: others().length, again: states() });
    """
    found = act(rendered(summary), actions, tmp_path)
    assert found["number"] > 4  # two curves with their shades, and a point for each group
    assert found["off"]
    assert found["on"] == 0
    assert set(found["pressed"]) == {"false"}
    assert set(found["again"]) == {"true"}


def test_the_pointer_shows_the_values_of_an_epoch(summary, tmp_path):
    """The best first, without cells that are hidden."""
    actions = """
    const svg = document.querySelector("svg[data-values]"), tip = document.querySelector(".tip");
    const at = (panel, epoch) => {
      const { left, right, first, last, top, bottom } = JSON.parse(svg.dataset.values).panels[panel];
      const x = left + (epoch - first) / (last - first) * (right - left);
      const { x: clientX, y: clientY } = new DOMPoint(x, (top + bottom) / 2).matrixTransform(svg.getScreenCTM());
      svg.dispatchEvent(new PointerEvent("pointermove", { clientX, clientY }));
      return tip.hidden ? null : tip.textContent.split("\\n");
    };
    const metric = at(0, 2.3), loss = at(1, 1);
    document.querySelector(`[data-hides="${metric[1].split("  ")[1]}"]`).click();
    const fewer = at(0, 2);
    svg.dispatchEvent(new PointerEvent("pointerleave"));
    report({ metric, loss, fewer, gone: tip.hidden });
    """
    found = act(rendered(summary), actions, tmp_path)
    first = summary["cells"][0]
    same = [
        cell for cell in summary["cells"] if cell["model"] == first["model"] and cell["dataset"] == first["dataset"]
    ]

    def mean(cell, epoch, value):
        rows = [value(seed["epochs"][epoch - 1]) for seed in cell["seeds"] if seed["status"] == "ok"]
        return float(f"{sum(rows) / len(rows):.4g}")

    acc = sorted(-mean(cell, 2, lambda row: 100 * row["metrics"]["acc1"]) for cell in same)
    losses = sorted(mean(cell, 1, lambda row: row["train_loss"]) for cell in same)
    assert found["metric"][0] == "epoch 2"
    assert [-float(line.split(" %")[0]) for line in found["metric"][1:13]] == acc[:12]
    assert found["loss"][0] == "epoch 1"
    assert [float(line.split("  ")[0]) for line in found["loss"][1:13]] == losses[:12]
    assert found["fewer"][1:] == found["metric"][2:]
    assert found["gone"]


@pytest.mark.parametrize("state", ["failed_summary", "begun_summary", "single_summary", "ranked_summary"])
def test_no_state_of_a_comparison_breaks_the_script(state, request, tmp_path):
    page = rendered(request.getfixturevalue(state))
    actions = """
    for (const header of document.querySelectorAll("table.tools th")) { header.click(); header.click(); }
    report({ tables: document.querySelectorAll("table.tools").length });
    """
    assert act(page, actions, tmp_path)["tables"] == page.count('class="tools"')


@pytest.mark.parametrize("width", [390, 1260])
def test_the_page_is_no_wider_than_the_screen(width, summary, tmp_path):
    """Fault: names of cells of a grid, which have no spaces, made the page of a phone half as wide again."""
    named = copy.deepcopy(summary)
    for cell in named["cells"]:
        cell["id"] = f"{cell['id']}-{'digits_events-spikformer_dvs_2_64-threshold0.25-band0.2x0.4'}"
    for pair in named["comparisons"]:
        pair |= {
            key: f"{pair[key]}-{'digits_events-spikformer_dvs_2_64-threshold0.25-band0.2x0.4'}"
            for key in ("cell", "control")
        }
    frame = (
        f'<iframe id="screen" style="width: {width}px; height: 800px" srcdoc="{html.escape(render(named))}"></iframe>'
    )
    actions = """
    const screen = document.getElementById("screen");
    screen.addEventListener("load", () => {
      const root = screen.contentDocument.documentElement;
      const outside = (each) => each.getBoundingClientRect().right > root.clientWidth + 1;
      const free = [...screen.contentDocument.querySelectorAll("*")].filter((each) => !each.closest(".scroll, svg"));
      const wide = free.filter(outside).map((each) => each.outerHTML.slice(0, 200));
      report({ client: root.clientWidth, scroll: root.scrollWidth, wide });
    });
    """
    found = act(f"<html><body>{frame}</body></html>", actions, tmp_path)
    assert found["wide"] == []
    assert found["scroll"] <= found["client"]
