"""What a network says of single images, beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.contract import Session
from resnet_spec.data.batches import test_batches
from resnet_spec.data.dataset import Split
from resnet_spec.errors import DataError
from resnet_spec.planning.costs_text import table
from resnet_spec.reporting.plots import COLOURS
from resnet_spec.running.evaluate import finite_rows, softmax
from resnet_spec.showing.canvas import TITLE_SIZE, TITLE_WIDTH, Tile, short, tiles_figure
from resnet_spec.showing.part import First
from resnet_spec.showing.shapes import text_width

RIGHT, WRONG = COLOURS[0], "#C1121F"
"""Blue and red, told apart by colour-blind readers by their lightness, and by the marks."""
MARKS = {True: "✓", False: "✗"}
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Prediction:
    """One image, uint8 [H, W, C]. probability: of the predicted class, 0..1."""

    pixels: NDArray[np.uint8] = field(repr=False)
    index: int
    predicted: str
    label: str
    right: bool
    probability: float


def predictions(
    session: Session,
    split: Split,
    names: Sequence[str],
    count: int,
    tick: Callable[[int], None] = lambda images: None,
) -> list[Prediction]:
    """Return the prediction for each of the first `count` images of `split`."""
    found: list[Prediction] = []
    for batch in test_batches(First(split, count), min(count, _BATCH)):
        (logits,) = session.predict([batch])
        broken = np.flatnonzero(~finite_rows(logits))
        if len(broken):
            image = f"image {int(batch.indices[broken[0]])}"
            raise DataError(f"{image}: its logits are not finite, so it has no class")
        probabilities = softmax(logits)
        for i in range(len(batch)):
            best, label = int(logits[i].argmax()), int(batch.labels[i])
            found.append(
                Prediction(
                    pixels=batch.images[i],
                    index=int(batch.indices[i]),
                    predicted=names[best],
                    label=names[label],
                    right=best == label,
                    probability=float(probabilities[i, best]),
                )
            )
        tick(len(batch))
    return found


def summary(found: Sequence[Prediction]) -> str:
    """Return how many are right."""
    return f"{sum(it.right for it in found)} of {len(found)} right"


def lines(found: Sequence[Prediction]) -> list[str]:
    """Return a table: index, mark, predicted, true, probability."""
    rows = [("index", "", "predicted", "true", "probability")]
    rows += [
        (f"{it.index}", MARKS[it.right], it.predicted, it.label, f"{it.probability:.4f}")
        for it in found
    ]
    return table(rows, right=(0, 4))


def tiles(found: Sequence[Prediction]) -> list[Tile]:
    """Return each image titled `predicted (true)`, a mark and the probability, blue when right.

    Where a title would be wider than its image, the true classes have a line of their own.
    """
    names = [(short(it.predicted), f"({short(it.label)})") for it in found]
    fits = all(text_width(" ".join(pair), TITLE_SIZE) <= TITLE_WIDTH for pair in names)
    between = " " if fits else "\n"
    return [
        Tile(
            it.pixels,
            f"{between.join(pair)}\n{MARKS[it.right]} {_percent(it.probability)}",
            RIGHT if it.right else WRONG,
        )
        for it, pair in zip(found, names, strict=True)
    ]


def _percent(probability: float) -> str:
    """Return a percentage that never claims certainty."""
    return ">99.9 %" if probability >= 0.9995 else f"{100 * probability:.1f} %"


def figure(found: Sequence[Prediction], heading: str) -> Any:
    """Draw the grid."""
    caption = f"{summary(found)}; titles are predicted (true), blue ✓ right, red ✗ wrong"
    return tiles_figure(tiles(found), heading, caption)
