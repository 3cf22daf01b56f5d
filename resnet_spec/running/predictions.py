"""Each image's prediction as a table: what `evaluate --predictions` and `predict --out` write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnet_spec.data.dataset import Split
from resnet_spec.data.file_names import file_names
from resnet_spec.files.tables import write_table
from resnet_spec.running.evaluate import Evaluation

Column = tuple[type, Sequence[Any]]


def write_evaluated(path: Path, result: Evaluation, split: Split, classes: Sequence[str]) -> None:
    """Write a row per image of `split`: its label, its prediction, and how sure that is.

    classes: the network's. What is not finite has no prediction, confidence or margin. Raises
    OutputError.
    """
    labels, predictions = split.labels.tolist(), result.predictions.tolist()
    files = file_names(split)
    columns: dict[str, Column] = {
        "image": (int, range(len(labels))),
        **({} if files is None else {"file": (str, files)}),
        "label": (int, [_known(it) for it in labels]),
        "label_name": (str, [_name(it, classes) for it in labels]),
        "prediction": (int, [_known(it) for it in predictions]),
        "prediction_name": (str, [_name(it, classes) for it in predictions]),
        "confidence": (float, _numbers(result.confidences)),
        "margin": (float, _numbers(result.margins)),
    }
    write_table(path, columns)


def write_predicted(path: Path, images: Sequence[Path], found: Sequence[Any], top: int) -> None:
    """Write a row per image: its `top` most probable classes, each with its probability.

    found: of each image the list of {"class", "probability"}, [] where its logits are not finite.
    Raises OutputError.
    """
    columns: dict[str, Column] = {"image": (str, [str(it) for it in images])}
    for place in range(top):
        rows = [row[place] if len(row) > place else None for row in found]
        if any(row is not None for row in rows) or place == 0:
            for key, kind in (("class", str), ("probability", float)):
                values = [None if row is None else row[key] for row in rows]
                columns[f"{key}_{place + 1}"] = (kind, values)
    write_table(path, columns)


def _known(number: int) -> int | None:
    return None if number < 0 else number


def _name(number: int, classes: Sequence[str]) -> str | None:
    return None if number < 0 else classes[number]


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
