"use strict";
const LONG = 8; // rows from which on a table is worth a filter

function make(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function valueOf(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
}

function sort(table, column, heads) {
  const down = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
  const body = table.tBodies[0];
  const order = new Intl.Collator(undefined, { numeric: true });
  const rows = [...body.rows].map((row) => [valueOf(row, column), row]);
  rows.sort(([a], [b]) => {
    if (typeof a !== "number" || typeof b !== "number") return order.compare(a, b);
    return a === b ? 0 : a < b ? -1 : 1; // infinite values are none that can be subtracted
  });
  if (down) rows.reverse();
  body.append(...rows.map(([, row]) => row));
}

function filter(table, words, status) {
  const rows = [...table.tBodies[0].rows];
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  status.textContent = wanted.length ? `${shown} of ${rows.length}` : "";
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  if (table.tBodies[0].rows.length < 2) continue;
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    button.addEventListener("click", () => sort(table, column, heads));
    head.append(button);
  });
  if (table.tBodies[0].rows.length < LONG) continue;
  const status = make("span", { role: "status" });
  const input = make("input", { type: "search", placeholder: "Filter" });
  const caption = table.caption.firstChild.textContent.trim();
  input.setAttribute("aria-label", `Filter: ${caption}`);
  input.addEventListener("input", () => filter(table, input.value, status));
  table.parentElement.before(make("div", { className: "filter" }, input, status));
}

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const theme = make("button", { type: "button", className: "theme" });
function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
}
function name() {
  theme.textContent = isDark() ? "Light" : "Dark";
  theme.setAttribute("aria-label", `${theme.textContent} colours`);
}
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  name();
});
system.addEventListener("change", name);
name();
document.querySelector("header div").append(theme);

// What is folded away is printed too.
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((each) => { each.open = true; });
});
addEventListener("afterprint", () => {
  closed.forEach((each) => { each.open = false; });
});
