"""Words in figures: any name can be drawn, whatever its characters.

A name may hold bytes that are no text (a file's, on Linux), which matplotlib cannot take, or
characters that its font has not. Used as a figure is written; imports matplotlib only then.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Yu Gothic", "Malgun Gothic"),
    *("Noto Sans", "Arial Unicode MS"),
)
"""Fonts that have what matplotlib's own lacks; those that are installed are tried in this order."""


def printable(text: str) -> str:
    """Return `text` with backslash escapes for what is no text: the lone surrogates."""
    return _SURROGATE.sub(lambda one: f"\\u{ord(one[0]):04x}", text)


@contextmanager
def drawable(figure: Any) -> Generator[None]:
    """See that every text of `figure` can be drawn while it is written.

    A character that no font has becomes a box, without a warning for each.
    """
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_ticklabels()  # Ticks have no texts before they are asked for.
    for found in figure.findobj(Text):
        text = found.get_text()
        if not text.isascii():
            found.set_text(printable(text))
            found.set_fontfamily([*found.get_fontfamily(), *_installed()])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


@cache
def _installed() -> tuple[str, ...]:
    from matplotlib import font_manager as untyped

    manager: Any = untyped
    there = {font.name for font in manager.fontManager.ttflist}
    return tuple(name for name in _FALLBACKS if name in there)
