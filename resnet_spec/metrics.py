"""The metrics of a run: one JSON line per epoch in `metrics.jsonl`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from resnet_spec.errors import DataError
from resnet_spec.files import write_text

FILE_NAME = "metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch. Losses are means, accuracies in 0..1, the rate is that of the last step.

    test_loss and test_accuracy are None where no evaluation was due. wall_s counts from the start
    of the run, over all its parts.
    """

    epoch: int
    step: int
    rate: float
    train_loss: float
    train_accuracy: float
    test_loss: float | None
    test_accuracy: float | None
    images_per_second: float
    wall_s: float


def append_metrics(folder: Path, epoch: Epoch) -> None:
    """Add a line."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(epoch)) + "\n")


def read_metrics(folder: Path) -> list[Epoch]:
    """Return the epochs of the run in `folder`. Raises DataError for no file or a bad line."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; is this the folder of a run?")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [Epoch(**json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: holds a line that is not an epoch's metrics: {error}") from None


def keep_metrics(folder: Path, up_to_step: int) -> None:
    """Drop the lines of epochs that ended after `up_to_step`, which a resumed run writes again."""
    path = folder / FILE_NAME
    epochs = read_metrics(folder) if path.is_file() else []
    kept = [epoch for epoch in epochs if epoch.step <= up_to_step]
    write_text(path, "".join(json.dumps(asdict(epoch)) + "\n" for epoch in kept))
