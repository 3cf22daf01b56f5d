"""The loss, given the logits that a side had: its smoothing, its mean, its gradient."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array
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

NODE = "loss"
LIMIT = 16.0
"""Floors: the softmax of float32 logits is good to a few roundings of the largest of them."""


def search_loss(got: Side, floors: Floors) -> Finding | None:
    """Return what is wrong with the gradient by the logits, given the logits; None for nothing."""
    setup = floors.expected.setup
    last = setup.plan.observed[-1]
    logits, found = got.activations.get(last), got.node_gradients.get(last)
    labels = setup.batches[0].labels
    if logits is None or found is None or logits.shape != (len(labels), setup.plan.classes):
        return None
    logits = logits.astype(np.float64)
    smoothing = setup.recipe.label_smoothing
    expected = slope(logits, labels, smoothing)
    floor = _floor(got, logits, labels, smoothing, expected)
    error = multiples(found, expected, floor)
    if error <= LIMIT:
        return None
    cause = explain(
        found, expected, floor, 2.0 * LIMIT, _hypotheses(logits, labels, smoothing, found)
    )
    name = "" if cause is None else cause.cause
    detail = f"its gradient by the logits is off by {error:.3g} times the floor"
    if cause is not None:
        detail = f"{cause.cause}: {cause.detail}"
    return Finding(got.backend, "backward", NODE, error, name, detail)


def _floor(
    got: Side, logits: Array, labels: NDArray[np.int64], smoothing: float, expected: Array
) -> float:
    dtype = np.float64 if got.precision == "float64" else np.float32
    nudged = [
        slope(np.nextafter(logits.astype(dtype), dtype(way)), labels, smoothing)
        for way in (-np.inf, np.inf)
    ]
    return max(UNIT[got.precision], *(difference("", n, expected).max_rel for n in nudged))


def slope(logits: Array, labels: NDArray[np.int64], smoothing: float) -> Array:
    """Return the gradient of the mean smoothed cross-entropy by `logits` [N, K]."""
    count, classes = logits.shape
    target = np.full_like(logits, smoothing / classes)
    target[np.arange(count), labels] += 1.0 - smoothing
    return (_softmax(logits) - target) / count


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def _hypotheses(
    logits: Array, labels: NDArray[np.int64], smoothing: float, found: Array
) -> Iterator[Hypothesis]:
    cause = "label smoothing form"
    count, classes = logits.shape
    rows: NDArray[np.int64] = np.arange(count, dtype=np.int64)

    def others() -> Array:
        target = np.full_like(logits, smoothing / (classes - 1))
        target[rows, labels] = 1.0 - smoothing
        return (_softmax(logits) - target) / count

    detail = f"{number(smoothing)} is spread over the other classes, not over all"
    yield Hypothesis(cause, detail, others)
    for value in (0.0, *rounded(_smoothing(logits, labels, found))):
        if 0 <= value < 1 and value != smoothing:
            detail = f"smoothing {number(value)} instead of {number(smoothing)}"
            yield Hypothesis(cause, detail, lambda v=value: slope(logits, labels, v))
    yield Hypothesis(
        "loss summed",
        "the sum over the batch, not the mean",
        lambda: count * slope(logits, labels, smoothing),
    )
    for shift in (1, -1):
        moved = np.roll(labels, shift)
        yield Hypothesis(
            "labels", "those of another image", lambda m=moved: slope(logits, m, smoothing)
        )


def _smoothing(logits: Array, labels: NDArray[np.int64], found: Array) -> float:
    """Solve the gradient at the classes that are not the label for the smoothing."""
    target = _softmax(logits) - found.astype(np.float64) * len(logits)
    other = np.ones(logits.shape, bool)
    other[np.arange(len(logits)), labels] = False
    return median_of(target[other]) * logits.shape[1]
