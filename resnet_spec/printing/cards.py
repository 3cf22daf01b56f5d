"""Results that show themselves as a short table: text at a prompt, HTML in a notebook.

What a result shows is a `Card`; this file alone says how one looks. Imports nothing of the project
but `markup`, which escapes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from resnet_spec.printing.markup import element

MOST_ROWS = 12
"""A longer table is cut, and says by how much."""
_WIDEST = 64
"""Letters of a cell; of a longer text both ends are shown."""


class Card(NamedTuple):
    """What a result shows: a title, rows of texts, and lines below.

    heads: of the columns; () for a name and a value in every row.
    """

    title: str
    rows: Sequence[Sequence[object]]
    heads: Sequence[str] = ()
    notes: Sequence[str] = ()


class Shown:
    """Gives a class its `repr`, as text and as HTML; it says by `card` what is shown.

    A dataclass has to be made with `repr=False`, or it writes its own.
    """

    __slots__ = ()

    def card(self) -> Card:
        """Return what is shown."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self.card())

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(self.card())


def as_text(card: Card) -> str:
    """Return the table in aligned columns, the title first."""
    rows = [list(card.heads), *_cells(card)] if card.heads else list(_cells(card))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = (map(str.ljust, row, widths) for row in rows)
    lines = [f"  {'  '.join(row)}".rstrip() for row in padded]
    return "\n".join([card.title, *lines, *(f"  {line}" for line in _below(card))])


def as_html(card: Card) -> str:
    """Return the table as HTML without a style of its own; every text is escaped."""
    style = "text-align: left"
    head = [element("tr", *(element("th", name, style=style) for name in card.heads))]
    body = [
        element("tr", *(element("td", text, style=style) for text in row)) for row in _cells(card)
    ]
    table = element(
        "table",
        element("caption", element("b", card.title), style=style),
        *([element("thead", *head)] if card.heads else []),
        element("tbody", *body),
    )
    return element("div", table, *(element("div", line) for line in _below(card)))


def rounded(value: float | None) -> str:
    """Return an accuracy or a loss in four decimals; a dash for what is no number."""
    return f"{value:.4f}" if value is not None and math.isfinite(value) else "-"


def _cells(card: Card) -> Iterator[list[str]]:
    for row in card.rows[:MOST_ROWS]:
        yield [_cell(value) for value in row]


def _cell(value: object) -> str:
    text = " ".join(("-" if value is None else str(value)).split())
    if len(text) <= _WIDEST:
        return text
    half = _WIDEST // 2
    return f"{text[: half - 1]}…{text[-half:]}"


def _below(card: Card) -> Iterator[str]:
    hidden = len(card.rows) - MOST_ROWS
    if hidden > 0:
        yield f"and {hidden} row{'s' * (hidden > 1)} more"
    yield from card.notes
