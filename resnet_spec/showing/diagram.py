"""The diagram of a network: the whole from top to bottom, and a block of each kind beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from typing import Any

from resnet_spec.ops import Activation, Norm, Op
from resnet_spec.reporting.plots import COLOURS
from resnet_spec.showing.diagram_block import kind_sheet
from resnet_spec.showing.diagram_ops import label_shapes, label_width, look_of
from resnet_spec.showing.network import End, Network, Stage
from resnet_spec.showing.op_text import OpText, amount, op_text, shape_text
from resnet_spec.showing.shapes import Box, Disc, Shape, Sheet, Wire, Words, moved, text_width

MOST_KINDS = 8
"""Kinds drawn in detail; more are only listed."""
_MARGIN, _HEAD, _GAP = 20.0, 58.0, 26.0
_INSIDE = 10.0
"""Between a card's edge and what it holds."""
_ARROW = 24.0
_ASPECT = 1.2
_QUIET = "#555555"
_DARK_LETTERS = {"#E69F00", "#56B4E9", "#CC79A7"}


def sheet_of(network: Network) -> Sheet:
    """Return the diagram in points."""
    overview = _overview(network)
    panels = [kind_sheet(kind, *_badge(i)) for i, kind in enumerate(network.kinds[:MOST_KINDS])]
    columns = _best_columns(panels, overview)
    x, shapes = _MARGIN + overview.width + _GAP, moved(overview.shapes, _MARGIN, _HEAD)
    height = overview.height
    for column in columns:
        y, widest = 0.0, max(panel.width for panel in column)
        for panel in column:
            shapes.append(Box(x, _HEAD + y, widest, panel.height, "#FFFFFF", "#BBBBBB", round=6))
            shapes += moved(panel.shapes, x, _HEAD + y)
            y += panel.height + _GAP / 2
        height = max(height, y - _GAP / 2)
        x += widest + _GAP / 2
    title, facts = _titles(network)
    width = max(x - _GAP / 2, _MARGIN + max(title.width, facts.width)) + _MARGIN
    return Sheet(width, _HEAD + height + _MARGIN, (title, facts, *shapes))


def _titles(network: Network) -> tuple[Words, Words]:
    left_out = len(network.kinds) - MOST_KINDS
    more = f"; {left_out} more kinds of blocks are not drawn" if left_out > 0 else ""
    text = (
        f"{network.classes:,} classes, {network.params:,} params, {amount(network.macs)} MACs "
        f"for an image of {shape_text(network.input_shape)}{more}"
    )
    title = Words(_MARGIN, 20, network.name, 15, bold=True)
    return title, Words(_MARGIN, 40, text, 9, colour=_QUIET)


def _badge(place: int) -> tuple[str, str]:
    """Return the colour of a kind, and of the letter on it."""
    colour = COLOURS[place % len(COLOURS)]
    return colour, "black" if colour in _DARK_LETTERS else "white"


def _best_columns(panels: Sequence[Sheet], overview: Sheet) -> list[Sequence[Sheet]]:
    """Return the panels in the columns that leave least of the page empty, and it well-shaped."""

    def badness(columns: list[Sequence[Sheet]]) -> float:
        heights = [sum(panel.height + _GAP / 2 for panel in column) for column in columns]
        width = overview.width + sum(max(panel.width for panel in column) for column in columns)
        height = max(overview.height, *heights)
        return math.log(width * height) + abs(math.log(width / height / _ASPECT)) / 2

    return min(_splits(panels), key=badness)


def _splits(panels: Sequence[Sheet]) -> Iterator[list[Sequence[Sheet]]]:
    """Yield every way to cut the panels, in order, into columns; full first columns first."""
    for count in range(len(panels)):
        for cuts in reversed(list(combinations(range(1, len(panels)), count))):
            yield [panels[a:b] for a, b in pairwise((0, *cuts, len(panels)))]


# --- The whole network ----------------------------------------------------------------------------


def _overview(network: Network) -> Sheet:
    """Return the column from the image to the classes."""
    colours = {kind.letter: _badge(i) for i, kind in enumerate(network.kinds)}
    width = _card_width(network)
    most = (
        max(stage.row.params for stage in network.stages) or 1,
        max(stage.row.macs for stage in network.stages) or 1,
    )
    cards = [
        _end_card(network.stem, width),
        *(_stage_card(stage, width, most, colours) for stage in network.stages),
        _end_card(network.head, width),
    ]
    borders = [
        network.input_shape,
        network.stem.row.output_shape,
        *(stage.row.output_shape for stage in network.stages),
    ]
    shapes: list[Shape] = []
    y = 0.0
    for card, border in zip(cards, borders, strict=True):
        shapes += _border(shape_text(border), width / 2, y)
        y += _ARROW
        shapes += moved(card.shapes, 0, y)
        y += card.height
    shapes += _border(f"{network.classes:,} classes", width / 2, y)
    return Sheet(width, y + _ARROW, tuple(shapes))


def _border(text: str, x: float, y: float) -> list[Shape]:
    """Return an arrow with the shape that passes along it."""
    return [
        Wire(((x, y + 2), (x, y + _ARROW - 1))),
        Words(x + 10, y + _ARROW / 2, text, 8.5, colour=_QUIET),
    ]


def _end_rows(end: End) -> list[tuple[Op, OpText]]:
    """Return the ops of an end as rows: a norm and an activation go with what precedes them."""
    rows: list[tuple[Op, OpText]] = []
    for op in end.ops:
        text = op_text(op)
        if isinstance(op, Norm | Activation) and rows:
            before, said = rows[-1]
            after = f"{said.numbers}, {text.name}" if said.numbers else text.name
            rows[-1] = (before, said._replace(numbers=after))
        else:
            rows.append((op, text))
    return rows


def _card_width(network: Network) -> float:
    rows = [text for end in (network.stem, network.head) for _, text in _end_rows(end)]
    blocks = [
        2 * _INSIDE + 45 + text_width(it.about, 8.5) + text_width(f"× {it.count}", 8.5, bold=True)
        for stage in network.stages
        for it in stage.repeats
    ]
    return max(250.0, *(label_width(text) + 2 * _INSIDE for text in rows), *blocks)


def _end_card(end: End, width: float) -> Sheet:
    shapes: list[Shape] = []
    costs = f"{amount(end.row.params)} params, {amount(end.row.macs)} MACs"
    y = 24.0
    for op, text in _end_rows(end):
        height = 28.0 if text.numbers else 17.0
        inner = width - 2 * _INSIDE
        shapes += label_shapes(text, look_of(op), _INSIDE, y, inner, height)
        y += height + 4
    y += 3
    return Sheet(width, y, (*_card(end.row.name, costs, width, y), *shapes))


def _card(name: str, costs: str, width: float, height: float) -> list[Shape]:
    return [
        Box(0, 0, width, height, "#FAFAFA", "#BBBBBB", round=6),
        Words(_INSIDE, 13, name, 10, bold=True),
        Words(width - _INSIDE, 13, costs, 8, align="right", colour=_QUIET),
    ]


_BAR_LEFT = 86.0


def _stage_card(
    stage: Stage, width: float, most: tuple[int, int], colours: dict[str, tuple[str, str]]
) -> Sheet:
    row = stage.row
    blocks = sum(it.count for it in stage.repeats)
    shapes: list[Shape] = []
    y = 24.0
    for it in stage.repeats:
        fill, letter = colours[it.letter]
        shapes += [
            Box(_INSIDE, y, width - 2 * _INSIDE, 18, "#FFFFFF", "#CCCCCC"),
            Disc(_INSIDE + 11, y + 9, 6.5, it.letter, fill, fill, letter, size=7.5),
            Words(_INSIDE + 23, y + 9, it.about, 8.5),
            Words(width - _INSIDE - 7, y + 9, f"× {it.count}", 8.5, bold=True, align="right"),
        ]
        y += 21
    y += 2
    for count, largest, unit in ((row.params, most[0], "params"), (row.macs, most[1], "MACs")):
        full = width - _BAR_LEFT - _INSIDE
        shapes += [
            Words(_INSIDE, y + 5, f"{amount(count)} {unit}", 7.5, colour=_QUIET),
            Box(_BAR_LEFT, y + 2, full, 6, "#EEEEEE", "none", round=1),
            Box(_BAR_LEFT, y + 2, full * count / largest, 6, "#8FA9BF", "none", round=1),
        ]
        y += 12
    y += 4
    counted = f"{blocks} block{'s' * (blocks > 1)}"
    return Sheet(width, y, (*_card(row.name, counted, width, y), *shapes))


def figure(network: Network) -> Any:
    """Draw the diagram."""
    from resnet_spec.showing.diagram_drawing import drawn

    return drawn(sheet_of(network))
