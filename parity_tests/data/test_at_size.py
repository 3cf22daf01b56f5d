"""Splits at another size, and evaluated by another part of their images."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnet_spec.data.at_size import Resized, at_size, view_of, viewed
from resnet_spec.data.class_matching import match_classes
from resnet_spec.data.dataset import ArraySplit, Dataset
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.held_out import Part
from resnet_spec.data.relabelled import relabelled
from resnet_spec.data.synthetic import load_synthetic
from resnet_spec.data.views import View, central
from resnet_spec.errors import DataError

ALL = np.arange(2)
CHOICES = np.full((2, 64), 0.5)
DRAW = np.random.default_rng(3)
PIXELS = DRAW.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
LABELS = np.array([0, 1])


def encoded(size: int) -> EncodedSplit:
    files = list[bytes]()
    for image in PIXELS:
        file = BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    return EncodedSplit(files, LABELS, size, 3, str)


def arrays(size: int) -> ArraySplit:
    return ArraySplit(PIXELS, LABELS, size)


@pytest.mark.parametrize("made", [encoded, arrays])
def test_images_are_those_of_a_split_that_was_made_so(made: Any) -> None:
    found, expected = at_size(made(16), 24), made(24)
    assert found.images(ALL).shape == (2, 24, 24, 3)
    assert np.array_equal(found.images(ALL), expected.images(ALL))
    assert np.array_equal(found.boxes(ALL, CHOICES), expected.boxes(ALL, CHOICES))
    assert np.array_equal(found.labels, LABELS)


@pytest.mark.parametrize("made", [encoded, arrays])
def test_a_crop_cuts_a_margin_off(made: Any) -> None:
    """At 32 pixels 0.8 is the centre of an image of 40, which is what the files have."""
    found = at_size(made(32), 32, view_of(32, 0.8)).images(ALL)
    assert np.array_equal(found, PIXELS[:, 4:36, 4:36])
    whole = at_size(made(32), 32, view_of(32, 1.0)).images(ALL)
    assert np.array_equal(whole, made(32).images(ALL))


def test_the_side_is_timm_s() -> None:
    assert view_of(224, None) is None
    for size, crop, side in ((224, 0.875, 256), (224, 0.95, 235), (160, 0.9, 177), (224, 1.0, 224)):
        view = view_of(size, crop)
        assert view is not None
        assert (view.side, view.crop) == (side, size)


def test_a_crop_that_would_make_huge_images_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"evaluation\.crop = 0\.001: makes images of 12,000 pixels"
    ):
        view_of(12, 0.001)
    assert view_of(8192, 1.0) is not None


def test_a_large_image_without_a_crop_has_the_margin_of_torchvision() -> None:
    big = Image.fromarray(np.tile(PIXELS[0], (3, 3, 1)))
    assert np.array_equal(central(big, 112), central(big, 112, view_of(112, 0.875)))
    assert not np.array_equal(central(big, 112), central(big, 112, view_of(112, 1.0)))


def test_parts_and_mapped_labels_stay() -> None:
    data = Dataset("two", ("a", "b"), 16, 3, (0.5,) * 3, (0.2,) * 3, arrays(16), arrays(16))
    matched = match_classes(("a", "b"), ("b", "a"), count=2, where="two", ignore=False)
    mapped = relabelled(data, matched).train
    whole: Any = Part(mapped, np.array([1]))
    part = at_size(whole, 24)
    assert part.labels.tolist() == [0]
    first = np.array([0])
    assert np.array_equal(part.images(first), arrays(24).images(np.array([1])))


def test_other_splits_are_resized_as_they_are_read() -> None:
    data = load_synthetic(16)
    found = at_size(data.train, 8)
    assert isinstance(found, Resized)
    assert found.images(ALL).shape == found.boxes(ALL, CHOICES).shape == (2, 8, 8, 3)
    assert len(found) == len(data.train)
    assert list(found.content()) == list(data.train.content())  # pyright: ignore
    assert at_size(data.train, 16, view_of(16, 0.5)).images(ALL).shape == (2, 16, 16, 3)


def test_a_view_of_published_weights_leaves_images_in_memory_whole() -> None:
    data = Dataset("two", ("a", "b"), 16, 3, (0.5,) * 3, (0.2,) * 3, arrays(16), encoded(80))
    found = viewed(replace(data, validation=arrays(16)), View(232, 224))
    assert found.train is data.train
    assert isinstance(found.test, EncodedSplit)
    assert found.test.view == View(232, 224)
    cut = viewed(replace(data, validation=arrays(16)), view_of(16, 0.8))
    assert cut.validation is not None
    assert np.array_equal(cut.train.images(ALL), cut.validation.images(ALL))
    assert not np.array_equal(cut.train.images(ALL), data.train.images(ALL))
