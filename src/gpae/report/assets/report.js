"use strict";

// Tables: a heading's button sorts, the field above filters. #sort=TABLE.COLUMN.descending&filter=WORDS does it on opening.
const number = (text) => {
  const found = text.replace(/,/g, "").match(/^\s*-?\d+(\.\d+)?(e[+-]?\d+)?/i);
  return found ? parseFloat(found[0]) : null;
};

function sort(table, column, direction) {
  const body = table.tBodies[0];
  const value = (row) => row.cells[column].textContent.trim();
  const sign = direction === "descending" ? -1 : 1;
  const rows = [...body.rows].map((row, place) => ({ row, place, text: value(row), number: number(value(row)) }));
  const numbers = rows.some((r) => r.number !== null) && rows.every((r) => r.number !== null || !/^[\d-]/.test(r.text));
  rows.sort((a, b) => {
    // What has no number comes last either way.
    if (numbers && (a.number === null || b.number === null))
      return (a.number === null) - (b.number === null) || a.place - b.place;
    const order = numbers ? a.number - b.number : a.text.localeCompare(b.text);
    return sign * order || a.place - b.place;
  });
  rows.forEach((r) => body.append(r.row));
  [...table.tHead.rows[0].cells].forEach((cell, i) =>
    i === column ? cell.setAttribute("aria-sort", direction) : cell.removeAttribute("aria-sort"),
  );
}

function filter(table, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every((word) => text.includes(word));
  }
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((cell, column) =>
    cell.querySelector("button").addEventListener("click", () =>
      sort(table, column, cell.getAttribute("aria-sort") === "descending" ? "ascending" : "descending"),
    ),
  );
}
for (const field of document.querySelectorAll("input[data-table]"))
  field.addEventListener("input", () => filter(document.getElementById(field.dataset.table), field.value));

// Plots: the values at the place under the pointer, or at the one that the arrow keys choose.
for (const plot of document.querySelectorAll(".plot[data-series]")) {
  const { xs, left, right, width, series, name } = JSON.parse(plot.dataset.series);
  const svg = plot.querySelector("svg"), cursor = plot.querySelector(".cursor"), tip = plot.querySelector(".tip");
  const places = [...new Set(series.flatMap((s) => s.x))].sort((a, b) => a - b);
  const span = xs[1] - xs[0] || 1;
  let at = -1;
  const show = (place) => {
    at = Math.max(0, Math.min(places.length - 1, place));
    const x = places[at];
    const pixel = left + ((x - xs[0]) / span) * (right - left);
    cursor.setAttribute("x1", pixel);
    cursor.setAttribute("x2", pixel);
    cursor.style.visibility = tip.style.visibility = "visible";
    tip.replaceChildren();
    const head = document.createElement("strong");
    head.textContent = `${name}: ${series.find((s) => s.x.includes(x)).shown[series.find((s) => s.x.includes(x)).x.indexOf(x)]}`;
    tip.append(head);
    for (const one of series) {
      const i = one.x.indexOf(x);
      if (i < 0 || plot.querySelector(`[data-of="${one.id}"]`).style.display === "none") continue;
      const line = document.createElement("div");
      line.textContent = `${one.method}: ${one.values[i]}`;
      tip.append(line);
    }
    const share = pixel / width;
    tip.style.left = share < 0.5 ? `${100 * share + 2}%` : "auto";
    tip.style.right = share < 0.5 ? "auto" : `${100 * (1 - share) + 2}%`;
  };
  const hide = () => (cursor.style.visibility = tip.style.visibility = "hidden");
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const pixel = ((event.clientX - box.left) / box.width) * width;
    const x = xs[0] + ((pixel - left) / (right - left)) * span;
    show(places.reduce((best, p, i) => (Math.abs(p - x) < Math.abs(places[best] - x) ? i : best), 0));
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("focus", () => svg.matches(":focus-visible") && show(at < 0 ? places.length - 1 : at));
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -places.length, End: places.length };
    if (event.key === "Escape") hide();
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(at + steps[event.key]);
    tip.setAttribute("role", "status");
  });
}
for (const button of document.querySelectorAll(".legend button"))
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!shown));
    const part = button.closest("figure").querySelector(`[data-of="${button.dataset.shows}"]`);
    part.style.display = shown ? "none" : "";
  });

if (matchMedia("(prefers-reduced-motion: reduce)").matches)
  document.querySelectorAll("details.replay").forEach((film) => (film.open = false));

const asked = new URLSearchParams(location.hash.slice(1));
if (asked.has("sort")) {
  const [table, column, direction] = asked.get("sort").split(".");
  const found = document.getElementById(table);
  if (found) sort(found, Number(column), direction === "descending" ? "descending" : "ascending");
}
if (asked.has("filter"))
  for (const field of document.querySelectorAll("input[data-table]")) {
    field.value = asked.get("filter");
    field.dispatchEvent(new Event("input"));
  }
