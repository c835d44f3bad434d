"use strict";
// Without this script the page says the same; with it, tables sort and filter, and plots tell their figures.

for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0];
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.key ? Number(cell.dataset.key) : cell.textContent.trim();
  };
  // Both ways, what shows no number comes after the numbers.
  const compare = (a, b, sign) =>
    typeof a === "number" && typeof b === "number" ? sign * (a - b)
    : typeof a === "number" ? -1
    : typeof b === "number" ? 1
    : sign * a.localeCompare(b, "en", { numeric: true });
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      body.append(...[...body.rows].sort((a, b) => compare(keyOf(a, column), keyOf(b, column), sign)));
    });
  });
}

for (const input of document.querySelectorAll("[data-filter]")) {
  const rows = input.closest(".table").querySelectorAll("tbody tr");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
  });
}

for (const group of document.querySelectorAll(".choose")) {
  group.hidden = false;
  group.addEventListener("click", (event) => {
    const chosen = event.target.closest("button");
    if (!chosen) return;
    for (const button of group.children) button.setAttribute("aria-pressed", String(button === chosen));
    for (const picture of document.querySelectorAll(".pictures > li")) {
      picture.hidden = chosen.dataset.show !== "" && picture.dataset.right !== chosen.dataset.show;
    }
  });
}

const tip = document.getElementById("tip");
document.addEventListener("pointermove", (event) => {
  const about = event.target.closest ? event.target.closest("[data-tip]") : null;
  tip.hidden = about === null;
  if (about === null) return;
  tip.textContent = about.dataset.tip;
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 12, window.innerWidth - box.width - 8);
  const above = event.clientY - box.height - 12;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 4 ? above : event.clientY + 16}px`;
});

let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const one of opened) one.open = true;
});
window.addEventListener("afterprint", () => {
  for (const one of opened) one.open = false;
});
