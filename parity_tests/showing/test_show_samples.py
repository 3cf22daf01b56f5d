"""What `resnet-spec show samples` says of images as they are trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from resnet_spec.data import load_data
from resnet_spec.data.augmenting import box_of, choices_of
from resnet_spec.data.batches import train_batches
from resnet_spec.data.draws import COPY
from resnet_spec.describing.recipes import load_recipe
from resnet_spec.errors import DataError
from resnet_spec.showing import samples


def test_samples_are_those_that_a_run_is_trained_on() -> None:
    data = load_data("digits")
    recipe = load_recipe("demo", ["batch=8", "augment.flip=true", "seed=3"])
    found = samples.training_samples(data, recipe, 12)
    batches = list(train_batches((), data.train, recipe, 0, 2))
    images = np.concatenate([batch.images for batch in batches])
    indices = np.concatenate([batch.indices for batch in batches])
    assert [it.index for it in found] == indices[:12].tolist()
    for it, image in zip(found, images, strict=False):
        assert np.array_equal(it.pixels, image)
        assert it.label == data.classes[int(data.train.labels[it.index])]
    flipped = next(it for it in found if it.flip)
    assert flipped.crop is not None
    raw = np.pad(data.train.images(np.array([flipped.index]))[0], ((1, 1), (1, 1), (0, 0)))
    y, x = flipped.crop
    assert np.array_equal(flipped.pixels, raw[y : y + 16, x : x + 16][:, ::-1])


def test_samples_say_what_a_policy_did_to_each() -> None:
    data = load_data("digits")
    changes = ["augment.policy=trivial", "augment.erase=0.5", "augment.repeats=2", "batch=4"]
    recipe = load_recipe("demo", changes)
    found = samples.training_samples(data, recipe, 12)
    batches = list(train_batches((), data.train, recipe, 0, 3, mean=data.mean))
    images = np.concatenate([batch.images for batch in batches])
    for row, (it, image) in enumerate(zip(found, images, strict=True)):
        assert np.array_equal(it.pixels, image)
        place = (row % 4 // 2) * COPY + it.index
        said = [str(choice) for choice in choices_of(recipe.augment, 0, 0, place, 16)]
        box = box_of(recipe.augment, 0, 0, place, 16)
        assert it.changes is not None and it.changes.split("; ")[:1] == said
        assert ("erased" in it.changes) == (box is not None)
        if box is not None:
            erased = image[box.top : box.top + box.height, box.left : box.left + box.width]
            assert set(erased.ravel().tolist()) == {round(255 * data.mean[0])}
    assert {"erased" in str(it.changes) for it in found} == {True, False}
    head, first, *_ = samples.lines(found)
    assert head.split()[-1] == "changes" and first.endswith(str(found[0].changes))
    assert samples.about(data, "train", recipe)[1].endswith(
        "cropped, policy trivial, a box of 50% of the images erased, 2 times in a batch"
    )
    jitter = load_recipe("demo", ["augment.hue=0.1"])
    assert samples.about(data, "train", jitter)[1].endswith("colours changed")


def test_samples_say_what_is_mixed_with_what() -> None:
    data = load_data("digits")
    mixing = ["augment.mixup=0.4", "augment.mix_probability=0.5", "batch=4"]
    recipe = load_recipe("demo", mixing)
    found = samples.training_samples(data, recipe, 24)
    batches = list(train_batches((), data.train, recipe, 0, 6))
    assert {batch.mix is None for batch in batches} == {True, False}
    for row, it in enumerate(found):
        mix, own = batches[row // 4].mix, data.classes[int(batches[row // 4].labels[row % 4])]
        if mix is None:
            assert it.title == own
            continue
        share, other = float(mix.share[row % 4]), data.classes[int(mix.labels[row % 4])]
        assert it.title == f"{share:.0%} {own}, {1.0 - share:.0%} {other}"
    assert [tile.title for tile in samples.tiles(found)] == [it.title for it in found]
    assert samples.about(data, "train", recipe)[1].endswith("mixed by mixup in 50% of batches")
    both = load_recipe("demo", ["augment.mixup=0.4", "augment.cutmix=1.0"])
    assert samples.about(data, "train", both)[1].endswith("mixed by mixup or cutmix")


def test_samples_as_a_table_and_as_tiles() -> None:
    data = load_data("digits")
    found = samples.training_samples(data, load_recipe("demo"), 2)
    head, *rows = samples.lines(found)
    assert head.split() == ["index", "class", "crop", "(y,", "x)", "flip"]
    assert len(rows) == 2 and all(row.endswith("-") for row in rows)
    assert [tile.title for tile in samples.tiles(found)] == [it.label for it in found]
    tested = samples.evaluated_samples(data, "test", 2)
    assert [(it.index, it.crop, it.flip) for it in tested] == [(0, None, None), (1, None, None)]
    with pytest.raises(DataError, match=r"--split = validation: digits has no validation part of"):
        samples.evaluated_samples(data, "validation", 2)
    own = samples.evaluated_samples(replace(data, validation=data.train), "validation", 1)
    assert np.array_equal(own[0].pixels, data.train.images(np.array([0]))[0])


def test_samples_say_how_they_were_made() -> None:
    data = load_data("digits")
    about = samples.about(data, "train", load_recipe("cifar-fast"))[1]
    assert "padded by 4 and cropped, mirrored half of the time" in about
    assert "a random box" in samples.about(data, "train", load_recipe("imagenet-90"))[1]
    plain = load_recipe("demo", ["augment.pad=0"])
    assert samples.about(data, "train", plain)[1].endswith("not augmented")
