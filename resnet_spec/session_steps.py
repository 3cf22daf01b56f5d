"""The steps of a session where no framework is needed: batches checked and split, and their log.

Everything is NumPy and happens on the host, before a batch goes to a device and after the results
of a chunk came back: nothing here waits for a device. Backends import this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from resnet_spec.contract import Array, Batch, StepLog
from resnet_spec.errors import BackendError, problem
from resnet_spec.group import ALONE, Group
from resnet_spec.losses import soft_targets, targets_of
from resnet_spec.plan import Plan
from resnet_spec.recipe import Recipe


class Part(NamedTuple):
    """A batch, or one of the equal parts that `accumulate` splits it into; views of the batch's.

    images: [N, H, W, C], uint8 or normalised floating point. labels: int64 [N]; of mixed images
    those of the greater part. noise: factors by op, for each of `plan.noises` and in that order.
    targets: float64 [N, classes] where `recipe.needs_targets`, else None.
    soft: the teacher's targets, float64 [N, classes], where there is `recipe.loss.teacher`.
    """

    images: Array
    labels: NDArray[np.int64]
    noise: dict[str, Array]
    targets: NDArray[np.float64] | None = None
    soft: NDArray[np.float64] | None = None


class Compared(NamedTuple):
    """What the logits of a batch are compared with.

    labels: int64 [N]; of mixed images those of the greater part. targets, soft: as in `Part`.
    """

    labels: NDArray[np.int64]
    targets: NDArray[np.float64] | None = None
    soft: NDArray[np.float64] | None = None


class Intake:
    """What a session of `plan` takes in: it is made once, so that a step has little to check."""

    def __init__(
        self,
        plan: Plan,
        group: Group = ALONE,
        replicas: int = 1,
        recipe: Recipe | None = None,
    ) -> None:
        """Take in for `plan`.

        recipe: says what the images are compared with; see `compared_with`.
        replicas: among how many of this process's devices a part is shared out, each of which takes
        the statistics of its own images.
        """
        image = plan.input
        self._image = (image.height, image.width, image.channels)
        self._classes = plan.classes
        self._recipe = recipe
        wrong = None
        if recipe is not None:
            wrong = recipe.loss.problem_with(plan.classes, recipe.label_smoothing)
        if wrong is not None:
            raise BackendError(wrong)
        self._noise = {op.name: op.noise_shape for op in plan.noises}
        norms = {op.name: prod(op.in_shape[1:]) for op in plan.batch_norms}
        self._pixels = min(norms.values(), default=0)
        """Of the smallest norm that takes the batch's statistics."""
        self._shared = group.size if all(op.sync == "global" for op in plan.batch_norms) else 1
        """In how many processes the samples of a norm's statistics are."""
        self._replicas = replicas
        self._smallest = next((name for name, n in norms.items() if n == self._pixels), "")

    def images(self, batch: Batch) -> Array:
        """Return the images of `batch`. Raises BackendError where they do not fit the plan."""
        images, expected = batch.images, (len(batch), *self._image)
        if images.shape != expected:
            rule = f"must have shape {list(expected)}, [N, H, W, C]"
            raise BackendError(problem("batch.images", list(images.shape), rule))
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            rule = "must be uint8, or floating point where they are normalised already"
            raise BackendError(problem("batch.images", images.dtype, rule))
        return images

    def parts(self, batch: Batch, count: int = 1, *, labelled: bool = True) -> list[Part]:
        """Return `count` equal consecutive parts of a batch for training mode.

        labelled: whether the labels are used, and so must be classes of the plan.
        Raises BackendError for a batch that training mode cannot take in so many parts.
        """
        size = self._size(batch, count)
        images = self.images(batch)
        labels, targets, soft = Compared(batch.labels)
        if labelled:
            labels, targets, soft = compared_with(batch, self._recipe, self._classes)
        noise = self._factors(batch)
        cuts = [slice(start, start + size) for start in range(0, len(batch), size)]
        return [
            Part(
                images[cut],
                labels[cut],
                {name: factors[cut] for name, factors in noise.items()},
                None if targets is None else targets[cut],
                None if soft is None else soft[cut],
            )
            for cut in cuts
        ]

    def _size(self, batch: Batch, count: int) -> int:
        """Return the images of a part."""
        if len(batch) == 0:
            raise BackendError(problem("batch", 0, "must hold images in training"))
        if len(batch) % count:
            rule = f"must be a multiple of accumulate = {count}"
            raise BackendError(problem("batch", len(batch), rule))
        size = len(batch) // count
        if size * self._pixels * self._shared == self._replicas:
            rule = f"leaves {self._smallest} one value per channel, which has no variance"
            raise BackendError(problem("batch", len(batch), rule, "take more images"))
        return size

    def _factors(self, batch: Batch) -> Mapping[str, Array]:
        missing = [name for name in self._noise if name not in batch.noise]
        if missing:
            raise BackendError(f"batch.noise: lacks {', '.join(missing)}, which training needs")
        for name, shape in self._noise.items():
            given, expected = list(batch.noise[name].shape), [len(batch), *shape]
            if given != expected:
                where = f"batch.noise[{name!r}]"
                raise BackendError(problem(where, given, f"must have shape {expected}"))
        return {name: batch.noise[name] for name in self._noise}


def compared_with(batch: Batch, recipe: Recipe | None, classes: int) -> Compared:
    """Return what the logits [N, classes] of a batch are compared with.

    Raises BackendError for labels that are no classes, for mixed images and a teacher's logits
    without a recipe that reads them, and for a teacher whose logits are not there.
    """
    labels, mix = _checked_labels(batch.labels, len(batch), classes, "batch.labels"), batch.mix
    soft = _soft(batch, recipe, classes)
    if recipe is None or not recipe.needs_targets:
        if mix is not None:
            rule = "is given, and the session's recipe compares labels; set augment.mixup or cutmix"
            raise BackendError(f"batch.mix: {rule}")
        return Compared(labels)
    if mix is not None:
        others = _checked_labels(mix.labels, len(batch), classes, "batch.mix.labels")
        own = mix.share
        if own.shape != labels.shape or not ((own >= 0.0) & (own <= 1.0)).all():
            raise BackendError(f"batch.mix.share: must be {len(batch)} numbers in 0..1")
        labels = np.where(own >= 0.5, labels, others)
    targets = targets_of(recipe.loss, recipe.label_smoothing, shares_of(batch, classes))
    return Compared(labels, targets, soft)


def _soft(batch: Batch, recipe: Recipe | None, classes: int) -> NDArray[np.float64] | None:
    logits = batch.teacher
    if recipe is None or recipe.loss.teacher is None:
        if logits is not None:
            rule = "is given, and the session's recipe has none; set loss.teacher"
            raise BackendError(f"batch.teacher: {rule}")
        return None
    if logits is None:
        raise BackendError("batch.teacher: is missing, and the session's recipe has a teacher")
    if logits.shape != (len(batch), classes) or logits.dtype.kind != "f":
        rule = f"must be floating point of shape {[len(batch), classes]}"
        raise BackendError(problem("batch.teacher", f"{logits.dtype} {list(logits.shape)}", rule))
    return soft_targets(recipe.loss, logits)


def shares_of(batch: Batch, classes: int) -> NDArray[np.float64]:
    """Return which share of each image is of each class, [N, classes]; every row adds up to 1."""
    shares, rows = np.zeros((len(batch), classes)), np.arange(len(batch))
    if batch.mix is None:
        shares[rows, batch.labels] = 1.0
        return shares
    shares[rows, batch.mix.labels] = 1.0 - batch.mix.share
    shares[rows, batch.labels] += batch.mix.share
    return shares


def _checked_labels(
    labels: NDArray[np.int64], count: int, classes: int, where: str
) -> NDArray[np.int64]:
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        given = f"{labels.dtype} {list(labels.shape)}"
        rule = f"must be whole numbers of shape [{count}]"
        raise BackendError(problem(where, given, rule))
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        rule = f"must be in 0..{classes - 1} in training"
        raise BackendError(problem(where, labels[wrong][0], rule))
    return labels.astype(np.int64, copy=False)


def recipe_for_training(recipe: Recipe | None) -> Recipe:
    """Return the recipe of a session that is to train. Raises BackendError where it has none."""
    if recipe is None:
        raise BackendError("recipe = None: train needs one; give the session a recipe")
    return recipe


def steps(batches: Iterable[Batch], rates: NDArray[np.float64]) -> Iterator[tuple[float, Batch]]:
    """Yield a rate and a batch for every step, and take no batch that has no rate."""
    # `rates` comes first: zip then stops before it takes a batch too many.
    return zip(rates.tolist(), batches, strict=False)


def kept_steps(
    batches: Iterable[Batch],
    recipe: Recipe,
    rates: NDArray[np.float64],
    keeps: NDArray[np.float64] | None,
) -> Iterator[tuple[float, float, Batch]]:
    """Yield a rate, what is kept of the average, and a batch for every step; see `steps`."""
    return zip(rates.tolist(), kept(recipe, rates, keeps), batches, strict=False)


def kept(
    recipe: Recipe, rates: NDArray[np.float64], keeps: NDArray[np.float64] | None
) -> list[float]:
    """Return what each step keeps of the average; of no average, 0.

    Raises BackendError where there is not one for each rate, and where all are to be equal.
    """
    if keeps is None:
        return [recipe.ema.decay] * len(rates)
    if not recipe.ema.varies:
        raise BackendError("keeps: are given, and the recipe's average keeps the same every step")
    if len(keeps) != len(rates):
        rule = f"must be as many as the rates, {len(rates)}"
        raise BackendError(problem("keeps", len(keeps), rule))
    return keeps.tolist()


def step_log(
    loss: ArrayLike, correct: ArrayLike, count: ArrayLike, rates: NDArray[np.float64]
) -> StepLog:
    """Return the log of a chunk, one value of each for every step.

    Raises BackendError where there were fewer batches than rates.
    """
    images = np.asarray(count, np.int64)
    if len(images) < len(rates):
        rule = f"must hold one batch for each of {len(rates)} rates"
        raise BackendError(problem("batches", len(images), rule))
    return StepLog(np.asarray(loss, np.float64), np.asarray(correct, np.int64), images)


def filled(images: Array, size: int) -> Array:
    """Return `images` [N, H, W, C] with black ones after them, at least `size` in all.

    For frameworks that compile for one size of batch: the last one of a split is often smaller.
    """
    missing = size - len(images)
    if missing <= 0:
        return images
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
