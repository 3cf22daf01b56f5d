"""Accuracy and loss of a session on a split, from its logits. Written once, for every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Array, Batch
from resnet_spec.data.batches import test_batches
from resnet_spec.data.dataset import Split
from resnet_spec.printing.cards import Card, Shown, rounded
from resnet_spec.running.measures import BINS, TOP, calibration_error, class_accuracies, in_top
from resnet_spec.running.together import Together, shared_out

AT_ONCE = 256
"""Images of a batch that is evaluated."""


class Predictor(Protocol):
    """That part of a session that predicts, and all of one that an engine has (`exporting`)."""

    info: Mapping[str, str]

    def predict(self, batches: Iterable[Batch]) -> Iterator[Array]:
        """Yield evaluation-mode logits [N, classes] per batch, in order."""
        ...


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
    top5: the share of images whose label is among the five highest logits, None with five classes
        or fewer. calibration_error: see `measures.calibration_error`.
    confidences: float64 [count], the probability of each prediction; NaN where the logits are not
        finite. class_accuracies: float64 [classes], NaN for a class without images; [] where the
        network has no accuracy.
    """

    accuracy: float | None
    loss: float | None
    count: int
    ties: int
    predictions: NDArray[np.int64] = field(repr=False)
    margins: NDArray[np.float64] = field(repr=False)
    not_finite: int = 0
    top5: float | None = None
    calibration_error: float | None = None
    confidences: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)
    class_accuracies: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), repr=False)

    def card(self) -> Card:
        """See `cards.Shown`."""
        rows = [("accuracy", rounded(self.accuracy)), ("loss", rounded(self.loss))]
        rows += [("top-5 accuracy", rounded(self.top5))] if self.top5 is not None else []
        if self.calibration_error is not None:
            rows.append((f"calibration error ({BINS} bins)", rounded(self.calibration_error)))
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
    session: Predictor,
    split: Split,
    batch: int = AT_ONCE,
    tick: Callable[[int], None] = lambda images: None,
    together: Together | None = None,
) -> Evaluation:
    """Run `split` through `session` in evaluation mode; `tick` hears of every `n` images done.

    session: a backend's, or an engine's (`exporting.engine_session`).
    together: the processes that share the batches out; each returns the evaluation of all, equal
    to that of one process to the bit. The loss is computed in float64 from the logits.
    """
    together = Together() if together is None else together
    own = np.zeros((-(-len(split) // batch), 2 + _OF_IMAGE * batch))
    """A row per batch: the sum of its losses, the classes, then four numbers of each image."""
    mine = shared_out(len(own), together.group)
    batches = _even(test_batches(split, batch, mine), min(batch, len(split)))
    for i, padded in zip(mine, session.predict(batches), strict=True):
        labels = split.labels[i * batch : (i + 1) * batch]
        logits = padded[: len(labels)]
        sound = finite_rows(logits)
        own[i, :2] = cross_entropy(logits[sound], labels[sound]).sum(), logits.shape[1]
        own[i, 2:].reshape(_OF_IMAGE, batch)[:, : len(logits)] = _of_images(logits, labels, sound)
        tick(len(logits))
    return _merged(together.gather(own.ravel()).reshape(-1, *own.shape), split)


def _merged(found: NDArray[np.float64], split: Split) -> Evaluation:
    """Return the evaluation of all batches. found: [processes, batches, 2 + 4 images]."""
    size, batches, width = found.shape
    rows = found[np.arange(batches) % size, np.arange(batches)]
    each = rows[:, 2:].reshape(batches, _OF_IMAGE, (width - 2) // _OF_IMAGE)
    found_of = (each[:, k].ravel()[: len(split)] for k in range(_OF_IMAGE))
    predictions, margins, hits, confidences = found_of
    labels, classes = split.labels, int(rows[0, 1])
    not_finite = int((predictions < 0).sum())
    loss = float(sum(rows[:, 0].tolist()))
    is_sound = not not_finite
    return Evaluation(
        accuracy=float((predictions == labels).mean()) if is_sound else None,
        loss=loss / len(split) if is_sound else None,
        count=len(split),
        ties=int((margins == 0).sum()),
        not_finite=not_finite,
        predictions=predictions.astype(np.int64),
        margins=margins,
        top5=float(hits.mean()) if is_sound and classes > TOP else None,
        calibration_error=(
            calibration_error(confidences, predictions == labels) if is_sound else None
        ),
        confidences=confidences,
        class_accuracies=(
            class_accuracies(predictions.astype(np.int64), labels, classes)
            if is_sound
            else np.empty(0)
        ),
    )


_OF_IMAGE = 4


def _of_images(
    logits: Array, labels: NDArray[np.int64], sound: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return what is kept of each image, [4, N]: prediction, margin, top-5 hit and confidence."""
    hits = np.zeros(len(logits))
    hits[sound] = in_top(logits[sound], labels[sound])
    predictions = np.where(sound, logits.argmax(axis=1), -1)
    return np.stack([predictions, _margins(logits, sound), hits, softmax(logits).max(axis=1)])


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


def _even(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Fill a shorter batch up to `size` with its first image: one shape, so one compilation.

    In evaluation mode images do not influence each other; the extra logits are cut off.
    """
    for batch in batches:
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
