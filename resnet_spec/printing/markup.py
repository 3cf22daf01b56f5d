"""HTML and SVG that are escaped by construction: every string that is no Markup is escaped.

Names and notes may come from a stranger's model. Imports nothing of the project.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable

_VOID = frozenset({"meta"})
# Control characters, lone surrogates, and marks that turn the direction of the text around them.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


class Markup(str):
    """Markup as it goes into the file."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | float | bool | None) -> Markup:
    """Return an element; strings inside and attributes are escaped, Markup is taken as it is.

    `class_` stands for class, `stroke_width` for stroke-width. An attribute that is True has no
    value, and one that is None or False is left out.
    """
    start = f"<{tag}{''.join(_attribute(*pair) for pair in attributes.items())}>"
    if tag in _VOID:
        return Markup(start)
    return Markup(f"{start}{join(children)}</{tag}>")


def join(parts: Iterable[str], between: str = "") -> Markup:
    """Return all parts in a row, each escaped unless it is Markup."""
    return Markup(escaped(between).join(escaped(part) for part in parts))


def escaped(text: str) -> Markup:
    """Return `text` as Markup that shows it; what cannot be printed becomes U+FFFD."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_UNPRINTABLE.sub("\ufffd", text)))


def px(value: float) -> str:
    """Return a coordinate with one decimal at most: a tenth of a pixel is finer than any screen."""
    return f"{value:.1f}".removesuffix(".0")


def small(value: float) -> str:
    """Return an error in two digits, or a sign for infinity."""
    if not math.isfinite(value):
        return "∞"
    return "0" if value == 0 else f"{value:.1e}"


def times(value: float) -> str:
    """Return multiples of a floor in three digits, or a sign for infinity."""
    return f"{value:.3g}" if math.isfinite(value) else "∞"


def _attribute(name: str, value: str | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    shown = value if isinstance(value, str) else px(value)
    return f' {name}="{escaped(shown)}"'
