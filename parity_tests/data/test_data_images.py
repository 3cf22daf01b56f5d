"""Decoding, views and boxes, and image folders."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnet_spec.data import load_data
from resnet_spec.data.boxes import CHOICES, Box, random_box
from resnet_spec.data.images import decode, read_image
from resnet_spec.data.views import boxed, central
from resnet_spec.errors import DataError


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def bytes_of(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_folder(root: Path, test: str = "val", classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    for part, count in (("train", 3), (test, 2)):
        for label, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                kind = ("jpg", "png", "webp")[i]
                picture(60 + i, 50, seed=10 * label + i).save(root / part / name / f"{i}.{kind}")
    return root


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_lossless_files_are_decoded_exactly(kind: str) -> None:
    image = picture(9, 7)
    data = bytes_of(image, kind, lossless=True)
    assert np.array_equal(np.asarray(decode(data, 3, "x")), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize(("channels", "result"), [(1, "L"), (3, "RGB")])
def test_every_mode_of_eight_bits_is_read(mode: str, channels: int, result: str) -> None:
    data = bytes_of(picture(9, 7).convert(mode), "PNG")
    image = decode(data, channels, "x")
    assert (image.mode, image.size) == (result, (9, 7))


def test_a_palette_with_transparency_gives_no_warning() -> None:
    data = bytes_of(picture(9, 7).convert("P"), "PNG", transparency=bytes(range(200)))
    assert decode(data, 3, "x").mode == "RGB"


def test_the_view_is_torchvision_s_resize_and_centre_crop() -> None:
    """The figures are those of Resize(256), CenterCrop(224) on a 500 x 375 image."""
    image = picture(500, 375)
    scaled = image.resize((341, 256), Image.Resampling.BILINEAR)
    expected = scaled.crop((58, 16, 58 + 224, 16 + 224))
    assert np.array_equal(central(image, 224), np.asarray(expected))
    tall = central(image.transpose(Image.Transpose.ROTATE_90), 224)
    assert tall.shape == (224, 224, 3)


def test_a_small_view_has_no_margin() -> None:
    image = picture(32, 32)
    assert np.array_equal(central(image, 32), np.asarray(image))
    wide = picture(48, 32)
    assert np.array_equal(central(wide, 32), np.asarray(wide)[:, 8:40])


def test_read_image(tmp_path: Path) -> None:
    picture(40, 32).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", 16, 3).shape == (16, 16, 3)
    assert read_image(tmp_path / "a.png", 16, 1).shape == (16, 16, 1)
    with pytest.raises(DataError, match=r"b.png: cannot be read \(No such file or directory\)"):
        read_image(tmp_path / "b.png", 16, 3)
    with pytest.raises(DataError, match="can be read with 1 or 3 channels, and 4 were asked for"):
        read_image(tmp_path / "a.png", 16, 4)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is not a whole JPEG, PNG, .* image \(the file is empty\); replace or remove it"),
        (b"GIF89a hello", "is not a whole JPEG, PNG, WebP, BMP, TIFF, GIF or PPM image"),
        (bytes_of(picture(90, 90), "JPEG")[:500], "is not a whole JPEG.* image \\("),
        (bytes_of(picture(90, 90), "PNG")[:500], "is not a whole JPEG.* image"),
        (bytes_of(picture(90, 90), "WEBP")[:300], "is not a whole JPEG.* image"),
        (bytes_of(picture(9, 9), "SGI"), "is not a whole JPEG"),
        (bytes_of(Image.new("I;16", (4, 4)), "PNG"), "has mode I;16; convert it to 8 bits"),
        (bytes_of(Image.new("1", (9000, 9000)), "PNG"), "has more than 67108864 pixels"),
    ],
)
def test_bad_images_give_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=f"^photo: {reason}") as caught:
        decode(data, 3, "photo")
    assert "\n" not in str(caught.value)


def test_boxes_stay_inside_and_keep_their_area_and_aspect() -> None:
    rng = np.random.default_rng(0)
    areas: list[float] = []
    for choices in rng.random((2000, CHOICES)):
        box = random_box(375, 500, choices)
        assert box.top >= 0 and box.left >= 0 and box.height > 0 and box.width > 0
        assert box.top + box.height <= 375 and box.left + box.width <= 500
        areas.append(box.height * box.width / (375 * 500))
        assert 0.74 < box.width / box.height < 1.35
    assert 0.075 < min(areas) < 0.1 and 0.9 < max(areas) <= 1.0


def test_a_box_is_the_documented_arithmetic() -> None:
    choices = np.full(CHOICES, 0.5)
    # Area 0.54 of 100 x 200, aspect exp(0) = 1: a square of round(sqrt(10800)) = 104 does not fit
    # into 100 rows in any of the ten tries: the largest centre of aspect 4/3.
    assert random_box(100, 200, choices) == Box(0, 33, 100, 133)
    choices[2] = 0.25  # The second try: area 0.31, a square of round(sqrt(6200)) = 79.
    assert random_box(100, 200, choices) == Box(11, 61, 79, 79)
    assert random_box(100, 10, np.full(CHOICES, 0.999)) == Box(43, 0, 13, 10)


def test_the_largest_draw_stays_inside() -> None:
    choices = np.full(CHOICES, 0.5)
    choices[0], choices[-2:] = 0.0, np.nextafter(1.0, 0.0)
    assert random_box(64, 64, choices) == Box(64 - 18, 64 - 18, 18, 18)


def test_a_box_is_cut_and_resized() -> None:
    image = picture(40, 30)
    found = boxed(image, Box(5, 10, 20, 16), 8)
    expected = image.crop((10, 5, 26, 25)).resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(found, np.asarray(expected))
    assert np.array_equal(boxed(np.asarray(image), Box(5, 10, 20, 16), 8), found)


@pytest.mark.parametrize("test", ["val", "validation", "test"])
def test_an_image_folder(tmp_path: Path, test: str) -> None:
    make_folder(tmp_path / "insects", test)
    (tmp_path / "insects" / "train" / "ant" / "notes.txt").write_text("no image")
    data = load_data(tmp_path / "insects", size=32)
    assert (data.name, data.classes, data.size) == ("insects", ("ant", "bee"), 32)
    assert data.mean == (0.485, 0.456, 0.406) and data.std == (0.229, 0.224, 0.225)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    images = data.train.images(np.array([4, 0]))
    expected = central(picture(61, 50, seed=11), 32)
    assert np.array_equal(images[0], expected)  # A PNG, so exact.
    assert load_data(tmp_path / "insects").size == 224


def test_a_corrupt_jpeg_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    broken = tmp_path / "train" / "bee" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    data = load_data(tmp_path, size=32)
    with pytest.raises(DataError, match=r"train/bee/0.jpg: is not a whole JPEG"):
        data.train.images(np.arange(6))
    with pytest.raises(DataError, match=r"train/bee/0.jpg: is not a whole JPEG"):
        data.train.boxes(np.arange(6), np.full((6, CHOICES), 0.5))
    assert data.train.images(np.array([0, 1, 2])).shape == (3, 32, 32, 3)


def test_folders_that_do_not_fit(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "val" / "beee").mkdir()
    with pytest.raises(DataError, match=r"val/beee: is not a class of .*train; did you mean 'bee'"):
        load_data(tmp_path)
    (tmp_path / "val" / "beee").rmdir()
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(DataError, match=r"train/cat: holds no image; add .jpg, .jpeg, .png, .webp"):
        load_data(tmp_path)
