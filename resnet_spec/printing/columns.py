"""Tables in plain text that fit where they are printed. Imports nothing of the project.

Where there is too little room, texts are shortened as far as their columns let them, and then
columns are left out in the order that is stated for them; a line below says which.
"""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

GAP = "  "
_LEAST = 5
"""What a text is shortened to, at the most, once no column is left that may go."""


@dataclass(frozen=True, slots=True)
class Column:
    """How a column yields where there is too little room.

    least: its texts may be shortened to so many characters; 0: they stay whole. tail: whether the
    end of a text is cut, not its middle. drop: the columns left out first have 1, then come those
    of 2 ...; 0: it always stays.
    """

    head: str
    right: bool = False
    least: int = 0
    tail: bool = False
    drop: int = 0


def fitted(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None = None
) -> list[str]:
    """Return the lines of a table, and one below that names the columns without room.

    width: characters that there are; None: as many as it takes.
    """
    chosen, cells = fitted_cells(columns, rows, width)
    right = [i for i, column in enumerate(chosen) if column.right]
    return [
        *aligned([[column.head for column in chosen], *cells], right),
        *not_shown(columns, chosen, width),
    ]


def fitted_cells(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None
) -> tuple[list[Column], list[list[str]]]:
    """Return the columns that have room, and the rows' texts in them, shortened."""
    chosen, cells = list(columns), [list(row) for row in rows]
    while width is not None and not _fit(chosen, cells, width):
        out = min((c for c in chosen if c.drop), key=lambda c: c.drop, default=None)
        if out is None:  # What yields at all yields more.
            chosen = [replace(c, least=min(c.least, _LEAST)) for c in chosen]
            break
        place = chosen.index(out)
        chosen.pop(place)
        for row in cells:
            row.pop(place)
    widths = _widths(chosen, cells) if width is None else _yielding(chosen, cells, width)
    for row in cells:
        for i, column in enumerate(chosen):
            row[i] = shortened(row[i], widths[i], tail=column.tail)
    return chosen, cells


def not_shown(columns: Sequence[Column], chosen: Sequence[Column], width: int | None) -> list[str]:
    """Return what to say of the columns that are not among those `chosen`."""
    shown = {column.head for column in chosen}
    lost = [c.head for c in columns if c.head.strip() and c.head not in shown]
    if not lost:
        return []
    text = f"no room here for: {', '.join(lost)}"
    return ["", *textwrap.wrap(text, width or len(text), subsequent_indent=GAP)]


def aligned(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Return lines of aligned columns; those numbered in `right` are aligned to the right."""
    widths = [max(map(cells_of, column)) for column in zip(*rows, strict=True)]
    places = set(right)
    lines: list[str] = []
    for row in rows:
        parts = zip(row, widths, strict=True)
        cells = [padded(cell, width, i in places) for i, (cell, width) in enumerate(parts)]
        lines.append(GAP.join(cells).rstrip())
    return lines


def padded(text: str, width: int, right: bool = False) -> str:
    """Return `text` with spaces to `width` character cells, before it where `right`."""
    spaces = " " * (width - cells_of(text))
    return f"{spaces}{text}" if right else f"{text}{spaces}"


def shortened(text: str, most: int, *, tail: bool = False) -> str:
    """Return `text` in at most `most` character cells; its middle, or `tail`, is an ellipsis."""
    if cells_of(text) <= most:
        return text
    behind = 0 if tail else most // 2
    start = _cut(text, max(most - 1 - behind, 0))
    end = _cut(text[::-1], behind)[::-1]
    return f"{start}…{end}"


def pairs(label: str, values: Mapping[str, object], width: int) -> list[str]:
    """Return `label: key value, key value` in lines of `width`; no pair is broken, if it fits."""
    words = [f"{key} {value}" for key, value in values.items()]
    lines, indent = [f"{label}:"], GAP
    for i, word in enumerate(words):
        text = word if i == len(words) - 1 else f"{word},"
        if cells_of(lines[-1]) + 1 + cells_of(text) <= width or lines[-1] == indent:
            lines[-1] += f" {text}"
        else:
            lines.append(f"{indent}{text}")
    return lines


def hanging(start: str, text: str, width: int | None) -> list[str]:
    """Return `text` behind `start`, wrapped at `width` so that it stays to the right of it."""
    if width is None:
        return [f"{start}{text}".rstrip()]
    blank = " " * cells_of(start)
    room = max(width - len(blank), 20)
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    return [f"{start if i == 0 else blank}{line}".rstrip() for i, line in enumerate(lines)]


def cells_of(text: str) -> int:
    """Return how many character cells a terminal gives `text`: East Asian letters take two."""
    if text.isascii():
        return len(text)
    return sum(_cells(one) for one in text)


def _cells(one: str) -> int:
    if unicodedata.combining(one):
        return 0
    return 2 if unicodedata.east_asian_width(one) in "WF" else 1


def _cut(text: str, most: int) -> str:
    """Return as much of the start of `text` as has room in `most` character cells."""
    used = 0
    for i, one in enumerate(text):
        used += _cells(one)
        if used > most:
            return text[:i]
    return text


def _widths(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> list[int]:
    heads = [[column.head for column in columns]]
    return [max(map(cells_of, texts)) for texts in zip(*heads, *rows, strict=True)]


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> bool:
    return _total(_yielding(columns, rows, width)) <= width


def _yielding(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the width of each column: those that yield are made less, the widest first."""
    widths = _widths(columns, rows)
    heads = [cells_of(column.head) for column in columns]
    least = [
        max(column.least, head) if column.least else width
        for column, head, width in zip(columns, heads, widths, strict=True)
    ]
    while _total(widths) > room:
        slack = [(w, i) for i, w in enumerate(widths) if w > least[i]]
        if not slack:
            break
        widths[max(slack)[1]] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)
