"""How an image of any shape becomes size x size: Pillow's filters, with antialiasing.

Evaluation takes the centre as torchvision does: the shorter side to size * 256 / 224, then a
central square, unless a `View` says otherwise. Small images (up to `SMALL` pixels) have no margin
to lose and keep the whole shorter side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.boxes import Box

if TYPE_CHECKING:
    from PIL import Image

SMALL = 64
"""Sizes up to this many pixels are read without a margin."""

Pixels = NDArray[np.uint8]
"""[H, W, C], C = 1 or 3."""


@dataclass(frozen=True, slots=True)
class View:
    """How images are evaluated: the shorter side to `side` pixels, of which the central `crop`.

    At another size than `crop` the side grows in proportion. interpolation: Pillow's filter.
    cuts_small: whether small images have a margin cut off, too.
    """

    side: int = 256
    crop: int = 224
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    cuts_small: bool = False


def central(image: Image.Image, size: int, view: View | None = None) -> Pixels:
    """Return the evaluation view, uint8 [size, size, C]; None is `View()`."""
    from PIL import Image

    view = view or View()
    is_whole = size <= SMALL and not view.cuts_small
    shorter = size if is_whole else size * view.side // view.crop
    width, height = image.size
    scaled = (
        (shorter, int(shorter * height / width))
        if width <= height
        else (int(shorter * width / height), shorter)
    )
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling[view.interpolation.upper()])
    # Python rounds halves to even, as torchvision's CenterCrop does.
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return pixels_of(image.crop((left, top, left + size, top + size)))


def boxed(pixels: Pixels | Image.Image, box: Box, size: int) -> Pixels:
    """Return `box` of an image, resized to uint8 [size, size, C]."""
    from PIL import Image

    image = image_of(pixels) if isinstance(pixels, np.ndarray) else pixels
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    return pixels_of(image.crop(corners).resize((size, size), Image.Resampling.BILINEAR))


def resized(pixels: Pixels, size: int) -> Pixels:
    """Return the whole image, resized to uint8 [size, size, C]."""
    from PIL import Image

    return pixels_of(image_of(pixels).resize((size, size), Image.Resampling.BILINEAR))


def image_of(pixels: Pixels) -> Image.Image:
    """Return a Pillow image of mode L or RGB."""
    from PIL import Image

    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def pixels_of(image: Image.Image) -> Pixels:
    """Return uint8 [H, W, C] of an image of mode L or RGB."""
    array = np.asarray(image, dtype=np.uint8)
    return array[:, :, None] if array.ndim == 2 else array
