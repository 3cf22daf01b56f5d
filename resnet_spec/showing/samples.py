"""Images as a network is trained on them: drawn and augmented by `batches`, in the run's order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Batch
from resnet_spec.data.absent import training_split
from resnet_spec.data.batches import steps_per_epoch, test_batches, train_batches
from resnet_spec.data.dataset import Dataset
from resnet_spec.planning.costs_text import table
from resnet_spec.recipe import Recipe
from resnet_spec.showing.canvas import Tile, short, tiles_figure
from resnet_spec.showing.part import First


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, uint8 [H, W, C], and the choices that made it.

    index: its place in the split. crop: (y, x) of its corner in the padded image, flip: whether it
    was mirrored; None where the recipe makes no such choice.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    index: int
    label: str
    crop: tuple[int, int] | None
    flip: bool | None


def training_samples(data: Dataset, recipe: Recipe, count: int) -> list[Sample]:
    """Return the first `count` images that a run of `recipe` trains on, epoch after epoch.

    Raises DataError when the training split is smaller than a batch.
    """
    last = -(-count // recipe.batch)
    training_split(data)  # Raises where there is none.
    steps_per_epoch(len(data.train), recipe.batch)
    batches = train_batches((), data.train, recipe, 0, last)
    return list(islice(_samples(batches, data.classes), count))


def test_samples(data: Dataset, count: int) -> list[Sample]:
    """Return the first `count` test images, as they are evaluated."""
    return list(_samples(test_batches(First(data.test, count), count), data.classes))


def _samples(batches: Iterator[Batch], names: Sequence[str]) -> Iterator[Sample]:
    for batch in batches:
        for i, image in enumerate(batch.images):
            crop = None if batch.crop is None else batch.crop[i].tolist()
            yield Sample(
                pixels=image,
                index=int(batch.indices[i]),
                label=names[int(batch.labels[i])],
                crop=None if crop is None else (crop[0], crop[1]),
                flip=None if batch.flip is None else bool(batch.flip[i]),
            )


def about(data: Dataset, split: str, recipe: Recipe | None) -> tuple[str, str]:
    """Return a heading and what was done to the images; recipe: None for test images."""
    heading = f"{data.name}, {split} images, {data.size} px"
    if recipe is None:
        return heading, "as they are evaluated: in order, nothing drawn"
    augment = recipe.augment
    done: list[str] = []
    if augment.random_resized_crop:
        done.append("a random box of each, resized")
    elif augment.pad:
        done.append(f"padded by {augment.pad} and cropped")
    if augment.flip:
        done.append("mirrored half of the time")
    what = ", ".join(done) or "not augmented"
    return heading, f"recipe {recipe.name}, seed {recipe.seed}, from the first step on: {what}"


def lines(samples: Sequence[Sample]) -> list[str]:
    """Return a table: index, class, crop (y, x), flip."""
    rows = [("index", "class", "crop (y, x)", "flip")]
    for sample in samples:
        crop = "-" if sample.crop is None else f"{sample.crop[0]}, {sample.crop[1]}"
        flip = "-" if sample.flip is None else ("yes" if sample.flip else "no")
        rows.append((f"{sample.index}", sample.label, crop, flip))
    return table(rows, right=(0,))


def tiles(samples: Sequence[Sample]) -> list[Tile]:
    """Return each image titled with its class."""
    return [Tile(sample.pixels, short(sample.label)) for sample in samples]


def figure(samples: Sequence[Sample], heading: str, caption: str) -> Any:
    """Draw the grid."""
    return tiles_figure(tiles(samples), heading, caption)
