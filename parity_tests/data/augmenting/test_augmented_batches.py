"""Batches after policies, jitter and erasing: by sample, for any process, thread and first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import NETWORK

import resnet_spec
from resnet_spec.contract import Batch
from resnet_spec.data import augmenting
from resnet_spec.data.augmenting import applying, changed, choices_of
from resnet_spec.data.batches import share_of, train_batches
from resnet_spec.data.dataset import ArraySplit, Dataset, Images
from resnet_spec.describing.image_changes import POLICIES
from resnet_spec.errors import DataError
from resnet_spec.group import Group
from resnet_spec.recipe import Augment, Recipe

MEAN = (0.5, 0.25, 0.1)
EVERYTHING = {
    "policy": "randaugment_increasing",
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "erase": 0.5,
    "pad": 2,
    "flip": True,
}


def images_of(samples: int = 23, size: int = 12, channels: int = 3) -> Images:
    return np.random.default_rng(0).integers(0, 256, (samples, size, size, channels), np.uint8)


def batches(first: int, last: int, **more: Any) -> list[Batch]:
    recipe = Recipe(epochs=1, batch=6, seed=3, augment=EVERYTHING)
    split = ArraySplit(images_of(), np.arange(23) % 5, 12)
    return list(train_batches((), split, recipe, first, last, mean=MEAN, **more))


def test_a_batch_does_not_depend_on_where_the_run_began() -> None:
    for mine, other in zip(batches(0, 9)[5:], batches(5, 9), strict=True):
        assert np.array_equal(mine.images, other.images)
        assert np.array_equal(mine.indices, other.indices)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_have_the_rows_of_the_whole_batch(size: int) -> None:
    whole = batches(2, 5)
    for rank in range(size):
        group = Group(rank, size)
        for mine, every in zip(batches(2, 5, group=group), whole, strict=True):
            assert np.array_equal(mine.images, share_of(every, group).images)
            assert np.array_equal(mine.indices, share_of(every, group).indices)


def test_the_changes_come_after_crop_and_mirror_and_go_by_the_sample() -> None:
    split = ArraySplit(images_of(), np.arange(23) % 5, 12)
    plain = {"pad": 2, "flip": True}
    both = [
        next(train_batches((), split, Recipe(steps=1, batch=20, augment=it), 4, 5, mean=MEAN))
        for it in (plain, EVERYTHING)
    ]
    before, after = both
    assert np.array_equal(before.indices, after.indices)
    augment = Augment(**EVERYTHING)
    assert not np.array_equal(before.images, after.images)
    assert np.array_equal(changed(before.images, before.indices, augment, 0, 4, MEAN), after.images)
    order = np.random.default_rng(1).permutation(20)
    shuffled = changed(before.images[order], before.indices[order], augment, 0, 4, MEAN)
    assert np.array_equal(shuffled, after.images[order])


def test_the_same_image_is_changed_in_another_way_in_each_epoch() -> None:
    images = np.repeat(images_of(1), 8, axis=0)
    augment = Augment(policy="randaugment", brightness=0.5)
    first, second = (changed(images, np.arange(8), augment, 0, epoch) for epoch in (0, 1))
    assert np.unique(first.reshape(8, -1), axis=0).shape[0] == 8
    assert all(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_without_changes_images_are_handed_on() -> None:
    images = images_of()
    assert changed(images, np.arange(23), Augment(pad=1, flip=True), 0, 0) is images


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "none"])
def test_images_are_as_large_as_before_and_the_source_is_left_alone(policy: str) -> None:
    for channels in (1, 3):
        images = images_of(16, channels=channels)
        before = images.copy()
        augment = Augment(policy=policy, hue=0.2, saturation=0.5)
        found = changed(images, np.arange(16), augment, 0, 0, MEAN[:channels])
        assert found.shape == images.shape and found.dtype == np.uint8
        assert np.array_equal(images, before) and not np.array_equal(found, before)


def test_threads_change_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(7, size=72)
    fixed = images, np.arange(7), Augment(**EVERYTHING), 1, 2, MEAN
    found: list[Images] = []
    for workers in (1, 4):
        monkeypatch.setattr(applying, "cores", lambda workers=workers: workers)
        found.append(changed(*fixed))
    assert np.array_equal(found[0], found[1])


def test_what_is_erased_is_nearest_to_0_in_the_network() -> None:
    images = np.full((40, 12, 12, 3), 77, np.uint8)
    found = changed(images, np.arange(40), Augment(erase=0.5), 0, 0, MEAN)
    erased = (found != 77).any(-1)
    assert 8 <= erased.any((1, 2)).sum() <= 32
    assert {tuple(it) for it in found[erased].tolist()} == {(128, 64, 26)}  # 127.5, 63.75, 25.5
    for mask in erased[erased.any((1, 2))]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_erasing_takes_any_number_of_channels() -> None:
    images = np.full((4, 12, 12, 2), 9, np.uint8)
    found = changed(images, np.arange(4), Augment(erase=1.0), 0, 0, (2.0, -1.0))
    assert {tuple(it) for it in found[(found != 9).any(-1)].tolist()} == {(255, 0)}


@pytest.mark.parametrize("erase", [0.0, 1e-9])  # The second has the mean, and erases nothing.
def test_the_mean_shows_where_an_image_has_moved_away_in_one_policy_alone(erase: float) -> None:
    images = np.full((60, 12, 12, 3), 77, np.uint8)
    for policy, outside in (("randaugment_increasing", (128, 64, 26)), ("trivial", (0, 0, 0))):
        augment = Augment(policy=policy, erase=erase)
        found = changed(images, np.arange(60), augment, 0, 0, MEAN)
        moved = [
            i
            for i in range(60)
            if {it.operation for it in choices_of(augment, 0, 0, i, 12)}
            and {it.operation for it in choices_of(augment, 0, 0, i, 12)}
            <= {"rotate", "translate_x", "translate_y", "shear_x", "shear_y"}
        ]
        corners = {tuple(found[i, y, x].tolist()) for i in moved for y in (0, 11) for x in (0, 11)}
        assert len(moved) > 5 and outside in corners
        assert corners <= {outside, (77, 77, 77)} or policy == "randaugment_increasing"


def test_what_is_missing_or_undefined_is_said() -> None:
    images = images_of(2, channels=4)
    with pytest.raises(DataError) as caught:
        changed(images, np.arange(2), Augment(policy="trivial"), 0, 0)
    assert str(caught.value) == (
        "channels = 4: must be 1 or 3 for augment.policy; leave that out, or convert the data"
    )
    with pytest.raises(DataError, match=r"mean = \[\]: must be one number for each of 4 channels"):
        changed(images, np.arange(2), Augment(erase=1.0), 0, 0)


def test_a_run_refuses_such_data_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = images_of(channels=2), np.arange(23) % 2
    data = Dataset.from_arrays("pairs", (images, labels), (images, labels), ["no", "yes"])
    with pytest.raises(DataError, match="channels = 2: must be 1 or 3 for"):
        resnet_spec.train(
            NETWORK, "numpy", data=data, settings=["steps=1", "augment.policy=trivial"]
        )
    assert not list(tmp_path.iterdir())


def test_a_run_is_given_its_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means: list[tuple[float, ...]] = []

    def noted(*args: Any) -> Images:
        means.append(args[-1])
        return changed(*args)

    monkeypatch.setattr("resnet_spec.data.batches.changed", noted)
    images, labels = images_of(size=8), np.arange(23) % 2
    data = Dataset.from_arrays("pairs", (images, labels), (images, labels), ["no", "yes"])
    settings = ["steps=2", "batch=6", "augment.erase=0.5", "augment.policy=randaugment_increasing"]
    resnet_spec.train(NETWORK, "numpy", data=data, settings=settings, out=tmp_path / "run")
    assert means and set(means) == {data.mean}
    assert augmenting.changed is changed
