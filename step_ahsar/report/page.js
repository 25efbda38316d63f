// Tables that can be sorted and filtered, and buttons that copy. Without scripts the page shows the same, unsorted.
"use strict";

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

function compare(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return typeof a === "number" ? -1 : 1; // numbers before texts
}

function sort(table, header) {
  const column = header.cellIndex;
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const each of header.parentElement.cells) each.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.tBodies[0];
  for (const { head, rows } of groups(body)) {
    rows.sort((a, b) => compare(value(a, column), value(b, column)) * (descending ? -1 : 1));
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
    header.tabIndex = 0;
    header.title = "sort";
    header.addEventListener("click", () => sort(table, header));
    header.addEventListener("keydown", (event) => event.key === "Enter" && sort(table, header));
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
