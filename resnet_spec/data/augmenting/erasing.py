"""The box of random erasing, from numbers drawn elsewhere.

Zhong et al. 2020 as torchvision's `RandomErasing` has it: 2-33 % of the area, height / width
0.3-3.3 (uniform in its logarithm), ten tries for a box that is smaller than the image in both
directions, and none where all ten fail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from resnet_spec.data.boxes import Box

AREA = (0.02, 0.33)
ASPECT = (0.3, 3.3)
TRIES = 10
DRAWS = 2 * TRIES + 3
"""Numbers that it takes: whether; area and aspect for each try; the box's place (y, x)."""


def erased_box(height: int, width: int, probability: float, drawn: Sequence[float]) -> Box | None:
    """Return the box that `drawn`, DRAWS numbers in [0, 1), pick; None: nothing is erased."""
    if drawn[0] >= probability:
        return None
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for area_draw, aspect_draw in zip(drawn[1:-2:2], drawn[2:-2:2], strict=True):
        area = height * width * (AREA[0] + area_draw * (AREA[1] - AREA[0]))
        aspect = math.exp(low + aspect_draw * (high - low))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            top, left = int(drawn[-2] * (height - h + 1)), int(drawn[-1] * (width - w + 1))
            return Box(top, left, h, w) if h and w else None
    return None
