"""Which classes a network takes for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.planning.costs_text import table
from resnet_spec.reporting.plots import new_figure
from resnet_spec.showing.canvas import short

Matrix = NDArray[np.int64]
"""[classes, classes]: how many images of the row's class were predicted as the column's."""

Classes = NDArray[np.int64]
"""[images]."""

MOST_NUMBERED = 30
"""Up to so many classes, counts stand in the cells and in the text form."""
_WIDE = 90
"""Characters that the names of classes may take above the columns."""
_NAMED = 60
"""Up to so many classes are named along the sides."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """`count` of the `of` images of class `label` were taken for `predicted`."""

    label: str
    predicted: str
    count: int
    of: int


def confusion_matrix(labels: Classes, predicted: Classes, classes: int) -> Matrix:
    """Return the counts, [classes, classes]: true by row, predicted by column."""
    matrix = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    return matrix


def shares(matrix: Matrix) -> NDArray[np.float64]:
    """Return each row divided by its sum; a class without images stays zero."""
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)


def class_accuracies(matrix: Matrix) -> list[float | None]:
    """Return the accuracy per class; None for a class without images."""
    sums = matrix.sum(axis=1)
    return [
        float(right / of) if of else None for right, of in zip(matrix.diagonal(), sums, strict=True)
    ]


def accuracy(matrix: Matrix) -> float:
    """Return the accuracy over all images."""
    return float(matrix.trace() / matrix.sum())


def largest(matrix: Matrix, names: Sequence[str], count: int = 10) -> list[Confusion]:
    """Return the `count` most frequent confusions, by their number of images."""
    off = matrix - np.diag(matrix.diagonal())
    sums = matrix.sum(axis=1)
    order = np.argsort(-off, axis=None, kind="stable")[:count]
    places = [divmod(int(place), len(names)) for place in order]
    return [
        Confusion(names[row], names[column], int(off[row, column]), int(sums[row]))
        for row, column in places
        if off[row, column] > 0
    ]


def lines(matrix: Matrix, names: Sequence[str]) -> list[str]:
    """Return the matrix as a table, accuracy per class, and the largest confusions in words.

    With more than 30 classes, accuracies without the matrix, worst first.
    """
    shown = _matrix_lines if len(names) <= MOST_NUMBERED else _class_lines
    return [*shown(matrix, names), "", *confusion_lines(largest(matrix, names))]


def confusion_lines(found: Sequence[Confusion]) -> list[str]:
    """Return a line per confusion."""
    if not found:
        return ["no image is taken for one of another class"]
    wide = max(len(f"{it.label} taken for {it.predicted}") for it in found)
    return [
        f"{f'{it.label} taken for {it.predicted}':<{wide}}  {it.count:>5} of {it.of:<5} "
        f"{100 * it.count / it.of:5.1f} %"
        for it in found
    ]


def _matrix_lines(matrix: Matrix, names: Sequence[str]) -> list[str]:
    """Return the table; columns are headed by numbers where names would make it too wide."""
    heads, labels = [short(name, 10) for name in names], [short(name, 24) for name in names]
    if sum(len(head) + 2 for head in heads) > _WIDE:
        heads = [str(i) for i in range(len(names))]
        labels = [f"{i:>2} {label}" for i, label in enumerate(labels)]
    rows = [["true \\ predicted", *heads, "accuracy"]]
    for label, row, part in zip(labels, matrix.tolist(), class_accuracies(matrix), strict=True):
        rows.append([label, *(str(n) if n else "." for n in row), _percent(part)])
    return table(rows, right=range(1, len(names) + 2))


def _class_lines(matrix: Matrix, names: Sequence[str]) -> list[str]:
    found = zip(names, matrix.sum(axis=1).tolist(), class_accuracies(matrix), strict=True)
    worst_first = sorted(found, key=lambda it: 2.0 if it[2] is None else it[2])
    rows = [("class", "images", "accuracy")]
    rows += [(name, str(count), _percent(part)) for name, count, part in worst_first]
    return table(rows, right=(1, 2))


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.1f} %"


def figure(matrix: Matrix, names: Sequence[str], heading: str) -> Any:
    """Draw the matrix: colour by share of the row, counts in the cells, accuracies at the right."""
    count = len(names)
    cell = (0.52 if count <= 15 else 0.42) if count <= MOST_NUMBERED else max(7.5 / count, 0.05)
    side = max(cell * count, 2.2)
    drawn = new_figure(max(side + 2.8, 0.105 * len(heading) + 0.3), side + 1.9)
    axes = drawn.add_subplot()
    parts = shares(matrix)
    image = axes.imshow(parts, cmap="Blues", vmin=0.0, vmax=1.0)
    if count <= MOST_NUMBERED:
        _write_counts(axes, matrix, parts)
    _name_sides(axes, matrix, names)
    drawn.suptitle(heading, fontsize=11, fontweight="bold", parse_math=False)
    bar = drawn.colorbar(image, ax=axes, shrink=0.6, pad=0.02, format="{x:.0%}")
    bar.set_label("share of the true class", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return drawn


def _write_counts(axes: Any, matrix: Matrix, parts: NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            colour = "white" if parts[row, column] > 0.55 else "black"
            look = {"ha": "center", "va": "center", "fontsize": 8, "color": colour}
            axes.text(column, row, f"{count}", **look)


def _name_sides(axes: Any, matrix: Matrix, names: Sequence[str]) -> None:
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_color("#bbbbbb")
    if len(names) > _NAMED:
        return
    shown = [short(name) for name in names]
    size = 9 if len(names) <= MOST_NUMBERED else 6
    axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(range(len(names)), shown, fontsize=size, parse_math=False)
    if len(names) > MOST_NUMBERED:
        return
    right = axes.secondary_yaxis("right")
    percents = [_percent(part) for part in class_accuracies(matrix)]
    right.set_yticks(range(len(names)), percents, fontsize=8)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    axes.annotate(
        "accuracy",
        (1.0, 1.0),
        (6, 5),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8,
    )
