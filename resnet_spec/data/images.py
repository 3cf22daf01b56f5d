"""Decode image files: JPEG, PNG and WebP, eight bits per channel, of a bounded size."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.data.archives import read_file
from resnet_spec.data.views import Pixels, View, central
from resnet_spec.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MOST_BYTES = 1 << 28
MOST_PIXELS = 1 << 26
_MODES = {1: "L", 3: "RGB"}
_EIGHT_BIT = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def read_image(path: Path, size: int, channels: int, view: View | None = None) -> Pixels:
    """Return the image file `path` as it is evaluated, uint8 [size, size, channels].

    See `views.central`. Raises DataError.
    """
    return central(decode(read_file(path, MOST_BYTES), channels, str(path)), size, view)


def decode(data: bytes, channels: int, where: str) -> Image.Image:
    """Return a decoded image of mode L (1 channel) or RGB (3); transparency is dropped.

    Orientation tags are ignored, as torchvision does. Raises DataError that begins with `where`.
    """
    if channels not in _MODES:
        raise DataError(f"{where}: can be read with 1 or 3 channels, and {channels} were asked for")
    image = _opened(data, where)
    if image.mode not in _EIGHT_BIT:
        raise DataError(f"{where}: has mode {image.mode}; convert it to 8 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow asks for this step, or warns.
    wanted = _MODES[channels]
    return image if image.mode == wanted else image.convert(wanted)


def channels_of(data: bytes, where: str) -> int:
    """Return 1 for a grey image and 3 for any other."""
    return 1 if _opened(data, where).mode in ("1", "L", "LA") else 3


def _opened(data: bytes, where: str) -> Image.Image:
    from PIL import Image

    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        if image.width * image.height <= MOST_PIXELS:
            image.load()
            return image
    except Exception as error:  # Decoders raise nearly anything on damaged files.
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
        raise DataError(
            f"{where}: is not a whole JPEG, PNG or WebP image{reason}; replace or remove it"
        ) from None
    raise DataError(f"{where}: has more than {MOST_PIXELS} pixels; make it smaller")
