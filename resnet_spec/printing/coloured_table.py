"""A table with a coloured column, a title and lines below, in the width where it is printed.

Holds texts and knows nothing of what they say. Rich renders it; imports it only then.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resnet_spec.printing.columns import (
    GAP,
    Column,
    cells_of,
    fitted_cells,
    not_shown,
    padded,
    pairs,
)

if TYPE_CHECKING:
    from rich.text import Text

PAGE = 100
"""Characters of a line of text where the table itself may be of any width."""


@dataclass(frozen=True)
class StyledTable:
    """Rows of texts under columns. A `print` of rich's console shows it.

    styles: {head of a column: a style for each row}. notes: lines below, wrapped. values: below
    them, a label with pairs that stay whole.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    styles: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    notes: Sequence[str] = ()
    values: Sequence[tuple[str, Mapping[str, object]]] = ()

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Text]:
        """Yield the lines in the width of the console."""
        for line in self.lines(options.max_width):
            line.no_wrap, line.overflow = True, "ignore"
            yield line

    def lines(self, width: int | None) -> Iterator[Text]:
        """Yield the lines; None for as wide as the rows are."""
        from rich.text import Text

        page = width or PAGE
        yield from map(Text, [*_wrapped(self.title, page), ""])
        columns, cells = fitted_cells(self.columns, self.rows, width)
        heads = [column.head for column in columns]
        widths = [max(map(cells_of, texts)) for texts in zip(heads, *cells, strict=True)]
        yield self._line(columns, heads, widths)
        yield Text("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
        for i, row in enumerate(cells):
            yield self._line(columns, row, widths, i)
        yield from map(Text, [*not_shown(self.columns, columns, width), ""])
        for note in self.notes:
            yield from map(Text, _wrapped(note, page))
        for label, values in self.values:
            yield from map(Text, pairs(label, values, page))

    def _line(
        self,
        columns: Sequence[Column],
        row: Sequence[str],
        widths: Sequence[int],
        place: int | None = None,
    ) -> Text:
        """Return a row; place: its number, None for the heads."""
        from rich.text import Text

        line = Text()
        for column, cell, width in zip(columns, row, widths, strict=True):
            styles = self.styles.get(column.head, ())
            style = styles[place] if styles and place is not None else ""
            line.append(padded(cell, width, column.right), style).append(GAP)
        line.rstrip()
        return line


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=GAP, break_on_hyphens=False) or [""]
