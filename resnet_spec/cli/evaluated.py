"""What `resnet-spec evaluate` says beside accuracy and loss: calibration, and class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.printing.columns import Column, fitted
from resnet_spec.printing.consoles import table_width
from resnet_spec.running.evaluate import Evaluation
from resnet_spec.running.measures import BINS

_ALL, _WORST = 20, 10
"""Up to how many classes all are printed, and else how many."""


def of_classes(
    result: Evaluation, labels: NDArray[np.int64], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return name, images and accuracy of each of the network's classes.

    The accuracy is None for a class without images, and where the network has none.
    """
    counts = np.bincount(labels[labels >= 0], minlength=len(names)).tolist()
    known = result.class_accuracies.tolist() or [float("nan")] * len(names)
    return [
        {"class": name, "images": count, "accuracy": None if np.isnan(value) else value}
        for name, count, value in zip(names, counts, known, strict=True)
    ]


def more_lines(result: Evaluation, classes: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line of measures, and a table of classes: all of them where they are few."""
    parts = [] if result.top5 is None else [f"top-5 accuracy {result.top5:.4f}"]
    error = f"{result.calibration_error:.4f}"
    lines = [", ".join([*parts, f"expected calibration error {error} ({BINS} bins)"]), ""]
    shown = [it for it in classes if it["images"]]
    if len(shown) > _ALL:
        shown = sorted(shown, key=lambda it: it["accuracy"])[:_WORST]
        lines += [f"the {_WORST} of {len(classes)} classes with the lowest accuracy:"]
    columns = [Column("class", least=10), Column("images", right=True)]
    rows = [(it["class"], str(it["images"]), f"{it['accuracy']:.4f}") for it in shown]
    return [*lines, *fitted([*columns, Column("accuracy", right=True)], rows, table_width())]
