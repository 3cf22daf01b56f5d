"""The box of a random-resized-crop, from numbers drawn elsewhere.

Szegedy et al. 2015 as torchvision's `RandomResizedCrop` has it: 8-100 % of the area, aspect ratio
3/4-4/3 (uniform in its logarithm), ten tries, then the largest central box of an allowed aspect.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

AREA = (0.08, 1.0)
ASPECT = (3.0 / 4.0, 4.0 / 3.0)
TRIES = 10
CHOICES = 2 * TRIES + 2
"""Numbers per sample: area and aspect for each try, then the box's place (y, x)."""


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def random_box(height: int, width: int, choices: NDArray[np.float64]) -> Box:
    """Return the box that `choices`, float64 [CHOICES] in [0, 1), pick in a height x width image.

    The first try whose box fits counts.
    """
    drawn: list[float] = choices.tolist()
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for area_draw, aspect_draw in zip(drawn[0:-2:2], drawn[1:-2:2], strict=True):
        area = height * width * (AREA[0] + area_draw * (AREA[1] - AREA[0]))
        aspect = math.exp(low + aspect_draw * (high - low))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(drawn[-2] * (height - h + 1)), int(drawn[-1] * (width - w + 1))
            return Box(top, left, h, w)
    return _central(height, width)


def _central(height: int, width: int) -> Box:
    w, h = width, height
    if width / height < ASPECT[0]:
        h = min(round(width / ASPECT[0]), height)
    elif width / height > ASPECT[1]:
        w = min(round(height * ASPECT[1]), width)
    return Box((height - h) // 2, (width - w) // 2, h, w)
