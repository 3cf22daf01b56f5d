"""Colours and sizes are decided over all images of a dataset, not by the first one."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from parquet_files import encoded, structs, write
from PIL import Image

from resnet_spec.data import load_data
from resnet_spec.data.headers import header
from resnet_spec.data.images import opened
from resnet_spec.errors import DataError


def make(home: Path, train: list[bytes], test: list[bytes] | None = None) -> Path:
    for name, images in (("train", train), ("test", test or train)):
        labels = [i % 2 for i in range(len(images))]
        write(home / f"{name}.parquet", image=structs(images), label=labels)
    return home


@pytest.mark.parametrize("first", ["L", "LA", "1", "P", "RGBA", "RGB"])
@pytest.mark.parametrize("side", [6, 90])
def test_one_image_of_another_mode_does_not_decide(tmp_path: Path, first: str, side: int) -> None:
    odd = encoded(0, side, side, first)
    rest = [encoded(seed, side, side) for seed in range(1, 5)]
    is_grey = first in ("L", "LA", "1")
    note = ("2 of 9 images are grey, and get three equal channels",) if is_grey else ()
    for place, train in (("first", [odd, *rest]), ("last", [*rest, odd])):
        test = [odd, *rest[:3]] if place == "first" else [*rest[:3], odd]
        data = load_data(make(tmp_path / place, train, test), size=side)
        assert (data.channels, len(data.mean), data.notes) == (3, 3, note)
        found = data.train.images(np.array([train.index(odd), train.index(rest[0])]))
        assert np.array_equal(found[0, ..., 0], found[0, ..., 2]) == is_grey
        assert not np.array_equal(found[1, ..., 0], found[1, ..., 2])


def test_a_coloured_test_image_counts(tmp_path: Path) -> None:
    grey = [encoded(seed, mode="L") for seed in range(3)]
    assert load_data(make(tmp_path / "grey", grey)).channels == 1
    data = load_data(make(tmp_path / "mixed", grey, [encoded(5)]))
    assert data.channels == 3
    assert data.notes[0] == "3 of 4 images are grey, and get three equal channels"


def test_a_small_first_image_does_not_make_small_data(tmp_path: Path) -> None:
    images = [encoded(0, 6, 6), encoded(1, 90, 80), encoded(2, 80, 90)]
    for place, order in (("a", images), ("b", images[::-1])):
        data = load_data(make(tmp_path / place, order))
        assert (data.size, data.mean) == (224, (0.485, 0.456, 0.406))


def test_small_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    for place, order in (("a", (6, 6, 7)), ("b", (7, 6, 6))):
        images = [encoded(seed, side, 6) for seed, side in enumerate(order)]
        make(tmp_path / place, images)
        with pytest.raises(DataError, match=r"bring them to one size, or give --input-size"):
            load_data(tmp_path / place)
        data = load_data(tmp_path / place, size=6)
        assert data.train.images(np.arange(3)).shape == (3, 6, 6, 3)


def test_a_deep_image_is_refused_by_its_row(tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.new("I;16", (6, 6)).save(buffer, "PNG")
    make(tmp_path, [encoded(0), buffer.getvalue()])
    with pytest.raises(DataError, match=r"train.parquet: row 1: has mode I;16; convert it to 8"):
        load_data(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_headers_are_what_decoding_gives(kind: str, mode: str) -> None:
    data = encoded(3, 31, 17, mode, kind)
    found, image = header(data, "x"), opened(data, "x", load=True)
    assert (found.width, found.height) == image.size == (31, 17)
    if kind not in ("WEBP", "GIF"):  # They have no grey images; a GIF has a palette.
        assert found.grey == (mode == "L")


@pytest.mark.parametrize(
    "options", [{"progressive": True}, {"optimize": True}, {"exif": b"Exif\0\0" + b"\xff" * 999}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_headers_of_every_kind_of_jpeg(options: dict[str, object], mode: str) -> None:
    buffer = BytesIO()
    Image.new(mode, (31, 17)).save(buffer, "JPEG", **options)
    assert header(buffer.getvalue(), "x") == (31, 17, mode == "L")


def test_a_jpeg_with_fill_bytes_is_left_to_pillow() -> None:
    """A run of FF before a marker is allowed; read as a marker's length it would lead anywhere."""
    data = encoded(3, 31, 17, "RGB", "JPEG")
    decoy = b"\xff\xd8" + b"\xff" * 3 + data[3:]
    assert decoy[5:7] == data[3:5]
    assert header(decoy, "x") == header(data, "x") == (31, 17, False)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\0" * 9, b"\x89PNG\r\n"])
def test_headers_of_damaged_files_are_one_line(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^x: is not a whole JPEG") as caught:
        header(data, "x")
    assert "\n" not in str(caught.value)
