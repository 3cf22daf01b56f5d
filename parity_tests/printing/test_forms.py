"""The forms that results are printed in: elements of a page, a coloured table, bars."""

from __future__ import annotations

import io
import sys

import pytest

from resnet_spec.printing.coloured_table import StyledTable
from resnet_spec.printing.columns import Column
from resnet_spec.printing.consoles import is_terminal, progress_console
from resnet_spec.printing.markup import element


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_attributes_are_spelt_as_in_html() -> None:
    made = element("svg", class_="plot", stroke_width=2, aria_label="a_b", hidden=False)
    assert made == '<svg class="plot" stroke-width="2" aria-label="a_b"></svg>'


def test_a_style_is_of_its_column_and_row_and_never_of_the_head() -> None:
    columns = [Column("level"), Column("verdict")]
    rows = [("logits", "equal"), ("loss", "different")]
    table = StyledTable("Parity", columns, rows, {"verdict": ("green", "red")})
    styled = {
        line.plain[span.start : span.end]: span.style
        for line in table.lines(None)
        for span in line.spans
    }
    assert {text.strip(): style for text, style in styled.items()} == {
        "equal": "green",
        "different": "red",
    }


@pytest.mark.parametrize("stream", [io.StringIO, _Terminal])
def test_bars_move_on_a_terminal_alone_whatever_the_colours(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", stream())
    assert progress_console().is_terminal == (stream is _Terminal)


def test_nobody_sees_a_closed_stream() -> None:
    closed = io.StringIO()
    closed.close()
    assert not is_terminal(closed)
    assert is_terminal(_Terminal())
