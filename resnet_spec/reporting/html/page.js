// Sort a table of items by the head that is clicked, and unfold everything for the printer.
document.addEventListener("DOMContentLoaded", () => {
  const value = (row, column) => {
    const text = row.cells[column].textContent;
    const number = text === "∞" ? Infinity : text === "exact" ? 0 : parseFloat(text);
    return column < 3 || Number.isNaN(number) ? text : number;
  };
  for (const table of document.querySelectorAll("table.items")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const sort = () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
        const rows = [...body.rows];
        rows.sort((a, b) => order(value(a, column), value(b, column)));
        body.append(...rows);
      };
      head.tabIndex = 0;
      head.title = "sort";
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => event.key === "Enter" && sort());
    });
    table.classList.add("sortable");
  }
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
  });
});
