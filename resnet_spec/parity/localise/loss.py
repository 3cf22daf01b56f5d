"""The loss, given the logits that a side had: kind, targets, teacher, mean and gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch
from resnet_spec.losses import Loss, soft_targets, targets_of
from resnet_spec.parity.comparison import difference
from resnet_spec.parity.floors import UNIT, Floors
from resnet_spec.parity.localise.evidence import (
    Hypothesis,
    explain,
    median_of,
    multiples,
    number,
    rounded,
)
from resnet_spec.parity.side import Side
from resnet_spec.reporting.report import Finding
from resnet_spec.session_steps import shares_of

NODE = "loss"
LIMIT = 16.0
"""Floors: the softmax of float32 logits is good to a few roundings of the largest of them."""


@dataclass(frozen=True)
class Given:
    """What the loss of a batch is computed from. logits, shares, teacher: [N, K]."""

    loss: Loss
    smoothing: float
    logits: Array
    shares: NDArray[np.float64]
    teacher: NDArray[np.float32] | None = None

    @property
    def targets(self) -> NDArray[np.float64]:
        """What the logits are compared with, [N, K]."""
        return targets_of(self.loss, self.smoothing, self.shares)

    def slope(self) -> Array:
        """Return the gradient of the mean loss by the logits."""
        hard = slope(self.loss.kind, self.logits, self.targets)
        if self.teacher is None:
            return hard
        weight, heat = self.loss.teacher_weight, self.loss.temperature
        soft = slope("cross_entropy", self.logits / heat, soft_targets(self.loss, self.teacher))
        return (1.0 - weight) * hard + weight * heat * soft

    def with_loss(self, **settings: Any) -> Given:
        """Return the same with other settings of the loss."""
        return replace(self, loss=self.loss.model_copy(update=settings))


def search_loss(got: Side, floors: Floors) -> Finding | None:
    """Return what is wrong with the gradient by the logits, given the logits; None for nothing."""
    setup = floors.expected.setup
    last, batch = setup.plan.observed[-1], setup.batches[0]
    logits, found = got.activations.get(last), got.node_gradients.get(last)
    if logits is None or found is None or logits.shape != (len(batch), setup.plan.classes):
        return None
    shares = shares_of(batch, setup.plan.classes)
    recipe = setup.recipe
    own = recipe.loss, recipe.label_smoothing, logits.astype(np.float64), shares
    given = Given(*own, teacher=batch.teacher)
    expected = given.slope()
    floor = _floor(got, given, expected)
    error = multiples(found, expected, floor)
    if error <= LIMIT:
        return None
    tried = _hypotheses(given, batch, found)
    cause = explain(found, expected, floor, 2.0 * LIMIT, tried)
    name = "" if cause is None else cause.cause
    detail = f"its gradient by the logits is off by {error:.3g} times the floor"
    if cause is not None:
        detail = f"{cause.cause}: {cause.detail}"
    return Finding(got.backend, "backward", NODE, error, name, detail)


def _floor(got: Side, given: Given, expected: Array) -> float:
    dtype = np.float64 if got.precision == "float64" else np.float32
    nudged = [
        replace(given, logits=np.nextafter(given.logits.astype(dtype), dtype(way))).slope()
        for way in (-np.inf, np.inf)
    ]
    return max(UNIT[got.precision], *(difference("", n, expected).max_rel for n in nudged))


def slope(kind: str, logits: Array, targets: Array) -> Array:
    """Return the gradient of the mean loss of `kind` by `logits` [N, K]; see `losses.Loss`."""
    if kind == "binary_cross_entropy":
        return (_sigmoid(logits) - targets) / logits.size
    return (_softmax(logits) * targets.sum(1, keepdims=True) - targets) / len(logits)


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _sigmoid(logits: Array) -> Array:
    decay = np.exp(-np.abs(logits))
    return np.where(logits >= 0.0, 1.0, decay) / (1.0 + decay)


def _hypotheses(given: Given, batch: Batch, found: Array) -> Iterator[Hypothesis]:
    yield from _of_mixing(given, batch)
    yield from _of_smoothing(given, batch, found)
    yield from _of_settings(given)
    yield from _of_teacher(given)
    count, classes = given.logits.shape
    yield Hypothesis(
        "loss summed", "the sum over the batch, not the mean", lambda: count * given.slope()
    )
    if given.loss.kind == "binary_cross_entropy":
        detail = "the sum over the classes, not the mean"
        yield Hypothesis("loss summed", detail, lambda: classes * given.slope())
    for shift in (1, -1):
        moved = replace(given, shares=np.roll(given.shares, shift, axis=0))
        yield Hypothesis("labels", "those of another image", moved.slope)


def _of_mixing(given: Given, batch: Batch) -> Iterator[Hypothesis]:
    """Yield what else may have been made of the labels of mixed images."""
    mix, classes = batch.mix, given.logits.shape[1]
    if mix is None:
        return
    others = {
        "the two labels of an image are swapped": replace(mix, share=1.0 - mix.share),
        "the label of an image's own part alone": None,
        "both labels count the same": replace(mix, share=np.full(len(batch), 0.5)),
    }
    for detail, other in others.items():
        shares = shares_of(replace(batch, mix=other), classes)
        yield Hypothesis("mixed labels", detail, replace(given, shares=shares).slope)


def _of_smoothing(given: Given, batch: Batch, found: Array) -> Iterator[Hypothesis]:
    cause, smoothing = "label smoothing form", given.smoothing
    classes = given.logits.shape[1]

    def others() -> Array:
        spread = smoothing * (1.0 - given.shares) / (classes - 1)
        shares = (1.0 - smoothing) * given.shares + spread
        return replace(given, smoothing=0.0, shares=shares).slope()

    detail = f"{number(smoothing)} is spread over the other classes, not over all"
    if smoothing:
        yield Hypothesis(cause, detail, others)
    solved = 0.0
    if given.loss == Loss() and batch.mix is None:
        solved = _smoothing(given.logits, batch.labels, found)
    for value in (0.0, *rounded(solved)):
        if 0 <= value < 1 and value != smoothing:
            detail = f"smoothing {number(value)} instead of {number(smoothing)}"
            yield Hypothesis(cause, detail, replace(given, smoothing=value).slope)


def _smoothing(logits: Array, labels: NDArray[np.int64], found: Array) -> float:
    """Solve the gradient at the classes that are not the label for the smoothing."""
    target = _softmax(logits) - found.astype(np.float64) * len(logits)
    other = np.ones(logits.shape, bool)
    other[np.arange(len(logits)), labels] = False
    return median_of(target[other]) * logits.shape[1]


_WORDS = {"cross_entropy": "cross-entropy", "binary_cross_entropy": "binary cross-entropy"}


def _of_settings(given: Given) -> Iterator[Hypothesis]:
    """Yield the other losses, and this one without what is set of it."""
    loss = given.loss
    own, other = "cross_entropy", "binary_cross_entropy"
    if loss.kind == other:
        own, other = other, own
    detail = f"{_WORDS[other]}, not {_WORDS[own]}"
    swapped = given.with_loss(kind=other, threshold=None, class_weights=())
    yield Hypothesis("loss kind", detail, swapped.slope)
    if loss.threshold is not None:
        detail = f"targets are taken as they are, without the threshold {number(loss.threshold)}"
        yield Hypothesis("loss threshold", detail, given.with_loss(threshold=None).slope)
    if loss.class_weights:
        alike = given.with_loss(class_weights=())
        yield Hypothesis("class weights", "all classes count the same", alike.slope)
        weights = np.array(loss.class_weights)
        yield Hypothesis(
            "class weights",
            "the mean is over the weights of the images, not over the images",
            lambda: given.with_loss(
                class_weights=tuple(weights / (given.shares @ weights).mean())
            ).slope(),
        )


def _of_teacher(given: Given) -> Iterator[Hypothesis]:
    """Yield what else may have been made of a teacher's logits."""
    if given.teacher is None:
        return
    weight, heat = given.loss.teacher_weight, given.loss.temperature
    alone, unheated = given.with_loss(teacher_weight=0.0), given.with_loss(temperature=1.0)
    if heat != 1.0:
        taught = given.slope() - (1.0 - weight) * alone.slope()
        detail = f"the teacher's part is not multiplied by the square of {number(heat)}"
        unsquared = (1.0 - 1.0 / heat**2) * taught
        yield Hypothesis("temperature", detail, lambda: given.slope() - unsquared)
        detail = f"1 in the place of {number(heat)}"
        yield Hypothesis("temperature", detail, unheated.slope)
    if weight != 0.5:
        detail = f"{number(weight)} is the labels' part, not the teacher's"
        swapped = given.with_loss(teacher_weight=1.0 - weight)
        yield Hypothesis("teacher's weight", detail, swapped.slope)
    if weight != 0.0:
        yield Hypothesis("teacher's weight", "the labels alone count", alone.slope)
    backwards, rolls = given.teacher[::-1], [np.roll(given.teacher, by, axis=0) for by in (1, -1)]
    for logits in (backwards, *rolls):
        other = replace(given, teacher=logits)
        yield Hypothesis("teacher's logits", "those of another image", other.slope)
