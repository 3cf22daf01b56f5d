"""Images as a network is trained on them: drawn and augmented by `batches`, in the run's order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Batch
from resnet_spec.data.absent import training_split
from resnet_spec.data.at_size import at_size
from resnet_spec.data.augmenting import box_of, choices_of
from resnet_spec.data.batches import steps_per_epoch, test_batches, train_batches
from resnet_spec.data.dataset import Dataset
from resnet_spec.data.draws import COPY
from resnet_spec.errors import DataError, problem
from resnet_spec.planning.costs_text import table
from resnet_spec.recipe import Recipe
from resnet_spec.showing.canvas import Tile, short, tiles_figure
from resnet_spec.showing.part import First


@dataclass(frozen=True, slots=True)
class Sample:
    """One image, uint8 [H, W, C], and the choices that made it.

    index: its place in the split. crop: (y, x) of its corner in the padded image, flip: whether it
    was mirrored, changes: what policy, jitter and erasing did, in their order; None where the
    recipe makes no such choice. mixed: of which class the image mixed in is, and how much of this
    one is left, 0..1.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    index: int
    label: str
    crop: tuple[int, int] | None
    flip: bool | None
    changes: str | None = None
    mixed: tuple[str, float] | None = None

    @property
    def title(self) -> str:
        """The class; of a mixed image both, each with its share."""
        return self.titled(str)

    def titled(self, shown: Callable[[str], str]) -> str:
        """Return `title` with each class's name as `shown` has it."""
        if self.mixed is None:
            return shown(self.label)
        other, share = self.mixed
        return f"{share:.0%} {shown(self.label)}, {1.0 - share:.0%} {shown(other)}"


def training_samples(data: Dataset, recipe: Recipe, count: int) -> list[Sample]:
    """Return the first `count` images that a run of `recipe` trains on, epoch after epoch.

    Raises DataError when the training split is smaller than a batch.
    """
    last = -(-count // recipe.batch)
    training_split(data)  # Raises where there is none.
    per_epoch = steps_per_epoch(len(data.train), recipe.batch)
    size = first_size(data, recipe)
    split = data.train if size == data.size else at_size(data.train, size)
    batches = train_batches((), split, recipe, 0, last, mean=data.mean)

    def told(step: int, row: int, index: int) -> str | None:
        place = row // (recipe.batch // recipe.augment.repeats) * COPY + index
        return _changes(recipe, step // per_epoch, place, size)

    return list(islice(_samples(batches, data.classes, told), count))


def first_size(data: Dataset, recipe: Recipe) -> int:
    """Return the size of the images that a run begins with."""
    return next(iter(recipe.augment.progressive), data.size)


def _changes(recipe: Recipe, epoch: int, place: int, size: int) -> str | None:
    """Return what is done to a sample beside crop and mirror; None: nothing ever is."""
    augment = recipe.augment
    if not augment.needs_colours and not augment.erase:
        return None
    sample = augment, recipe.seed, epoch, place, size
    done = [str(choice) for choice in choices_of(*sample)]
    if (box := box_of(*sample)) is not None:
        done.append(f"erased {box.height} x {box.width} at {box.top}, {box.left}")
    return "; ".join(done) or "nothing"


def evaluated_samples(data: Dataset, split: str, count: int) -> list[Sample]:
    """Return the first `count` images of `split`, test or validation, as they are evaluated.

    Raises DataError where the dataset has no validation part of its own.
    """
    if split not in data.splits:
        rule = f"{data.name} has no validation part of its own"
        raise DataError(problem("--split", split, rule, f"give {' or '.join(data.splits)}"))
    batches = test_batches(First(data.splits[split], count), count)
    return list(_samples(batches, data.classes, lambda step, row, index: None))


def _samples(
    batches: Iterator[Batch], names: Sequence[str], told: Callable[[int, int, int], str | None]
) -> Iterator[Sample]:
    for step, batch in enumerate(batches):
        for i, image in enumerate(batch.images):
            crop = None if batch.crop is None else batch.crop[i].tolist()
            mix = batch.mix
            yield Sample(
                pixels=image,
                index=int(batch.indices[i]),
                label=names[int(batch.labels[i])],
                crop=None if crop is None else (crop[0], crop[1]),
                flip=None if batch.flip is None else bool(batch.flip[i]),
                changes=told(step, i, int(batch.indices[i])),
                mixed=None if mix is None else (names[int(mix.labels[i])], float(mix.share[i])),
            )


def about(data: Dataset, split: str, recipe: Recipe | None) -> tuple[str, str]:
    """Return a heading and what was done to the images; recipe: None for evaluated ones."""
    size = data.size if recipe is None else first_size(data, recipe)
    heading = f"{data.name}, {split} images, {size} px"
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
    if augment.policy != "none":
        done.append(f"policy {augment.policy}")
    if augment.jitters:
        done.append("colours changed")
    if augment.erase:
        done.append(f"a box of {augment.erase:.0%} of the images erased")
    if augment.repeats > 1:
        done.append(f"{augment.repeats} times in a batch")
    if augment.mixes:
        ways = [name for name in ("mixup", "cutmix") if getattr(augment, name)]
        part = (
            ""
            if augment.mix_probability == 1.0
            else f" in {augment.mix_probability:.0%} of batches"
        )
        done.append(f"mixed by {' or '.join(ways)}{part}")
    what = ", ".join(done) or "not augmented"
    return heading, f"recipe {recipe.name}, seed {recipe.seed}, from the first step on: {what}"


def lines(samples: Sequence[Sample]) -> list[str]:
    """Return a table: index, class, crop (y, x), flip, and the changes where there may be some."""
    more = any(sample.changes is not None for sample in samples)
    rows = [("index", "class", "crop (y, x)", "flip", *(["changes"] if more else []))]
    for sample in samples:
        crop = "-" if sample.crop is None else f"{sample.crop[0]}, {sample.crop[1]}"
        flip = "-" if sample.flip is None else ("yes" if sample.flip else "no")
        row = f"{sample.index}", sample.title, crop, flip
        rows.append((*row, *([sample.changes or "-"] if more else [])))
    return table(rows, right=(0,))


def tiles(samples: Sequence[Sample]) -> list[Tile]:
    """Return each image titled with its class, or with both of a mixed one."""
    return [
        Tile(it.pixels, it.titled(lambda name, most=7 if it.mixed else 16: short(name, most)))
        for it in samples
    ]


def figure(samples: Sequence[Sample], heading: str, caption: str) -> Any:
    """Draw the grid."""
    return tiles_figure(tiles(samples), heading, caption)
