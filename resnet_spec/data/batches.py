"""Batches as a pure function of (seed, step): the same in every framework, resumable anywhere.

Step `s` is place `s % steps_per_epoch` of epoch `s // steps_per_epoch`. Which samples it holds,
their crops, flips, boxes and changes are drawn per (seed, epoch, sample); dropout noise per (seed,
step, op), and how a batch is mixed per (seed, step). No state is carried from one batch to the
next.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from queue import Empty, Queue
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Batch, Mix
from resnet_spec.data.augmenting import changed
from resnet_spec.data.boxes import CHOICES
from resnet_spec.data.dataset import Images, Places, Split
from resnet_spec.data.draws import COPY, Stream, below, bits, order, uniforms, words
from resnet_spec.data.mixing import Choice, choice_of, mixed, partners
from resnet_spec.errors import DataError, problem
from resnet_spec.group import ALONE, Group
from resnet_spec.ops import NoisyOp
from resnet_spec.recipe import Recipe

_T = TypeVar("_T")


def steps_per_epoch(samples: int, batch: int) -> int:
    """Return the whole batches in an epoch. Raises DataError when there is none."""
    if samples < batch:
        rule = f"must be at most the number of training images, {samples}"
        raise DataError(problem("batch", batch, rule, "lower it"))
    return samples // batch


def permutation(samples: int, seed: int, epoch: int) -> Places:
    """Return the order of the samples in an epoch, int64 [samples]."""
    return order(words(seed, epoch, Stream.PERMUTATION, samples))


def crop_offsets(samples: int, seed: int, epoch: int, pad: int, copy: int = 0) -> NDArray[np.int64]:
    """Return each sample's corner (y, x) in the padded image, 0..2 pad each: [samples, 2].

    copy: which of the times that a sample is in a batch.
    """
    drawn = words(seed, epoch, Stream.CROP, 2 * samples, place=copy)
    return below(drawn, 2 * pad + 1).reshape(-1, 2)


def flips(samples: int, seed: int, epoch: int, copy: int = 0) -> NDArray[np.bool_]:
    """Return which samples are mirrored in an epoch, [samples]."""
    return bits(words(seed, epoch, Stream.FLIP, samples, place=copy))


def box_choices(places: Places, seed: int, epoch: int) -> NDArray[np.float64]:
    """Return the numbers that pick each sample's box, [n, boxes.CHOICES] in [0, 1).

    places: of samples in their split; of copies of them, see `draws.COPY`.
    """
    drawn = [words(seed, epoch, Stream.BOX, CHOICES, place=i) for i in places.tolist()]
    return uniforms(np.stack(drawn))


def noise(op: NoisyOp, samples: int, seed: int, step: int) -> NDArray[np.float32]:
    """Return the factors of `op` at a step: 0 with probability `op.rate`, else 1 / (1 - rate).

    Shape [samples, C] for a Dropout and [samples] for a DropPath.
    """
    shape = (samples, *op.noise_shape)
    name = int.from_bytes(hashlib.sha256(op.name.encode()).digest()[:8], "little")
    drawn = uniforms(words(seed, step, Stream.NOISE, int(np.prod(shape)), place=name))
    kept = np.float32(1.0 / (1.0 - op.rate))
    return np.where(drawn >= op.rate, kept, np.float32(0.0)).reshape(shape)


def train_batches(
    noises: Sequence[NoisyOp],
    split: Split,
    recipe: Recipe,
    first_step: int,
    last_step: int,
    group: Group = ALONE,
    mean: Sequence[float] = (),
) -> Iterator[Batch]:
    """Yield the batches of the steps first_step..last_step - 1, counted from 0 over the whole run.

    noises: the ops that take noise, `plan.noises`. group: yields this process's share of each
    batch, which alone is read and augmented. mean: `plan.input.mean`, needed where the recipe
    fills with it. Raises DataError when the split is smaller than a batch or an image cannot be
    read.
    """
    rows = _rows_of(group, recipe.batch, recipe.accumulate)
    others = partners(rows, recipe.batch)
    per_epoch = steps_per_epoch(len(split), recipe.batch)
    drawn = _Epoch.draw(len(split), recipe, first_step // per_epoch)
    for step in range(first_step, last_step):
        epoch, place = divmod(step, per_epoch)
        if epoch != drawn.epoch:
            drawn = _Epoch.draw(len(split), recipe, epoch)
        choice = choice_of(recipe.augment, recipe.seed, step)
        shown = rows if choice is None else np.union1d(rows, others)
        batch = _augmented_batch(split, recipe, drawn, place, shown, mean)
        if choice is not None:
            own, other = (taken(batch, np.searchsorted(shown, which)) for which in (rows, others))
            batch = mixed_with(own, other, choice)
        factors = {op.name: noise(op, recipe.batch, recipe.seed, step)[rows] for op in noises}
        yield replace(batch, noise=factors)


def _augmented_batch(
    split: Split, recipe: Recipe, drawn: _Epoch, place: int, rows: Places, mean: Sequence[float]
) -> Batch:
    """Return these rows of the epoch's batch `place` with all that is done to each by itself."""
    indices, copies = drawn.at(place, rows, recipe)
    places = copies * COPY + indices
    crop = None if drawn.crop is None else drawn.crop[copies, indices]
    flip = None if drawn.flip is None else drawn.flip[copies, indices]
    if recipe.augment.random_resized_crop:
        images = split.boxes(indices, box_choices(places, recipe.seed, drawn.epoch))
    else:
        images = split.images(indices)
    images = augmented(images, crop, flip, recipe.augment.pad)
    return Batch(
        images=changed(images, places, recipe.augment, recipe.seed, drawn.epoch, mean),
        labels=split.labels[indices],
        indices=indices,
        crop=crop,
        flip=flip,
    )


def mixed_within(batch: Batch, recipe: Recipe, step: int) -> Batch:
    """Return a whole batch as the recipe mixes it at a step."""
    choice = choice_of(recipe.augment, recipe.seed, step)
    if choice is None:
        return batch
    return mixed_with(batch, taken(batch, partners(np.arange(len(batch)), len(batch))), choice)


def mixed_with(batch: Batch, others: Batch, choice: Choice) -> Batch:
    """Return `batch` with the images of `others`, as many, mixed in."""
    images, share = mixed(batch.images, others.images, choice)
    mix = Mix(labels=others.labels, share=np.full(len(batch), share))
    return replace(batch, images=images, mix=mix)


def share_of(batch: Batch, group: Group, parts: int = 1) -> Batch:
    """Return the rows of a whole batch that are this process's (see `Group.shares`)."""
    return taken(batch, _rows_of(group, len(batch), parts))


def _rows_of(group: Group, count: int, parts: int) -> Places:
    return np.concatenate([np.arange(count)[share] for share in group.shares(count, parts)])


def taken(batch: Batch, rows: Places) -> Batch:
    """Return these rows of a batch, in their order, with all that belongs to them."""
    return replace(
        batch,
        images=batch.images[rows],
        labels=batch.labels[rows],
        indices=batch.indices[rows],
        crop=None if batch.crop is None else batch.crop[rows],
        flip=None if batch.flip is None else batch.flip[rows],
        noise={name: factors[rows] for name, factors in batch.noise.items()},
        mix=None if batch.mix is None else Mix(batch.mix.labels[rows], batch.mix.share[rows]),
        teacher=None if batch.teacher is None else batch.teacher[rows],
    )


@dataclass(frozen=True)
class _Epoch:
    """The choices of one epoch, per sample of the split; None: not made.

    crop: [copies, samples, 2], flip: [copies, samples].
    """

    epoch: int
    order: Places
    crop: NDArray[np.int64] | None
    flip: NDArray[np.bool_] | None

    @classmethod
    def draw(cls, samples: int, recipe: Recipe, epoch: int) -> _Epoch:
        augment, seed = recipe.augment, recipe.seed
        cropped = augment.pad > 0 and not augment.random_resized_crop
        every = samples, seed, epoch
        copies = range(augment.repeats)
        crop = [crop_offsets(*every, augment.pad, copy) for copy in copies] if cropped else None
        flip = [flips(*every, copy) for copy in copies] if augment.flip else None
        return cls(
            epoch=epoch,
            order=permutation(*every),
            crop=None if crop is None else np.stack(crop),
            flip=None if flip is None else np.stack(flip),
        )

    def at(self, place: int, rows: Places, recipe: Recipe) -> tuple[Places, Places]:
        """Return which sample each of these rows of a batch is, and which copy of it.

        Copies stand as far apart as there are samples in the batch: processes, parts of a batch
        and what is mixed with its neighbour have other images.
        """
        samples = recipe.batch // recipe.augment.repeats
        copies, within = np.divmod(rows, samples)
        return self.order[place * samples + within], copies


def augmented(
    images: Images, crop: NDArray[np.int64] | None, flip: NDArray[np.bool_] | None, pad: int
) -> Images:
    """Return `images`, uint8 [N, H, W, C], padded with zeros, cropped back and mirrored."""
    count, height, width, channels = images.shape
    if crop is not None:
        padded = np.zeros((count, height + 2 * pad, width + 2 * pad, channels), images.dtype)
        padded[:, pad : pad + height, pad : pad + width] = images
        images = np.empty_like(images)
        # A loop of block copies: three times as fast as one gather of single pixels.
        for i, (y, x) in enumerate(crop.tolist()):
            images[i] = padded[i, y : y + height, x : x + width]
    if flip is not None:
        images = images.copy() if crop is None else images
        images[flip] = _mirrored(images[flip])
    return images


def _mirrored(images: Images) -> Images:
    """Return images from right to left; channel by channel, which takes a third of the time."""
    found = np.empty_like(images)
    for channel in range(images.shape[3]):
        found[..., channel] = images[:, :, ::-1, channel]
    return found


def test_batches(split: Split, batch: int, which: Iterable[int] | None = None) -> Iterator[Batch]:
    """Yield the whole split in order, `batch` samples at a time; the last batch may be shorter.

    which: the places of those that are wanted; None: all.
    """
    for place in range(-(-len(split) // batch)) if which is None else which:
        start = place * batch
        indices = np.arange(start, min(start + batch, len(split)), dtype=np.int64)
        yield Batch(split.images(indices), split.labels[indices], indices)


@contextmanager
def prefetch(source: Iterator[_T], depth: int) -> Generator[Iterator[_T]]:
    """Give the items of `source`, made in a background thread, at most `depth` ahead.

    An exception of `source` is raised where its item would have come. On leaving, the thread ends
    after the item it is making and `source` is closed.
    """
    ready: Queue[tuple[_T] | BaseException | None] = Queue(depth)
    stop = threading.Event()
    worker = threading.Thread(target=_make, args=(source, ready, stop), daemon=True)
    worker.start()
    try:
        yield _taken(ready)
    finally:
        stop.set()
        while worker.is_alive():
            with suppress(Empty):
                ready.get(timeout=0.01)  # Makes room for a put that waits.
        worker.join()


def _make(
    source: Iterator[_T], ready: Queue[tuple[_T] | BaseException | None], stop: threading.Event
) -> None:
    try:
        for item in source:
            ready.put((item,))
            if stop.is_set():
                break
        ready.put(None)
    except BaseException as error:  # Raised again in the thread that takes the items.
        ready.put(error)
    finally:
        if isinstance(source, Generator):
            cast("Generator[_T]", source).close()


def _taken(ready: Queue[tuple[_T] | BaseException | None]) -> Iterator[_T]:
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item[0]
