"""Accuracy and loss of a session on a split, from its logits. Written once, for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resnet_spec.batches import test_batches
from resnet_spec.contract import Array, Batch, Session
from resnet_spec.data.dataset import Split
from resnet_spec.shown import Card, Shown, rounded


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Shown):
    """What a split gave: `accuracy` in 0..1, mean cross-entropy `loss`, and the image count.

    predictions: int64 [count], the arg-max class of each image in order (the first of equal ones).
    margins: float64 [count], how far the highest logit is above the next; infinite with one class.
    ties: how many images have two classes with the very same highest logit.
    """

    accuracy: float
    loss: float
    count: int
    ties: int
    predictions: NDArray[np.int64] = field(repr=False)
    margins: NDArray[np.float64] = field(repr=False)

    def card(self) -> Card:
        """See `shown.Shown`."""
        rows = [("accuracy", rounded(self.accuracy)), ("loss", rounded(self.loss))]
        return Card(f"{self.count} images", [*rows, ("ties", self.ties)])


def evaluate(
    session: Session,
    split: Split,
    batch: int = 256,
    tick: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Run `split` through `session` in evaluation mode; `tick` hears of every `n` images done.

    The loss is computed in float64 from the logits.
    """
    predictions: list[NDArray[np.int64]] = []
    margins: list[NDArray[np.float64]] = []
    loss, done = 0.0, 0
    for padded in session.predict(_even(test_batches(split, batch))):
        labels = split.labels[done : done + len(padded)]
        logits = padded[: len(labels)]
        loss += float(cross_entropy(logits, labels).sum())
        predictions.append(logits.argmax(axis=1))
        margins.append(_margins(logits))
        done += len(logits)
        tick(len(logits))
    found, above = np.concatenate(predictions), np.concatenate(margins)
    accuracy = float((found == split.labels).mean())
    ties = int((above == 0).sum())
    return Evaluation(accuracy, loss / done, done, ties, found, above)


def _margins(logits: Array) -> NDArray[np.float64]:
    """Return the highest logit less the next, per image."""
    if logits.shape[1] == 1:
        return np.full(len(logits), np.inf)
    two = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _even(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Fill a last, shorter batch up with its first image: one shape, so one compilation.

    In evaluation mode images do not influence each other; the extra logits are cut off.
    """
    size = 0
    for batch in batches:
        size = size or len(batch)
        extra = np.zeros(size - len(batch), dtype=np.int64)
        places = np.concatenate([np.arange(len(batch)), extra])
        yield Batch(batch.images[places], batch.labels[places], batch.indices[places])


def softmax(logits: Array) -> NDArray[np.float64]:
    """Return each image's probabilities, float64 [N, classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def cross_entropy(logits: Array, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -log softmax(logits)[label] per image, float64 [N]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels]
    return np.log(np.exp(shifted).sum(axis=1)) - picked
