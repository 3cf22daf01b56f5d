"""Draws a sheet of shapes with matplotlib."""

from __future__ import annotations

from typing import Any

from resnet_spec.showing.canvas import fixed, page, words
from resnet_spec.showing.shapes import Box, Disc, Sheet, Wire, Words

_POINT = 1 / 72
_FONT = "DejaVu Sans"
"""Comes with matplotlib; `shapes.text_width` knows its widths."""


def drawn(sheet: Sheet) -> Any:
    """Return the figure of `sheet`, in its size."""
    width, height = sheet.width * _POINT, sheet.height * _POINT
    figure, axes = page(width, height)
    for order, shape in enumerate(sheet.shapes):
        match shape:
            case Box():
                _box(axes, shape, order)
            case Words():
                look: dict[str, Any] = {
                    "fontsize": shape.size,
                    "color": shape.colour,
                    "ha": shape.align,
                }
                weight = "bold" if shape.bold else "normal"
                place = (shape.x * _POINT, shape.y * _POINT)
                look |= {"fontweight": weight, "family": _FONT, "zorder": order}
                words(axes, *place, shape.text, **look)
            case Wire():
                _wire(axes, shape, order)
            case Disc():
                _disc(axes, shape, order)
    fixed(axes, width, height)
    return figure


def _box(axes: Any, box: Box, order: int) -> None:
    from matplotlib.patches import FancyBboxPatch

    if box.width <= 0:
        return
    radius = min(box.round, box.width / 2, box.height / 2) * _POINT
    corner, size = (box.left * _POINT, box.top * _POINT), (box.width * _POINT, box.height * _POINT)
    style = f"round,pad=0,rounding_size={radius}"
    look: dict[str, Any] = {"facecolor": box.fill, "edgecolor": box.edge, "linewidth": box.line}
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=style, zorder=order, **look))


def _wire(axes: Any, wire: Wire, order: int) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points = [(x * _POINT, y * _POINT) for x, y in wire.points]
    style = "-|>,head_length=3.2,head_width=1.8" if wire.arrow else "-"
    look: dict[str, Any] = {"color": wire.colour, "linewidth": wire.line, "zorder": order}
    shape: dict[str, Any] = {"joinstyle": "miter", "capstyle": "butt", "mutation_scale": 1.0}
    axes.add_patch(FancyArrowPatch(path=Path(points), arrowstyle=style, **look, **shape))


def _disc(axes: Any, disc: Disc, order: int) -> None:
    from matplotlib.patches import Circle

    x, y = disc.x * _POINT, disc.y * _POINT
    look: dict[str, Any] = {"facecolor": disc.fill, "edgecolor": disc.edge, "zorder": order}
    axes.add_patch(Circle((x, y), disc.radius * _POINT, linewidth=0.9, **look))
    if disc.sign:
        look = {"fontsize": disc.size, "color": disc.colour, "ha": "center", "zorder": order}
        words(axes, x, y, disc.sign, fontweight="bold", family=_FONT, **look)
