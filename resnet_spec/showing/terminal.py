"""Small pictures made of characters: bars, sparklines, and thumbnails for terminals with colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rich.text import Text

_STEPS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"


def sparkline(values: Sequence[float | None], width: int = 24) -> str:
    """Return a character per value, from the lowest to the highest; `·` where there is none.

    Of more than `width` values, evenly spaced ones are shown, the first and the last among them.
    """
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return "·" * len(values)
    low, high = min(known), max(known)

    def step(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "·"
        return _STEPS[round(7 * (value - low) / (high - low))] if high > low else _STEPS[3]

    return "".join(map(step, values))


def bar(fraction: float, width: int = 16) -> str:
    """Return a bar of `fraction` (0..1) of `width` characters, to an eighth of one."""
    eighths = round(8 * width * min(max(fraction, 0.0), 1.0))
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def thumbnail(pixels: NDArray[np.uint8], columns: int = 16) -> list[Text]:
    """Return uint8 [H, W, 1 or 3] as lines of half blocks, two pixels to a character, in colour."""
    from rich.text import Text

    small = _shrunk(pixels, columns)
    lines: list[Text] = []
    for upper, lower in zip(small[0::2], small[1::2], strict=True):
        line = Text()
        for above, below in zip(upper, lower, strict=True):
            line.append("▀", f"{_hex(above)} on {_hex(below)}")
        lines.append(line)
    return lines


def _shrunk(pixels: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return uint8 [even height, columns, 3]."""
    from PIL import Image

    height, width, channels = pixels.shape
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).convert("RGB")
    columns = min(columns, width)
    rows = max(2, 2 * round(columns * height / width / 2))
    return np.asarray(image.resize((columns, rows), Image.Resampling.BOX), dtype=np.uint8)


def _hex(colour: NDArray[Any]) -> str:
    red, green, blue = (int(value) for value in colour)
    return f"#{red:02x}{green:02x}{blue:02x}"
