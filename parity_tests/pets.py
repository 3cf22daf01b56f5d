"""A folder of images that anybody can tell apart: a colour for each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cat": (250, 20, 20), "dog": (20, 250, 20), "fox": (20, 20, 250)}
SPEC = {
    "name": "tiny",
    "block": "basic",
    "stem": {"widths": [4], "kernel": 3, "stride": 1, "pool": False},
    "stages": [{"width": 4, "blocks": 1}],
}
SETTINGS = ("epochs=6", "batch=6", "schedule.rate=0.05", "seed=1")


def paint(
    root: Path,
    classes: Mapping[str, str] | None = None,
    count: int = 12,
    splits: tuple[str, ...] = ("train", "val"),
) -> Path:
    """Make `root` with `count` images of 8 x 8 of each class in each split, and return it.

    classes: the name of a class's folder, and which of `COLOURS` its images have.
    """
    for split in splits:
        for name, colour in (classes or {it: it for it in COLOURS}).items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((8, 8, 3), COLOURS[colour], np.uint8)
                pixels[i % 8] = 255 - i
                Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return root
