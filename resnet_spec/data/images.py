"""Decode image files of the usual formats, eight bits per channel, of a bounded size."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from resnet_spec.data.archives import read_file
from resnet_spec.data.views import Pixels, View, central
from resnet_spec.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jfif", ".jpe"),
)
READ = "JPEG, PNG, WebP, BMP, TIFF, GIF or PPM"
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

    Orientation tags are ignored, as torchvision does; of several frames or pages the first counts.
    Raises DataError that begins with `where`.
    """
    if channels not in _MODES:
        raise DataError(f"{where}: can be read with 1 or 3 channels, and {channels} were asked for")
    return eight_bit(opened(data, where, load=True), channels, where)


def eight_bit(image: Image.Image, channels: int | None, where: str) -> Image.Image:
    """Return an image of mode L (1 channel) or RGB (3); None: of what is nearer to its own mode.

    Raises DataError that begins with `where` for one of more than eight bits per channel.
    """
    if image.mode not in _EIGHT_BIT:
        raise DataError(f"{where}: has mode {image.mode}; convert it to 8 bits per channel")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow asks for this step, or warns.
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA") else 3
    wanted = _MODES[channels]
    return image if image.mode == wanted else image.convert(wanted)


def opened(data: bytes, where: str, *, load: bool = False) -> Image.Image:
    """Return an image whose header is read; its pixels, too, where they are to be loaded.

    Raises DataError that begins with `where`.
    """
    from PIL import Image

    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
        if image.width * image.height <= MOST_PIXELS:
            if load:
                image.load()
            return image
    except Exception as error:  # Decoders raise nearly anything on damaged files.
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else f" ({error})"
        if not data:
            reason = " (the file is empty)"
        raise DataError(
            f"{where}: is not a whole {READ} image{reason}; replace or remove it"
        ) from None
    raise DataError(f"{where}: has more than {MOST_PIXELS} pixels; make it smaller")
