"use strict";
// The table can be sorted by any column: its headers become buttons, which mouse and keyboard both press.
(() => {
  const table = document.getElementById("tensors");
  if (!table) return;
  const body = table.tBodies[0];
  const headers = [...table.tHead.rows[0].cells];
  const byName = new Intl.Collator(undefined, { numeric: true });

  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    return headers[column].classList.contains("n") ? parseFloat(text.replaceAll(",", "")) : text;
  };

  const compare = (a, b) => {
    if (typeof a === "string") return byName.compare(a, b);
    return a - b;
  };

  const sort = (column) => {
    const header = headers[column];
    const numeric = header.classList.contains("n");
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const order = header.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      // What has no number stands last either way.
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
      return sign * compare(a, b);
    });
    for (const other of headers) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", order);
    body.append(...rows.map(([, row]) => row));
  };

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(column));
    header.append(button);
  });
})();
