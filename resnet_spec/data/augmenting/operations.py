"""Operations on one image, each a function of (image, magnitude, fill, filter) and nothing else.

Images are Pillow's, of mode L or RGB. fill: the colour, one uint8 per channel, of what comes in
from outside. `choices.Choice` says what a magnitude means. Pixels are moved, blended and stretched
by Pillow; what looks each value up in a table is done here, and exact.

- shear: sources are (x + m y, y) and (x, y + m x), from the top left corner, as in AutoAugment.
- rotate: about the centre (width / 2, height / 2), and not made larger.
- brightness, contrast, colour, sharpness: Pillow's `ImageEnhance`, an extrapolation from black, the
  mean grey, the grey image, and Pillow's 3x3 smoothing.
- auto_contrast, equalize: Pillow's `ImageOps`, each channel by itself, nothing cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.augmenting.choices import Choice, Filter

if TYPE_CHECKING:
    from PIL import Image

Fill = tuple[int, ...]
_VALUES = np.arange(256)
Operation = Callable[["Image.Image", float, Fill, Filter], "Image.Image"]


def identity(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Return the image."""
    return image


def shear_x(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Move each row to the left by `magnitude` times its height y."""
    return _moved(image, (1.0, magnitude, 0.0, 0.0, 1.0, 0.0), fill, filter)


def shear_y(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Move each column up by `magnitude` times its place x."""
    return _moved(image, (1.0, 0.0, 0.0, magnitude, 1.0, 0.0), fill, filter)


def translate_x(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Move the image to the right by pixels."""
    return _moved(image, (1.0, 0.0, -magnitude, 0.0, 1.0, 0.0), fill, filter)


def translate_y(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Move the image down by pixels."""
    return _moved(image, (1.0, 0.0, 0.0, 0.0, 1.0, -magnitude), fill, filter)


def rotate(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Turn the image against the clock by degrees."""
    from PIL import Image

    resample = Image.Resampling[filter.upper()]
    return image.rotate(magnitude, resample=resample, fillcolor=_colour(fill))


def brightness(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Multiply by a factor."""
    from PIL import ImageEnhance

    return ImageEnhance.Brightness(image).enhance(magnitude)


def contrast(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Multiply the distance from the mean grey, rounded, by a factor."""
    from PIL import ImageEnhance

    return ImageEnhance.Contrast(image).enhance(magnitude)


def colour(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Multiply the distance from the image in grey by a factor; grey images stay as they are."""
    from PIL import ImageEnhance

    return ImageEnhance.Color(image).enhance(magnitude)


def sharpness(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Multiply the distance from the smoothed image by a factor."""
    from PIL import ImageEnhance

    return ImageEnhance.Sharpness(image).enhance(magnitude)


def posterize(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Keep the highest bits, 0 to 8 of them."""
    lost = (1 << (8 - int(magnitude))) - 1
    return _looked_up(image, _VALUES & ~lost)


def solarize(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Invert values of at least `magnitude`."""
    return _looked_up(image, np.where(magnitude > _VALUES, _VALUES, 255 - _VALUES))


def solarize_add(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Add to values below 128, up to 255."""
    brighter = np.minimum(_VALUES + int(magnitude), 255)
    return _looked_up(image, np.where(_VALUES < 128, brighter, _VALUES))


def auto_contrast(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Stretch each channel to 0..255."""
    from PIL import ImageOps

    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Make the values of each channel about equally frequent."""
    from PIL import ImageOps

    return ImageOps.equalize(image)


def invert(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Turn each value v into 255 - v."""
    return _looked_up(image, 255 - _VALUES)


def hue(image: Image.Image, magnitude: float, fill: Fill, filter: Filter) -> Image.Image:
    """Turn hues by a fraction of a turn, in 1/256 of it; grey images stay as they are."""
    from PIL import Image

    if image.mode == "L":
        return image
    turned, saturation, value = image.convert("HSV").split()
    # The part of a turn is cut to whole 1/255, and 256 values are a turn: torchvision's arithmetic.
    moved = (np.asarray(turned).astype(np.int64) + int(magnitude * 255)) % 256
    parts = (Image.fromarray(moved.astype(np.uint8)), saturation, value)
    return Image.merge("HSV", parts).convert(image.mode)


OPERATIONS: dict[str, Operation] = {
    "identity": identity,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "solarize_add": solarize_add,
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "invert": invert,
    "hue": hue,
}
"""By `Choice.operation`."""


def applied(image: Image.Image, choices: Sequence[Choice], fill: Fill) -> Image.Image:
    """Return the image after `choices`, in their order."""
    for operation, magnitude, filter in choices:
        image = OPERATIONS[operation](image, magnitude, fill, filter)
    return image


def _moved(
    image: Image.Image,
    matrix: tuple[float, float, float, float, float, float],
    fill: Fill,
    filter: Filter,
) -> Image.Image:
    """Return the image whose pixel (x, y) is the source's (a x + b y + c, d x + e y + f)."""
    from PIL import Image

    return image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        resample=Image.Resampling[filter.upper()],
        fillcolor=_colour(fill),
    )


def _looked_up(image: Image.Image, table: NDArray[np.int64]) -> Image.Image:
    """Return the image with each value v as table[v].

    Pillow's `point` rounds every entry of its tables in Python, which takes longer than all of a
    small image.
    """
    from PIL import Image

    return Image.fromarray(table.astype(np.uint8)[np.asarray(image)])


def _colour(fill: Fill) -> int | tuple[int, ...]:
    return fill[0] if len(fill) == 1 else fill
