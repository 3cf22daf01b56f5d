"""Batches: pinned draws, resuming anywhere, augmentation against a plain loop, prefetching."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resnet_spec.contract import Array, Batch
from resnet_spec.data import batches
from resnet_spec.data.boxes import CHOICES
from resnet_spec.data.dataset import ArraySplit
from resnet_spec.data.encoded import EncodedSplit
from resnet_spec.data.synthetic import load_synthetic
from resnet_spec.errors import DataError
from resnet_spec.ops import Dropout, DropPath
from resnet_spec.recipe import Recipe

NOISES = (
    Dropout("head.drop", (5,), (5,), rate=0.5),
    DropPath("layer1.0.drop_path", (4, 8, 8), (4, 8, 8), rate=0.2),
)


def make_split(samples: int = 23, size: int = 8) -> ArraySplit:
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (samples, size, size, 3), dtype=np.uint8)
    return ArraySplit(pixels, rng.integers(0, 10, samples), size)


def make_recipe(**changes: object) -> Recipe:
    return Recipe(**{"epochs": 1, "batch": 5, "seed": 3, **changes})


PADDED = make_recipe(augment={"pad": 2, "flip": True})


def digest(array: Array) -> str:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return hashlib.sha256(little.tobytes()).hexdigest()[:16]


def assert_equal(mine: Batch, other: Batch) -> None:
    for name in ("images", "labels", "indices", "crop", "flip"):
        a, b = getattr(mine, name), getattr(other, name)
        assert (a is None) == (b is None), name
        assert a is None or np.array_equal(a, b), name
    assert mine.noise.keys() == other.noise.keys()
    for name, values in mine.noise.items():
        assert np.array_equal(values, other.noise[name]), name


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (batches.permutation(1000, seed=1, epoch=2), "febea2cc08196ff3"),
        (batches.crop_offsets(1000, seed=1, epoch=2, pad=4), "a8e805ea35b1ebee"),
        (batches.flips(1000, seed=1, epoch=2), "0bcaed12dd3a2a38"),
        (batches.box_choices(np.arange(50), seed=1, epoch=2), "a361676b36251f4e"),
        (batches.noise(NOISES[0], 64, seed=1, step=2), "6873d458cc4e9c9a"),
        (batches.noise(NOISES[1], 64, seed=1, step=2), "40507c7ec9ebfde5"),
    ],
    ids=["permutation", "crop", "flip", "box", "dropout", "drop_path"],
)
def test_the_draws_are_pinned(array: Array, expected: str) -> None:
    """A change here changes what every recorded seed means."""
    assert digest(array) == expected


@pytest.mark.parametrize(
    "other",
    [
        batches.permutation(1000, seed=2, epoch=0),
        batches.permutation(1000, seed=1, epoch=1),
        np.arange(1000),
    ],
    ids=["seed", "epoch", "order"],
)
def test_a_permutation_depends_on_seed_and_epoch(other: NDArray[np.int64]) -> None:
    order = batches.permutation(1000, seed=1, epoch=0)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert (order != other).sum() > 900


def test_offsets_and_flips_are_evenly_spread() -> None:
    offsets = batches.crop_offsets(90_000, seed=0, epoch=0, pad=4)
    counts = np.histogram2d(offsets[:, 0], offsets[:, 1], bins=9, range=[[0, 9], [0, 9]])[0]
    assert counts.sum() == 90_000
    assert abs(counts - 90_000 / 81).max() < 5 * np.sqrt(90_000 / 81)
    assert abs(batches.flips(90_000, seed=0, epoch=0).mean() - 0.5) < 5 * 0.5 / 300


def test_noise_has_the_right_shape_values_and_mean() -> None:
    drop, path = (batches.noise(op, 4000, seed=0, step=0) for op in NOISES)
    assert drop.shape == (4000, 5) and path.shape == (4000,)
    assert drop.dtype == path.dtype == np.float32
    assert set(np.unique(drop)) == {0.0, 2.0}
    assert set(np.unique(path)) == {np.float32(0.0), np.float32(1.25)}
    assert abs(drop.mean() - 1.0) < 0.05 and abs(path.mean() - 1.0) < 0.05


def test_noise_depends_on_seed_step_and_name() -> None:
    base = batches.noise(NOISES[1], 200, seed=0, step=0)
    renamed = replace(NOISES[1], name="layer1.1.drop_path")
    for other in (
        batches.noise(NOISES[1], 200, seed=1, step=0),
        batches.noise(NOISES[1], 200, seed=0, step=1),
        batches.noise(renamed, 200, seed=0, step=0),
    ):
        assert not np.array_equal(base, other)


def test_an_epoch_holds_every_sample_at_most_once_and_drops_the_rest() -> None:
    split = make_split(23)
    assert batches.steps_per_epoch(23, 5) == 4
    epoch = list(batches.train_batches((), split, make_recipe(), 0, 4))
    indices = np.concatenate([batch.indices for batch in epoch])
    assert len(set(indices.tolist())) == 20
    for batch in epoch:
        assert np.array_equal(batch.images, split.pixels[batch.indices])
        assert np.array_equal(batch.labels, split.labels[batch.indices])
        assert batch.crop is None and batch.flip is None and not batch.noise


@pytest.mark.parametrize("first", [1, 3, 4, 6, 8, 11])
def test_a_step_s_batch_does_not_depend_on_where_the_run_began(first: int) -> None:
    split = make_split()
    whole = list(batches.train_batches(NOISES, split, PADDED, 0, 12))
    resumed = list(batches.train_batches(NOISES, split, PADDED, first, 12))
    assert len(resumed) == 12 - first
    for mine, other in zip(whole[first:], resumed, strict=True):
        assert_equal(mine, other)


def test_crops_and_flips_belong_to_the_sample() -> None:
    for step, batch in enumerate(batches.train_batches((), make_split(), PADDED, 0, 8)):
        crop = batches.crop_offsets(23, seed=3, epoch=step // 4, pad=2)
        flip = batches.flips(23, seed=3, epoch=step // 4)
        assert batch.crop is not None and batch.flip is not None
        assert np.array_equal(batch.crop, crop[batch.indices])
        assert np.array_equal(batch.flip, flip[batch.indices])


def test_one_pixel_of_padding_is_cropped_too() -> None:
    recipe = make_recipe(augment={"pad": 1})
    crops = [batch.crop for batch in batches.train_batches((), make_split(), recipe, 0, 8)]
    assert {*np.concatenate([crop for crop in crops if crop is not None]).flat} == {0, 1, 2}


def test_two_epochs_differ() -> None:
    split = make_split()
    first, second = (
        np.concatenate([b.indices for b in batches.train_batches((), split, PADDED, at, at + 4)])
        for at in (0, 4)
    )
    assert not np.array_equal(first, second)


def test_augmentation_is_pad_then_crop_then_mirror() -> None:
    split = make_split()
    seen = set[bool]()
    for batch in batches.train_batches((), split, PADDED, 0, 8):
        assert batch.crop is not None and batch.flip is not None
        choices = zip(batch.indices, batch.crop, batch.flip, batch.images, strict=True)
        for index, (y, x), flip, image in choices:
            expected = np.zeros((8, 8, 3), np.uint8)
            for row in range(8):
                for column in range(8):
                    source = (row + y - 2, (7 - column if flip else column) + x - 2)
                    if 0 <= source[0] < 8 and 0 <= source[1] < 8:
                        expected[row, column] = split.pixels[index][source]
            assert np.array_equal(image, expected)
            seen.add(bool(flip))
    assert seen == {True, False}


def test_augmentation_leaves_the_split_as_it_was() -> None:
    split = make_split()
    before = split.pixels.copy()
    list(batches.train_batches((), split, make_recipe(augment={"flip": True}), 0, 8))
    assert np.array_equal(split.pixels, before)


@pytest.mark.parametrize("channels", [1, 3])
def test_mirrored_images_are_others_than_those_that_were_given(channels: int) -> None:
    given = np.arange(2 * 3 * 4 * channels, dtype=np.uint8).reshape(2, 3, 4, channels)
    before = given.copy()
    found = batches.augmented(given, None, np.array([False, True]), pad=0)
    np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(found, np.stack([before[0], before[1, :, ::-1]]))


def test_a_split_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(DataError, match="batch = 5: must be at most the number of training ima"):
        next(batches.train_batches((), make_split(4), make_recipe(), 0, 1))


def jpeg_split(folder: Path, workers: int) -> EncodedSplit:
    rng = np.random.default_rng(1)
    files: list[str] = []
    for i in range(12):
        shape = (*rng.integers(40, 90, 2), 3)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        files.append(str(folder / f"{i}.jpg"))
        image.resize((shape[1] // 8, shape[0] // 8)).resize((shape[1], shape[0])).save(files[-1])
    labels = np.arange(12, dtype=np.int64)
    return EncodedSplit(files, labels, 32, 3, files.__getitem__, workers)


def test_batches_of_files_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    split = jpeg_split(tmp_path, workers=1)
    recipe = make_recipe(augment={"random_resized_crop": True, "flip": True})
    alone = list(batches.train_batches((), split, recipe, 0, 5))
    for workers in (2, 5):
        several = replace(split, workers=workers)
        for mine, other in zip(
            alone, batches.train_batches((), several, recipe, 0, 5), strict=True
        ):
            assert_equal(mine, other)
        for mine, other in zip(
            batches.test_batches(split, 5), batches.test_batches(several, 5), strict=True
        ):
            assert_equal(mine, other)
    # A sample gets another box in the next epoch.
    first, later = (
        {
            int(i): image
            for batch in part
            for i, image in zip(batch.indices, batch.images, strict=True)
        }
        for part in (alone[:2], alone[2:4])
    )
    both = first.keys() & later.keys()
    assert len(both) >= 8
    assert all(not np.array_equal(first[i], later[i]) for i in both)


def test_boxes_of_arrays_are_resized() -> None:
    recipe = make_recipe(augment={"random_resized_crop": True, "pad": 2})
    for split in (make_split(), load_synthetic(size=8, train=10).train):
        batch = next(batches.train_batches((), split, recipe, 0, 1))
        assert batch.images.shape == (5, 8, 8, 3) and batch.crop is None
        assert not np.array_equal(batch.images, split.images(batch.indices))


def test_box_choices_are_per_sample() -> None:
    some = batches.box_choices(np.array([7, 3]), seed=0, epoch=0)
    every = batches.box_choices(np.arange(8), seed=0, epoch=0)
    assert some.shape == (2, CHOICES)
    assert np.array_equal(some, every[[7, 3]])


def test_test_batches_are_in_order_and_the_last_one_is_short() -> None:
    split = make_split(23)
    found = list(batches.test_batches(split, 10))
    assert [len(batch) for batch in found] == [10, 10, 3]
    assert np.array_equal(np.concatenate([b.indices for b in found]), np.arange(23))
    assert np.array_equal(np.concatenate([b.images for b in found]), split.pixels)
    assert np.array_equal(np.concatenate([b.labels for b in found]), split.labels)


def test_prefetch_gives_the_same_items_in_order() -> None:
    split = make_split()
    expected = list(batches.train_batches(NOISES, split, PADDED, 0, 9))
    with batches.prefetch(batches.train_batches(NOISES, split, PADDED, 0, 9), depth=2) as ready:
        found = list(ready)
        assert next(ready, None) is None
    for mine, other in zip(expected, found, strict=True):
        assert_equal(mine, other)


def test_prefetch_works_ahead_but_no_further_than_its_depth() -> None:
    made: list[int] = []

    def count() -> Iterator[int]:
        for i in range(100):
            made.append(i)
            yield i

    with batches.prefetch(count(), depth=3) as ready:
        assert next(ready) == 0
        deadline = time.monotonic() + 5.0
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert len(made) == 5  # One taken, three ready, one waiting for its place.


def test_prefetch_stops_when_the_consumer_does() -> None:
    closed = threading.Event()

    def forever() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    before = threading.active_count()
    with batches.prefetch(forever(), depth=2) as ready:
        assert next(ready) == 1
    assert closed.is_set()
    assert threading.active_count() == before


def test_prefetch_raises_where_the_source_did() -> None:
    def breaks() -> Iterator[int]:
        yield 1
        raise DataError("row 1: broken")

    with batches.prefetch(breaks(), depth=2) as ready:
        assert next(ready) == 1
        with pytest.raises(DataError, match="row 1: broken"):
            next(ready)
    with pytest.raises(ZeroDivisionError), batches.prefetch(breaks(), depth=1) as ready:
        raise ZeroDivisionError  # The consumer's own error comes through too.
