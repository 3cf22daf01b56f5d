"""Colour jitter: brightness, contrast, saturation and hue by drawn factors in a drawn order.

As torchvision's `ColorJitter`: those that are off take no part.
"""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.data.augmenting.choices import Choice
from resnet_spec.describing.image_changes import ImageChanges

DRAWS = 8
"""Numbers that it takes: four places in the order, four factors."""


def jittered(changes: ImageChanges, drawn: Sequence[float]) -> tuple[Choice, ...]:
    """Return the changes of colour that `drawn`, DRAWS numbers in [0, 1), pick."""
    widths = (
        ("brightness", changes.brightness),
        ("contrast", changes.contrast),
        ("colour", changes.saturation),
        ("hue", changes.hue),
    )
    picked: list[tuple[float, Choice]] = []
    for (operation, width), place, part in zip(widths, drawn[:4], drawn[4:8], strict=True):
        low, high = (-width, width) if operation == "hue" else (max(0.0, 1 - width), 1 + width)
        if width:
            picked.append((place, Choice(operation, low + part * (high - low))))
    return tuple(choice for _, choice in sorted(picked, key=lambda it: it[0]))
