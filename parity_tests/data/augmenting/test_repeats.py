"""Repeated augmentation: an image several times in its batch, each time by other draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnet_spec.contract import Batch
from resnet_spec.data.augmenting import changed
from resnet_spec.data.batches import (
    box_choices,
    crop_offsets,
    flips,
    permutation,
    share_of,
    train_batches,
)
from resnet_spec.data.dataset import ArraySplit
from resnet_spec.data.draws import COPY
from resnet_spec.group import Group
from resnet_spec.recipe import Augment, Recipe

SPLIT = ArraySplit(
    np.random.default_rng(0).integers(0, 256, (26, 12, 12, 3), np.uint8), np.arange(26) % 5, 12
)
CHANGES = {"policy": "trivial", "erase": 0.5, "pad": 2, "flip": True}
MEAN = (0.5, 0.5, 0.5)


def batches(first: int, last: int, group: Group | None = None, **augment: Any) -> list[Batch]:
    recipe = Recipe(epochs=1, batch=12, seed=3, augment={"repeats": 3, **augment})
    fixed = (), SPLIT, recipe, first, last
    return list(train_batches(*fixed, *([group] if group else []), mean=MEAN))


def test_an_epoch_has_as_many_steps_of_a_third_of_the_images() -> None:
    first, second, other = batches(0, 3)
    order = permutation(26, 3, 0)
    assert first.indices.tolist() == order[:4].tolist() * 3
    assert second.indices.tolist() == order[4:8].tolist() * 3
    assert other.indices.tolist() == permutation(26, 3, 1)[:4].tolist() * 3
    assert np.array_equal(first.images, SPLIT.pixels[first.indices])
    assert np.array_equal(first.labels, SPLIT.labels[first.indices])


def test_the_first_time_is_as_without_repeats_and_the_others_have_draws_of_their_own() -> None:
    (batch,) = batches(0, 1, **CHANGES)
    assert batch.crop is not None and batch.flip is not None
    once = Recipe(epochs=1, batch=4, seed=3, augment=CHANGES)
    alone = next(train_batches((), SPLIT, once, 0, 1, mean=MEAN))
    assert np.array_equal(batch.images[:4], alone.images)
    for copy in range(3):
        rows = slice(4 * copy, 4 * copy + 4)
        indices = batch.indices[rows]
        assert np.array_equal(batch.crop[rows], crop_offsets(26, 3, 0, 2, copy)[indices])
        assert np.array_equal(batch.flip[rows], flips(26, 3, 0, copy)[indices])
    for sample in range(4):
        assert len(np.unique(batch.images[sample::4].reshape(3, -1), axis=0)) == 3


def test_policies_and_boxes_are_drawn_for_each_copy() -> None:
    (batch,) = batches(0, 1, policy="trivial", random_resized_crop=True)
    places = batch.indices + np.repeat(np.arange(3), 4) * COPY
    boxes = SPLIT.boxes(batch.indices, box_choices(places, 3, 0))
    assert np.array_equal(batch.images, changed(boxes, places, Augment(policy="trivial"), 3, 0))
    assert len(np.unique(box_choices(places, 3, 0), axis=0)) == 12
    assert COPY == 2**32  # It is part of what a seed means.


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_the_batch_and_runs_go_on_anywhere(size: int) -> None:
    whole = batches(0, 5, **CHANGES)
    for mine, other in zip(batches(3, 5, **CHANGES), whole[3:], strict=True):
        assert np.array_equal(mine.images, other.images)
    for rank in range(size):
        for mine, every in zip(batches(0, 5, Group(rank, size), **CHANGES), whole, strict=True):
            assert np.array_equal(mine.images, share_of(every, Group(rank, size)).images)


def test_each_of_as_many_processes_has_every_image_once() -> None:
    for batch in (batches(0, 1, Group(rank, 3), **CHANGES)[0] for rank in range(3)):
        assert len(set(batch.indices.tolist())) == len(batch) == 4
