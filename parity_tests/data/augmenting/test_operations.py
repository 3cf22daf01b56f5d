"""Operations on images against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resnet_spec.data.augmenting.choices import Choice, Filter
from resnet_spec.data.augmenting.operations import OPERATIONS, applied
from resnet_spec.data.views import image_of, pixels_of

GREY = np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 10 + 5


def done(
    pixels: NDArray[np.uint8],
    operation: str,
    magnitude: float = 0.0,
    fill: int = 0,
    filter: Filter = "nearest",
) -> NDArray[np.uint8]:
    """Return [H, W] of a grey image, which an RGB image of the same values must give, too."""
    grey = pixels.reshape(*pixels.shape[:2], 1)
    choices = [Choice(operation, magnitude, filter)]
    found = pixels_of(applied(image_of(grey), choices, (fill,)))
    colours = image_of(np.repeat(grey, 3, axis=2))
    assert np.array_equal(
        pixels_of(applied(colours, choices, (fill,) * 3)), np.repeat(found, 3, axis=2)
    )
    return found[:, :, 0]


def row(*values: int) -> NDArray[np.uint8]:
    return np.array([values], np.uint8)


@pytest.mark.parametrize(
    ("operation", "magnitude", "values", "expected"),
    [
        ("identity", 0, (0, 7, 255), (0, 7, 255)),
        ("posterize", 4, (0, 15, 16, 200, 255), (0, 0, 16, 192, 240)),
        ("posterize", 1, (0, 127, 128, 255), (0, 0, 128, 128)),
        ("posterize", 8, (0, 127, 255), (0, 127, 255)),
        ("posterize", 0, (0, 127, 255), (0, 0, 0)),
        ("solarize", 128, (0, 127, 128, 255), (0, 127, 127, 0)),
        ("solarize", 127.5, (127, 128), (127, 127)),
        ("solarize", 127, (126, 127), (126, 128)),
        ("solarize", 256, (0, 255), (0, 255)),
        ("solarize", 0, (0, 255), (255, 0)),
        ("solarize_add", 50, (0, 127, 128, 255), (50, 177, 128, 255)),
        ("solarize_add", 130, (0, 126, 127, 128), (130, 255, 255, 128)),
        ("invert", 0, (0, 100, 255), (255, 155, 0)),
        ("auto_contrast", 0, (50, 100, 150), (0, 127, 255)),
        ("auto_contrast", 0, (9, 9, 9), (9, 9, 9)),
        ("brightness", 0.5, (0, 100, 201), (0, 50, 100)),
        ("brightness", 1.5, (0, 100, 200), (0, 150, 255)),
        # The mean of these is 67.
        ("contrast", 0.0, (0, 100, 101), (67, 67, 67)),
        ("contrast", 2.0, (0, 100, 101), (0, 133, 135)),
        ("colour", 0.3, (0, 100, 200), (0, 100, 200)),
        ("sharpness", 2.0, (7, 7, 7), (7, 7, 7)),
        ("hue", 0.3, (0, 100, 200), (0, 100, 200)),
    ],
)
def test_values(
    operation: str, magnitude: float, values: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert done(row(*values), operation, magnitude).tolist() == [list(expected)]


def test_equalizing_two_values_takes_them_to_both_ends() -> None:
    """510 of 1020 pixels lie below the highest value: (1 + 510) // (510 // 255) = 255."""
    pixels = np.where(np.arange(1020) < 510, 10, 20).astype(np.uint8).reshape(30, 34)
    assert np.array_equal(done(pixels, "equalize"), np.where(pixels == 10, 0, 255))
    few = np.array([[10, 20], [20, 30]], np.uint8)  # Fewer pixels than values: nothing is done.
    assert np.array_equal(done(few, "equalize"), few)


def test_sharpness_is_away_from_a_mean_of_three_by_three_that_counts_the_centre_five_times() -> (
    None
):
    pixels = np.zeros((5, 5), np.uint8)
    pixels[2, 2] = 130
    smooth = done(pixels, "sharpness", 0.0)
    assert smooth[2, 2] == 50 and smooth[1, 1] == smooth[2, 3] == 10
    sharp = done(pixels, "sharpness", 1.5)
    assert sharp[2, 2] == 170 and sharp[1, 1] == 0
    assert np.array_equal(done(pixels, "sharpness", 1.0), pixels)


def test_colours_are_away_from_grey_and_hues_turn() -> None:
    red = image_of(np.full((1, 1, 3), (255, 0, 0), np.uint8))

    def one(operation: str, magnitude: float) -> list[int]:
        return pixels_of(applied(red, [Choice(operation, magnitude)], (0, 0, 0)))[0, 0].tolist()

    assert one("colour", 0.0) == [76, 76, 76]  # 0.299 of 255.
    assert one("colour", 1.0) == [255, 0, 0]
    assert one("hue", 1 / 3) == [0, 255, 0]
    assert one("hue", 0.25) == [132, 255, 0]  # 63 of 256; a turn is cut to whole 1/255.
    assert one("hue", 0.0) == [255, 0, 0]
    assert one("hue", -1 / 3)[1:] == [0, 255] and one("hue", -1 / 3)[0] < 10
    assert one("contrast", 0.0) == [76, 76, 76]


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_translations_go_right_and_down_and_fill_what_comes_in(shift: int) -> None:
    right = np.full((4, 4), 9, np.uint8)
    right[:, shift:] = GREY[:, : 4 - shift, 0]
    assert np.array_equal(done(GREY, "translate_x", shift, fill=9), right)
    down = np.full((4, 4), 9, np.uint8)
    down[shift:] = GREY[: 4 - shift, :, 0]
    assert np.array_equal(done(GREY, "translate_y", shift, fill=9), down)
    up = np.full((4, 4), 9, np.uint8)
    up[: 4 - shift] = GREY[shift:, :, 0]
    assert np.array_equal(done(GREY, "translate_y", -shift, fill=9), up)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    pixels = np.tile(row(0, 100, 200, 100), (4, 1))
    found = done(pixels, "translate_x", 0.5, filter="bilinear")
    assert found[1, 1:].tolist() == [50, 150, 150]
    assert not np.array_equal(found, done(pixels, "translate_x", 0.5, filter="bicubic"))


@pytest.mark.parametrize("filter", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (-90, 3), (180, 2), (0, 0)])
def test_right_angles_turn_against_the_clock(degrees: int, turns: int, filter: Filter) -> None:
    expected = np.rot90(GREY[:, :, 0], turns)
    assert np.array_equal(done(GREY, "rotate", degrees, filter=filter), expected)


def test_other_angles_turn_about_the_centre_and_fill_the_corners() -> None:
    pixels = np.zeros((9, 9), np.uint8)
    pixels[4, 4:] = 200  # A hand that points to the right,
    found = done(pixels, "rotate", 45, fill=99)
    assert found[4, 4] == 200
    assert found[2, 6] == 200 and found[6, 6] == 0  # and now up to the right.
    assert found[0, 0] == found[8, 8] == 99


def test_shears_start_at_the_top_left_corner() -> None:
    pixels = np.zeros((5, 5), np.uint8)
    pixels[1, 3] = 200
    # The middle of row 1 lies 1.5 below the corner; sources are a whole 1.5 to the right.
    found = done(pixels, "shear_x", 1.0, fill=9)
    assert found[1].tolist() == [0, 200, 0, 9, 9]
    assert found[4].tolist() == [9] * 5 and found[0].tolist() == [0, 0, 0, 0, 9]
    other = done(pixels, "shear_x", -1.0, fill=9)
    assert other[1].tolist()[:2] == [9, 0] and other[1].tolist().count(9) == 1
    assert np.array_equal(done(pixels.T, "shear_y", 1.0, fill=9), found.T)


def test_operations_are_applied_in_their_order() -> None:
    pixels = image_of(row(0, 100, 255)[:, :, None])
    both = [Choice("invert"), Choice("solarize_add", 50)]
    assert pixels_of(applied(pixels, both, (0,)))[0, :, 0].tolist() == [255, 155, 50]
    both.reverse()
    assert pixels_of(applied(pixels, both, (0,)))[0, :, 0].tolist() == [205, 105, 0]


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_keeps_size_and_mode_and_its_source(operation: str, mode: str) -> None:
    image = Image.effect_noise((7, 7), 60).convert(mode)
    before = image.tobytes()
    for magnitude in (0.0, 0.5, 3.0):
        found = applied(image, [Choice(operation, magnitude)], (3,) * len(mode))
        assert (found.mode, found.size) == (mode, (7, 7))
    assert image.tobytes() == before
