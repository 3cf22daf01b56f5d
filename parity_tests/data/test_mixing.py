"""Mixed images: what is drawn for a step, and what it makes of pixels and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import resnet_spec
from resnet_spec.contract import Batch
from resnet_spec.data.batches import mixed_within, taken, train_batches
from resnet_spec.data.boxes import Box
from resnet_spec.data.mixing import Choice, choice_of, cut_of, mixed, partners
from resnet_spec.group import Group
from resnet_spec.recipe import Augment, Recipe


def recipe(**augment: Any) -> Recipe:
    return Recipe(batch=24, steps=6, accumulate=2, augment={"pad": 2, "flip": True, **augment})  # pyright: ignore


def test_nothing_is_mixed_where_it_is_off() -> None:
    assert choice_of(Augment(), 0, 0) is None
    assert choice_of(Augment(mixup=0.2, mix_probability=0.0), 0, 0) is None


def test_a_share_is_a_function_of_seed_and_step() -> None:
    augment = Augment(mixup=0.2)
    shares = [choice_of(augment, seed, step) for seed in range(2) for step in range(50)]
    assert shares == [choice_of(augment, seed, step) for seed in range(2) for step in range(50)]
    assert len({choice.share for choice in shares if choice}) > 90
    # Pinned: a seed means the same run in every version.
    assert [choice.share for choice in shares[:3] if choice] == [
        0.287567138671875,
        6.103515625e-05,
        0.998504638671875,
    ]


@pytest.mark.parametrize("alpha", [0.001, 0.1, 0.2, 1.0, 4.0])
def test_shares_are_drawn_from_a_symmetric_beta(alpha: float) -> None:
    count = 2000
    choices = [choice_of(Augment(mixup=alpha), 3, step) for step in range(count)]
    shares = np.array([choice.share for choice in choices if choice])
    variance = 1.0 / (4.0 * (2.0 * alpha + 1.0))
    assert len(shares) == count
    assert shares.mean() == pytest.approx(0.5, abs=4.0 * np.sqrt(variance / count))
    assert shares.var() == pytest.approx(variance, rel=0.1)
    assert (shares * 2.0**16 == np.round(shares * 2.0**16)).all()


def test_how_many_batches_are_mixed_and_by_which_of_both() -> None:
    augment = Augment(mixup=0.2, cutmix=1.0, mix_probability=0.75, switch_probability=0.25)
    found = [choice_of(augment, 1, step) for step in range(2000)]
    mixes = [choice for choice in found if choice is not None]
    assert len(mixes) / 2000 == pytest.approx(0.75, abs=0.04)
    cuts = [choice for choice in mixes if choice.centre is not None]
    assert len(cuts) / len(mixes) == pytest.approx(0.25, abs=0.04)
    only = [choice_of(Augment(cutmix=1.0, switch_probability=0.0), 1, step) for step in range(9)]
    assert all(choice is not None and choice.centre is not None for choice in only)


def test_mixup_is_the_mean_rounded_to_the_nearest() -> None:
    own = np.array([10, 11, 255, 0], np.uint8).reshape(1, 2, 2, 1)
    others = np.array([20, 20, 255, 1], np.uint8).reshape(1, 2, 2, 1)
    images, share = mixed(own, others, Choice(0.75))
    assert share == 0.75
    assert images.ravel().tolist() == [12, 13, 255, 0]  # 12.5, 13.25, 255, 0.25
    assert images.dtype == np.uint8
    images, _ = mixed(own, others, Choice(1.0))
    assert np.array_equal(images, own)


def test_cutmix_is_a_box_of_the_other_image() -> None:
    own, others = np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 8, 8, 3), 9, np.uint8)
    choice = Choice(0.75, (0.5, 0.25))  # Half a side: 4 x 4 around (4, 2).
    assert cut_of(choice, 8, 8) == Box(top=2, left=0, height=4, width=4)
    images, share = mixed(own, others, choice)
    assert share == 1.0 - 16 / 64
    assert (images[:, 2:6, 0:4] == 9).all()
    assert images.sum() == 2 * 3 * 16 * 9
    assert own.sum() == 0


def test_a_box_is_cut_off_at_the_edge_and_the_share_says_so() -> None:
    choice = Choice(0.75, (0.0, 0.99))
    assert cut_of(choice, 8, 8) == Box(top=0, left=5, height=2, width=3)
    own, others = np.zeros((1, 8, 8, 1), np.uint8), np.ones((1, 8, 8, 1), np.uint8)
    images, share = mixed(own, others, choice)
    assert (images.sum(), share) == (6, 1.0 - 6 / 64)
    images, share = mixed(own, others, Choice(1.0, (0.5, 0.5)))
    assert (images.sum(), share) == (0, 1.0)


def test_image_i_is_mixed_with_the_one_before_it() -> None:
    assert partners(np.array([0, 1, 5]), 6).tolist() == [5, 0, 4]
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)
    batch = Batch(images, np.array([7, 8, 9]), np.arange(3))
    found = mixed_within(batch, Recipe(steps=1, augment={"mixup": 1.0}), 0)  # pyright: ignore
    assert found.mix is not None
    assert found.mix.labels.tolist() == [9, 7, 8]
    assert found.labels.tolist() == [7, 8, 9]


@pytest.mark.parametrize("augment", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_batches_of_a_run_are_mixed_within_themselves(augment: dict[str, Any]) -> None:
    data = resnet_spec.load_data("digits")
    plain = list(train_batches((), data.train, recipe(), 60, 63))
    found = list(train_batches((), data.train, recipe(**augment), 60, 63))
    for step, (one, other) in enumerate(zip(plain, found, strict=True), start=60):
        expected = mixed_within(one, recipe(**augment), step)
        assert expected.mix is not None and other.mix is not None
        assert not np.array_equal(one.images, other.images)
        assert np.array_equal(expected.images, other.images)
        assert np.array_equal(expected.mix.labels, other.mix.labels)
        assert np.array_equal(expected.mix.share, other.mix.share)
        for name in ("labels", "indices", "crop", "flip"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.parametrize("augment", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_processes_have_their_rows_of_what_one_has(augment: dict[str, Any]) -> None:
    data = resnet_spec.load_data("digits")
    fixed = (), data.train, recipe(**augment), 58, 61  # Across the end of an epoch.
    groups = [Group(rank, 3) for rank in range(3)]
    shares = [list(train_batches(*fixed, group)) for group in groups]
    for step, whole in enumerate(train_batches(*fixed)):
        for group in groups:
            rows = np.concatenate([np.arange(24)[cut] for cut in group.shares(24, 2)])
            expected, found = taken(whole, rows), shares[group.rank][step]
            assert expected.mix is not None and found.mix is not None
            for name in ("images", "labels", "indices", "crop", "flip"):
                assert np.array_equal(getattr(expected, name), getattr(found, name)), name
            assert np.array_equal(expected.mix.labels, found.mix.labels)
            assert np.array_equal(expected.mix.share, found.mix.share)
