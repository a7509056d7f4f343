// Tables that are sorted by a button in each header; with the keyboard as with a pointer.

function orderOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.order === undefined ? cell.textContent : Number(cell.dataset.order);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b || 0 : String(a).localeCompare(String(b), "en", {numeric: true});
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({row, place, value: orderOf(row, column)}));
  const sign = direction === "ascending" ? 1 : -1;
  rows.sort((a, b) => sign * compare(a.value, b.value) || a.place - b.place);
  body.append(...rows.map(item => item.row));
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    if (place === column) head.setAttribute("aria-sort", direction); else head.removeAttribute("aria-sort");
  });
}

function makeSortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const numeric = table.tBodies[0].rows[0]?.cells[column].dataset.order !== undefined;
    const button = element("button", {type: "button"}, head.textContent);
    button.addEventListener("click", () => {
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      sortBy(table, column, head.getAttribute("aria-sort") === first ? second : first);
    });
    head.classList.toggle("number", numeric);
    head.replaceChildren(button);
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
