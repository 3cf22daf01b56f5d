"""The picture of docs/drift.md: how distances grow, and its numbers read back from the page.

One row of panels per precision. What two backends differ by stands in colours before the grey band
of what one backend differs by from itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnet_spec.errors import DataError, problem
from resnet_spec.reporting.plots import COLOURS, MARKERS, both_files, new_figure, write_figure

QUANTITIES = ("loss", "weights", "statistics")
ABOUT = ("Relative differences of the loss", "Distances of weights", "Distances of statistics")
OWN = ", one ulp"
PRECISIONS = ("float32", "float64")

Pairs = Mapping[str, Mapping[str, Sequence[float]]]


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw the growth of all distances, log to log, into a PNG and an SVG."""
    pairs: Pairs = result["pairs"]
    known = [name for name in PRECISIONS if any(precision_of(label) == name for label in pairs)]
    figure = new_figure(12.5, 0.6 + 3.5 * len(known), result["title"])
    rows = np.atleast_1d(figure.subfigures(len(known), 1))
    for row, precision in zip(rows, known, strict=True):
        shown = {label: found for label, found in pairs.items() if precision_of(label) == precision}
        _draw_row(row, precision, result["steps"], shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, both_files(path))


def _draw_row(row: Any, precision: str, steps: Sequence[int], pairs: Pairs) -> None:
    panels = row.subplots(1, len(QUANTITIES), sharey=True)
    between = [label for label in pairs if not label.endswith(OWN)]
    own = [label for label in pairs if label.endswith(OWN)]
    for axes, quantity, about in zip(panels, QUANTITIES, ABOUT, strict=True):
        _draw_own(axes, steps, [pairs[label][quantity] for label in own])
        for place, label in enumerate(between):
            values = np.array(pairs[label][quantity])
            axes.plot(
                np.array(steps[: len(values)])[values > 0],
                values[values > 0],
                label=plain(label),
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[place % len(MARKERS)],
                markersize=5,
                linewidth=1.4,
                linestyle="--" if "numpy" in label else "-",
            )
        axes.set_title(about, fontsize=10)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(precision, fontweight="bold")
    handles, labels = panels[1].get_legend_handles_labels()
    row.legend(handles, labels, loc="outside right center", fontsize=9, frameon=False)


def _draw_own(axes: Any, steps: Sequence[int], found: Sequence[Sequence[float]]) -> None:
    """Draw the band from the least to the largest own drift; where one is 0, from the next."""
    columns = [[value for value in column if value > 0] for column in zip(*found, strict=True)]
    known = [(step, column) for step, column in zip(steps, columns, strict=False) if column]
    if known:
        axes.fill_between(
            [step for step, _ in known],
            [min(column) for _, column in known],
            [max(column) for _, column in known],
            color="#999999",
            alpha=0.4,
            linewidth=1.5,
            label="each from itself,\nweights one ulp off",
        )


def precision_of(label: str) -> str:
    """Return the precision of a comparison: the first backend's, the reference's being float64."""
    found = re.findall("|".join(PRECISIONS), label)
    return found[0] if found else PRECISIONS[0]


def plain(label: str) -> str:
    """Return who is compared, without the precision that the row names."""
    return re.sub(r" float(32|64)", "", label).replace(" from numpy", " from the reference (numpy)")


def read_page(path: Path) -> dict[str, Any]:
    """Return the title, steps and distances that a page's tables hold. Raises DataError."""
    text = path.read_text(encoding="utf-8")
    pairs: dict[str, dict[str, list[float]]] = {}
    steps: list[int] = []
    for quantity, about in zip(QUANTITIES, ABOUT, strict=True):
        _, found, rest = text.partition(f"**{about}**")
        table = re.search(r"^\| \|.*?\n\n", f"{rest}\n\n", flags=re.DOTALL | re.MULTILINE)
        if not found or table is None:
            raise DataError(problem("page", path, f"has no table of {about.lower()}"))
        head, _, *rows = table.group().strip().splitlines()
        steps = [int(cell) for cell in cells(head) if cell.isdigit()]
        for label, *values in map(cells, rows):
            numbers = [float(value) for value in values[: len(steps)] if value]
            pairs.setdefault(label, {})[quantity] = numbers
    title = re.search(r"^(\S+ on .*)\.$", text, flags=re.MULTILINE)
    return {"title": title[1] if title else path.stem, "steps": steps, "pairs": pairs}


def cells(line: str) -> list[str]:
    """Return the texts of a table's line."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
