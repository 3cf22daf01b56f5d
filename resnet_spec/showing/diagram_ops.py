"""How ops look in a diagram: a box each, coloured by what it does."""

from __future__ import annotations

from typing import NamedTuple

from resnet_spec.ops import Op
from resnet_spec.planning.op_rows import OpText, Sort, row_of
from resnet_spec.showing.op_text import op_text
from resnet_spec.showing.shapes import Box, Shape, Words, text_width

PAD = 7.0
"""Between a box's edge and its text."""
_SIZE, _SMALL = 8.5, 7.5


class Look(NamedTuple):
    """Fill and edge of a box."""

    fill: str
    edge: str


# Tints of the palette in `plots`.
_LOOKS: dict[Sort, Look] = {
    "weights": Look("#DCEAF6", "#0072B2"),
    "norm": Look("#DDF1E9", "#009E73"),
    "activation": Look("#FCEFD6", "#D08F00"),
    "pool": Look("#FBE3D6", "#D55E00"),
    "channels": Look("#F7E6F0", "#CC79A7"),
    "noise": Look("#F7E6F0", "#CC79A7"),
    "plain": Look("#F2F2F2", "#777777"),
}


def look_of(op: Op) -> Look:
    """Return the colours of an op."""
    return _LOOKS[row_of(op).sort]


def op_width(op: Op) -> float:
    """Return how wide the box of `op` must be."""
    return label_width(op_text(op))


def label_width(text: OpText) -> float:
    """Return how wide a box with this text must be."""
    first = text_width(text.name, _SIZE, bold=True)
    if text.channels:
        first += text_width(text.channels, _SIZE) + 12
    return max(first, text_width(text.numbers, _SMALL)) + 2 * PAD


def op_height(op: Op) -> float:
    """Return how high the box of `op` is: two lines with numbers, else one."""
    return 28.0 if op_text(op).numbers else 17.0


def op_shapes(op: Op, left: float, top: float, width: float) -> list[Shape]:
    """Return the box of `op`: name and channels, and its numbers below them."""
    return label_shapes(op_text(op), look_of(op), left, top, width, op_height(op))


def label_shapes(
    text: OpText, look: Look, left: float, top: float, width: float, height: float
) -> list[Shape]:
    """Return a box with the name at its left, the channels at its right, the numbers below."""
    first = top + (9.5 if text.numbers else height / 2)
    shapes: list[Shape] = [Box(left, top, width, height, look.fill, look.edge)]
    if text.channels or text.numbers:
        shapes.append(Words(left + PAD, first, text.name, _SIZE, bold=True))
    else:
        shapes.append(Words(left + width / 2, first, text.name, _SIZE, align="center"))
    if text.channels:
        shapes.append(Words(left + width - PAD, first, text.channels, _SIZE, align="right"))
    if text.numbers:
        shapes.append(Words(left + PAD, top + height - 8.5, text.numbers, _SMALL, colour="#444444"))
    return shapes
