"""Which training images are held out for validation: by class, drawn once, never trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from resnet_spec.data.dataset import Dataset
from resnet_spec.data.fingerprint import SplitPrint
from resnet_spec.data.held_out import HeldOut, hold_out
from resnet_spec.errors import DataError


def of_labels(labels: Sequence[int], classes: int | None = None) -> Dataset:
    """Return a dataset whose image i has the number i in its pixels."""
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    images[:] = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    names = [f"c{i}" for i in range(classes or max(labels) + 1)]
    pair = images, np.array(labels, np.int64)
    return Dataset.from_arrays("numbered", pair, (images[:2], np.array([0, 0])), names)


def numbers(split: Any) -> list[int]:
    """Return which images are in a split, by their pixels."""
    return split.images(np.arange(len(split)))[:, 0, 0, 0].tolist()


def test_the_parts_share_no_image_and_lose_none() -> None:
    data = of_labels([0, 1, 2] * 20)
    parted, held = hold_out(data, 0.25, batch=1)
    train, validation = numbers(parted.train), numbers(parted.validation)
    assert sorted(train + validation) == list(range(60))
    assert held.count == len(validation) == 15
    assert np.bincount(parted.validation.labels).tolist() == [5, 5, 5]  # type: ignore[union-attr]
    assert parted.train.labels.tolist() == [i % 3 for i in train]
    assert train == sorted(train) and validation == sorted(validation)
    assert numbers(parted.test) == numbers(data.test)


def test_which_images_they_are_is_written_down_here() -> None:
    """A seed means these, for as long as there are checkpoints that name them."""
    parted, held = hold_out(of_labels([0, 1] * 10), 0.2, batch=1)
    assert numbers(parted.validation) == WRITTEN
    assert held == HeldOut(0.2, 4, DIGEST)
    assert hold_out(of_labels([0, 1] * 10), 0.2, batch=1)[1] == held


WRITTEN = [2, 10, 13, 15]
DIGEST = "xxh3-128:baa032a17ac929301628412012d82e0c"


@pytest.mark.parametrize(
    ("counts", "fraction", "held"),
    [
        ([30, 30], 0.1, [3, 3]),  # Exact: a tenth of 30 is 3.
        ([10, 10], 0.25, [3, 2]),  # 5 in all; the draw decides whose is the third.
        ([9, 5], 0.5, [4, 3]),
        ([7, 1], 0.5, [4, 0]),  # The one image of a class is trained on.
        ([4, 4, 4, 4], 0.125, [1, 1, 0, 0]),
        ([2, 2], 0.99, [1, 1]),
        ([12], 0.3, [4]),  # 3.6 of a single class.
    ],
)
def test_a_class_gives_its_share_and_the_whole_is_the_fraction(
    counts: list[int], fraction: float, held: list[int]
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).tolist()
    parted, found = hold_out(of_labels(labels, len(counts)), fraction, batch=1)
    given = np.bincount(parted.validation.labels, minlength=len(counts))  # type: ignore[union-attr]
    assert sorted(given.tolist()) == sorted(held) and found.count == sum(held)
    shares = fraction * np.array(counts)
    assert all((np.floor(shares) <= given) & (given <= np.ceil(shares)))


def test_a_larger_fraction_holds_out_the_same_images_and_more() -> None:
    data = of_labels([0, 1, 2, 3] * 10)
    few, many = (set(numbers(hold_out(data, it, batch=1)[0].validation)) for it in (0.2, 0.5))
    assert few < many and len(many) == 20


def test_the_number_of_a_class_decides_nothing() -> None:
    labels = [0, 1, 2, 3] * 5
    renamed = [3 - label for label in labels]
    one, other = (hold_out(of_labels(it), 0.33, batch=1)[1] for it in (labels, renamed))
    assert one == other


def test_classes_that_validation_does_not_see_are_named_and_unknown_ones_are_trained_on() -> None:
    parted, _ = hold_out(of_labels([0] * 9 + [1, 2, 3, 4]), 0.34, batch=1)
    rule = "too few images for one to be held out for validation"
    assert parted.notes == (f"c1, c2, c3 and 1 more have {rule}",)
    labels = np.array([0, 1, -1, -1] * 5, np.int64)
    data = of_labels([0, 1, 0, 0] * 5)
    object.__setattr__(data.train, "labels", labels)
    parted, held = hold_out(data, 0.5, batch=1)
    assert held.count == 5 and parted.notes == ()
    assert (parted.train.labels < 0).sum() == 10
    assert set(parted.validation.labels.tolist()) == {0, 1}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fraction", "batch", "line"),
    [
        (0.0, 1, "--validation = 0.0: must be > 0 and < 1"),
        (1, 1, "--validation = 1: must be > 0 and < 1"),
        (float("nan"), 1, "--validation = nan: must be > 0 and < 1"),
        ("0.1", 1, "--validation = '0.1': must be a number"),
        (True, 1, "--validation = True: must be a number"),
        (0.001, 1, "--validation = 0.001: holds out none of 20 training images; raise it"),
        (0.5, 16, "--validation = 0.5: leaves 10 of 20 training images, fewer than batch = 16"),
    ],
)
def test_a_fraction_that_leaves_nothing_is_refused(fraction: Any, batch: int, line: str) -> None:
    with pytest.raises(DataError) as caught:
        hold_out(of_labels([0, 1] * 10), fraction, batch)
    assert str(caught.value).startswith(line)


def test_a_part_is_told_from_another_of_the_same_images() -> None:
    data = of_labels([0] * 20)
    parts = [hold_out(data, it, batch=1)[0].validation for it in (0.2, 0.25)]
    prints = {SplitPrint.of(it, 1).digest for it in (data.train, *parts) if it is not None}
    assert len(prints) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"fraction": 0.1, "count": 3},
        {"fraction": 2.0, "count": 3, "digest": "x"},
        {"count": 3, "digest": "x"},
        {"fraction": None, "count": 0, "digest": "x"},
    ],
)
def test_what_does_not_say_which_images_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="does not say which images"):
        HeldOut.from_dict(fields)
