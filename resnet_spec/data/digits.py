"""`digits`: 1797 real handwritten digits that come with the package; the project's default.

Made by `scripts/make_digits.py`: scikit-learn's `load_digits` (8 x 8 pixels of 0..16), split once
into 1437 training and 360 test images, a fifth of every class.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np

from resnet_spec.data.dataset import ArraySplit, Dataset, Images

_SIZE = 16


def load_digits(size: int | None = None) -> Dataset:
    """Return the digits, scaled to 0..255 and doubled to 16 x 16, the grey value in 3 channels."""
    with files("resnet_spec.data").joinpath("digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        pixels, test = _prepared(stored["images"]), stored["test"]
        labels = stored["labels"].astype(np.int64)
        mean, std = float(stored["mean"]), float(stored["std"])
    size = size or _SIZE
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        size=size,
        channels=3,
        mean=(mean,) * 3,
        std=(std,) * 3,
        train=ArraySplit(pixels[~test], labels[~test], size),
        test=ArraySplit(pixels[test], labels[test], size),
    )


def _prepared(images: Images) -> Images:
    """Return uint8 [N, 16, 16, 3] from [N, 8, 8] of 0..16; every pixel becomes a 2 x 2 square."""
    scaled = ((images.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    doubled = scaled.repeat(2, axis=1).repeat(2, axis=2)
    return np.repeat(doubled[..., None], 3, axis=3)
