// Tables that can be sorted and filtered, buttons that copy, plots whose cells can be hidden and whose values can be
// read. Without scripts the page shows the same, unsorted.
"use strict";

// Lets an element be clicked, by the mouse and by Enter.
function clickable(element, title, action) {
  element.tabIndex = 0;
  element.title = title;
  element.addEventListener("click", action);
  element.addEventListener("keydown", (event) => event.key === "Enter" && action());
}

// A row of the class "group" is the heading of the rows below it, which are sorted among each other.
function groups(body) {
  const found = [];
  for (const row of body.rows) {
    if (row.classList.contains("group") || !found.length) found.push({ head: [], rows: [] });
    found.at(-1)[row.classList.contains("group") ? "head" : "rows"].push(row);
  }
  return found;
}

// The first number of a cell, so that "95.5 ± 1.2" and "−0.4 [−1, 0]" are sorted by their means; otherwise its text.
function value(row, column) {
  const text = row.cells[column].innerText.trim();
  const number = text.replaceAll("−", "-").match(/-?\d+(\.\d+)?/);
  return number && /^[^a-z]/i.test(text) ? Number(number[0]) : text;
}

function compare(a, b, descending) {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1; // "not reached" is below every number, both ways
  const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return descending ? -order : order;
}

function sort(table, header) {
  const column = header.cellIndex;
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const each of header.parentElement.cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  for (const { head, rows } of groups(body)) {
    rows.sort((a, b) => compare(value(a, column), value(b, column), descending));
    body.append(...head, ...rows);
  }
}

function filter(table, wanted) {
  const words = wanted.toLowerCase().split(/\s+/);
  for (const { head, rows } of groups(table.tBodies[0])) {
    for (const row of rows) row.hidden = !words.every((word) => row.innerText.toLowerCase().includes(word));
    for (const row of head) row.hidden = rows.every((each) => each.hidden);
  }
}

for (const table of document.querySelectorAll("table.tools")) {
  for (const header of table.tHead.rows[0].cells) {
    clickable(header, "sort", () => sort(table, header));
  }
  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "filter, such as ahsar 0.5";
  field.setAttribute("aria-label", "filter the rows of the table below");
  field.addEventListener("input", () => filter(table, field.value));
  table.parentElement.before(field);
}

for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = button.nextElementSibling.content.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch { // a page that was opened as a file may not write to the clipboard
      const area = document.body.appendChild(document.createElement("textarea"));
      area.value = text;
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.textContent;
    button.textContent = "copied";
    setTimeout(() => (button.textContent = label), 1500);
  });
}

// -- plots ----------------------------------------------------------------------------------------------------------

const hiddenCells = new Set();

// In all plots with a legend, as one cell has the same colour in all.
function toggle(cell) {
  if (!hiddenCells.delete(cell)) hiddenCells.add(cell);
  for (const legend of document.querySelectorAll(".legend")) {
    for (const label of legend.querySelectorAll("[data-hides]")) {
      label.setAttribute("aria-pressed", String(!hiddenCells.has(label.dataset.hides)));
    }
    for (const drawn of legend.parentElement.querySelectorAll("[data-cell]")) {
      drawn.style.display = hiddenCells.has(drawn.dataset.cell) ? "none" : "";
    }
  }
}

for (const label of document.querySelectorAll("[data-hides]")) {
  label.role = "button";
  label.setAttribute("aria-pressed", "true");
  clickable(label, "hide or show", () => toggle(label.dataset.hides));
}

const MOST = 12; // lines of a tip

// The values of all cells that are shown, at the epoch nearest to x, the best first; null outside of the panels.
function valuesAt({ panels, cells }, x) {
  const at = panels.findIndex((panel) => x >= panel.left && x <= panel.right);
  if (at < 0) return null;
  const { left, right, first, last, unit, best } = panels[at];
  const epoch = Math.round(first + ((x - left) / (right - left)) * (last - first));
  const rows = Object.entries(cells)
    .filter(([cell, values]) => !hiddenCells.has(cell) && values[at][epoch - 1] !== undefined)
    .map(([cell, values]) => ({ cell, value: values[at][epoch - 1] }))
    .sort((a, b) => (best === "high" ? b.value - a.value : a.value - b.value));
  if (!rows.length) return null;
  const lines = rows.slice(0, MOST).map(({ cell, value }) => `${value}${unit}  ${cell}`);
  if (rows.length > MOST) lines.push(`and ${rows.length - MOST} more`);
  return [`epoch ${epoch}`, ...lines].join("\n");
}

for (const svg of document.querySelectorAll("svg[data-values]")) {
  const values = JSON.parse(svg.dataset.values);
  const tip = document.body.appendChild(document.createElement("div"));
  tip.className = "tip";
  tip.hidden = true;
  svg.addEventListener("pointermove", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    const text = valuesAt(values, point.x);
    tip.hidden = text === null;
    tip.textContent = text;
    const beside = event.clientX + 14 + tip.offsetWidth < innerWidth ? event.clientX + 14 : event.clientX - 14 - tip.offsetWidth;
    tip.style.left = `${beside}px`;
    tip.style.top = `${Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 4)}px`;
  });
  svg.addEventListener("pointerleave", () => (tip.hidden = true));
}
