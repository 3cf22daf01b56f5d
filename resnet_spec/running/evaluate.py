"""Accuracy and loss of a session on a split, from its logits. Written once, for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch, Session
from resnet_spec.data.batches import test_batches
from resnet_spec.data.dataset import Split
from resnet_spec.printing.cards import Card, Shown, rounded


@dataclass(frozen=True, slots=True, repr=False)
class Evaluation(Shown):
    """What a split gave: `accuracy` in 0..1, mean cross-entropy `loss`, and the image count.

    not_finite: how many images have a logit that is NaN or infinite. Where there is one, the
    network has no accuracy and no loss: both are None.
    predictions: int64 [count], the arg-max class of each image in order (the first of equal ones);
        -1 where the logits are not finite.
    margins: float64 [count], how far the highest logit is above the next; infinite with one class,
        NaN where the logits are not finite.
    ties: how many images have two classes with the very same highest logit.
    """

    accuracy: float | None
    loss: float | None
    count: int
    ties: int
    predictions: NDArray[np.int64] = field(repr=False)
    margins: NDArray[np.float64] = field(repr=False)
    not_finite: int = 0

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [("accuracy", rounded(self.accuracy)), ("loss", rounded(self.loss))]
        notes = [] if self.problem is None else [self.problem]
        return Card(f"{self.count} images", [*rows, ("ties", self.ties)], notes=notes)

    @property
    def problem(self) -> str | None:
        """What is wrong with the network, in words; None where all logits are finite."""
        if not self.not_finite:
            return None
        images = f"{self.not_finite} of {self.count} images"
        return f"the logits of {images} are not finite: there is no accuracy"


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
    loss, done, not_finite = 0.0, 0, 0
    for padded in session.predict(_even(test_batches(split, batch))):
        labels = split.labels[done : done + len(padded)]
        logits = padded[: len(labels)]
        sound = finite_rows(logits)
        loss += float(cross_entropy(logits[sound], labels[sound]).sum())
        predictions.append(np.where(sound, logits.argmax(axis=1), -1))
        margins.append(_margins(logits, sound))
        not_finite += int((~sound).sum())
        done += len(logits)
        tick(len(logits))
    found, above = np.concatenate(predictions), np.concatenate(margins)
    is_sound = not not_finite
    return Evaluation(
        accuracy=float((found == split.labels).mean()) if is_sound else None,
        loss=loss / done if is_sound else None,
        count=done,
        ties=int((above == 0).sum()),
        not_finite=not_finite,
        predictions=found,
        margins=above,
    )


def finite_rows(logits: Array) -> NDArray[np.bool_]:
    """Return which images have finite logits alone, bool [N]."""
    return np.asarray(np.isfinite(logits).all(axis=1))


def _margins(logits: Array, sound: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the highest logit less the next, per image; NaN for one that is not sound."""
    margins = np.full(len(logits), np.nan)
    if logits.shape[1] == 1:
        margins[sound] = np.inf
        return margins
    two = np.partition(logits[sound].astype(np.float64), -2, axis=1)[:, -2:]
    margins[sound] = two[:, 1] - two[:, 0]
    return margins


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
    """Return each image's probabilities, float64 [N, classes]; NaN where a logit is not finite."""
    probabilities = np.full(logits.shape, np.nan)
    sound = finite_rows(logits)
    values = logits[sound].astype(np.float64)
    shifted = np.exp(values - values.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities[sound] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def cross_entropy(logits: Array, labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return -log softmax(logits)[label] per image, float64 [N]; the logits must be finite."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True, initial=-np.inf)
    picked = shifted[np.arange(len(labels)), labels]
    return np.log(np.exp(shifted).sum(axis=1)) - picked
