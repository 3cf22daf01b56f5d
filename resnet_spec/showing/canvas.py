"""A blank page measured in inches from the top left, and grids of titled images on it.

One pair of axes for a whole page: hundreds of tiles are laid out exactly, and in no time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.reporting.plot_text import printable
from resnet_spec.reporting.plots import new_figure

_TILE = 1.12
_GAP = 0.14
_MARGIN = 0.18
_LINE = 0.155
_HEADING = 0.62
TITLE_SIZE = 8
TITLE_WIDTH = 72 * (_TILE + _GAP) - 4
"""Points that a title may take without meeting the next one."""
_SMOOTH_FROM = 112
"""Images of at least this many pixels are smoothed when they are scaled; pixels of smaller ones
are shown as squares."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A titled image: uint8 [H, W, 1 or 3], or floating point [H, W] in 0..1 for a colour map."""

    pixels: NDArray[Any] = field(repr=False)
    title: str
    colour: str = "black"


def page(width: float, height: float) -> tuple[Any, Any]:
    """Return a figure of that many inches and its axes: inches from the top left corner."""
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    return figure, axes


def fixed(axes: Any, width: float, height: float) -> None:
    """Set the page's limits, which images move."""
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("auto")


def words(axes: Any, x: float, y: float, text: str, **look: Any) -> None:
    """Write `text` as it is (a dollar sign is no formula)."""
    axes.text(x, y, text, **{"va": "center", "parse_math": False, **look})


def picture(axes: Any, tile: Tile, left: float, top: float, size: float) -> None:
    """Put a tile's pixels into a square of `size` inches, floating point in the map `cividis`."""
    pixels = tile.pixels
    look: dict[str, Any] = {"cmap": "cividis", "vmin": 0.0, "vmax": 1.0}
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels, look = pixels[:, :, 0], {"cmap": "gray", "vmin": 0, "vmax": 255}
    smooth = min(pixels.shape[:2]) >= _SMOOTH_FROM
    if not smooth:  # Programs that show an SVG smooth what they enlarge.
        times = -(-_SMOOTH_FROM // min(pixels.shape[:2]))
        pixels = pixels.repeat(times, axis=0).repeat(times, axis=1)
    axes.imshow(
        pixels,
        extent=(left, left + size, top + size, top),
        interpolation="antialiased" if smooth else "none",
        zorder=2,
        **look,
    )


def grid_shape(count: int) -> tuple[int, int]:
    """Return rows and columns of a grid about as wide as a page, with few places left empty."""
    usual = math.ceil(math.sqrt(1.8 * count))
    near = range(max(1, usual - 3), min(count, usual + 3) + 1)
    columns = min(near, key=lambda n: (-count % n, abs(n - usual), -n))
    return -(-count // columns), columns


def short(name: str, most: int = 16) -> str:
    """Return `name` with spaces for underscores, its middle left out when it is longer."""
    name = printable(name.replace("_", " "))
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[: most - 1 - half]}…{name[-half:]}"


def tiles_figure(tiles: Sequence[Tile], heading: str, caption: str = "") -> Any:
    """Return a grid of titled images below a heading and a caption."""
    lines = max(tile.title.count("\n") + 1 if tile.title else 0 for tile in tiles)
    rows, columns = grid_shape(len(tiles))
    above = lines * _LINE + 0.05 * bool(lines)
    step_x, step_y = _TILE + _GAP, _TILE + above + _GAP
    # A heading needs its width, however few tiles there are.
    written = max(0.1 * len(heading), 0.066 * len(caption))
    width = 2 * _MARGIN + max(columns * step_x - _GAP, written)
    height = _HEADING + rows * step_y + _MARGIN - _GAP
    figure, axes = page(width, height)
    head(axes, heading, caption)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        left, top = _MARGIN + column * step_x, _HEADING + row * step_y + above
        picture(axes, tile, left, top, _TILE)
        look: dict[str, Any] = {"ha": "center", "va": "baseline", "color": tile.colour}
        for i, line in enumerate(reversed(tile.title.split("\n"))):
            middle, height_of_line = left + _TILE / 2, top - 0.06 - i * _LINE
            words(axes, middle, height_of_line, line, fontsize=TITLE_SIZE, **look)
    fixed(axes, width, height)
    return figure


def head(axes: Any, heading: str, caption: str) -> None:
    """Write the heading and the caption into the top left corner."""
    words(axes, _MARGIN, 0.22, heading, fontsize=11, fontweight="bold")
    words(axes, _MARGIN, 0.42, caption, fontsize=8, color="#444444")


def unit_range(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return `values` scaled to 0..1; all 0.5 where they are all equal."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.full(values.shape, 0.5)
    return (values.astype(np.float64) - low) / (high - low)
