"""What a diagram is made of, in points from the top left; laid out without matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

Align = Literal["left", "center", "right"]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle with corners of radius `round`."""

    left: float
    top: float
    width: float
    height: float
    fill: str
    edge: str
    round: float = 3.0
    line: float = 0.8


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text; `y` is its middle."""

    x: float
    y: float
    text: str
    size: float = 8.0
    bold: bool = False
    align: Align = "left"
    colour: str = "#222222"

    @property
    def width(self) -> float:
        """About how wide it is."""
        return text_width(self.text, self.size, self.bold)


@dataclass(frozen=True, slots=True)
class Wire:
    """A line through `points`, with a head at its end where `arrow`."""

    points: tuple[tuple[float, float], ...]
    arrow: bool = True
    colour: str = "#444444"
    line: float = 1.0


@dataclass(frozen=True, slots=True)
class Disc:
    """A circle with a sign in it."""

    x: float
    y: float
    radius: float
    sign: str
    fill: str = "white"
    edge: str = "#222222"
    colour: str = "#222222"
    size: float = 9.0


Shape = Box | Words | Wire | Disc


@dataclass(frozen=True, slots=True)
class Sheet:
    """Shapes on a page of `width` x `height` points."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def moved(shapes: Sequence[Shape], right: float, down: float) -> list[Shape]:
    """Return `shapes` that many points further right and down."""
    result: list[Shape] = []
    for shape in shapes:
        match shape:
            case Box():
                result.append(replace(shape, left=shape.left + right, top=shape.top + down))
            case Wire():
                points = tuple((x + right, y + down) for x, y in shape.points)
                result.append(replace(shape, points=points))
            case Words() | Disc():
                result.append(replace(shape, x=shape.x + right, y=shape.y + down))
    return result


_EM = {
    **dict.fromkeys("ijlIJ'", 0.31),
    **dict.fromkeys(" ,.:;·/|f-", 0.36),
    **dict.fromkeys("rt()[]", 0.42),
    **dict.fromkeys("sczL_", 0.56),
    **dict.fromkeys("ACBKRVXZHNUDGOQ", 0.76),
    **dict.fromkeys("w×→=+<>M", 0.86),
    **dict.fromkeys("mW%", 0.99),
}
"""Widths in DejaVu Sans, matplotlib's font, in parts of its size; of all others, `_OTHER`."""
_OTHER, _BOLD = 0.645, 1.13


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return about how many points wide `text` is, and rather more than less."""
    ems = sum(_EM.get(letter, _OTHER) for letter in text)
    return ems * size * (_BOLD if bold else 1.0)
