"""The metrics of a run: one JSON line per epoch in `metrics.jsonl`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from resnet_spec.errors import DataError
from resnet_spec.files.json_text import json_text
from resnet_spec.files.writing import write_text, writing

FILE_NAME = "metrics.jsonl"
TEST, VALIDATION = "test", "validation"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch. Losses are means, accuracies in 0..1, the rate is that of the last step.

    test_loss and test_accuracy are None where no evaluation was due, and where the network has
    none: test_not_finite is how many test images have a logit that is NaN or infinite. A run that
    has validation images is evaluated on those: what is of the test images is None then, and the
    validation_ fields are in their place. Where the run keeps an average of the weights, all that
    is of the average, and the weights_ fields are of the weights themselves on the same images;
    None without one. wall_s counts from the start of the run, over all its parts.
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
    test_not_finite: int = 0
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_not_finite: int = 0
    weights_loss: float | None = None
    weights_accuracy: float | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Epoch:
        """Return the epoch in a line. Raises DataError for what is none.

        What a newer version wrote beside is left out. docs/studies/records was written before
        `test_not_finite` was.
        """
        values = {field.name: data[field.name] for field in fields(cls) if field.name in data}
        missing = [name for name in _NEEDED if name not in values]
        if missing:
            raise DataError(f"lacks {', '.join(missing)}")
        for name, value in values.items():
            if not (value is None and name in _EVALUATED) and not _is_number(value):
                raise DataError(f"{name} holds what is no number ({value!r})")
        return cls(**values)

    def to_dict(self, keys: Sequence[str] | None = None) -> dict[str, Any]:
        """Return plain JSON types. keys: those of the run's lines, as `keys_of` has them.

        Without them fields of images that were not looked at are left out.
        """
        averages = self.weights_loss is not None or self.weights_accuracy is not None
        chosen = keys_of(self.split, averages=averages) if keys is None else keys
        return {name: getattr(self, name) for name in chosen}

    @property
    def split(self) -> str:
        """Which images the network was evaluated on: `test` or `validation`."""
        has_any = self.validation_accuracy is not None or self.validation_not_finite > 0
        return VALIDATION if has_any else TEST

    @property
    def loss(self) -> float | None:
        """The loss of the images of `split`."""
        return self.test_loss if self.split == TEST else self.validation_loss

    @property
    def accuracy(self) -> float | None:
        """The accuracy on the images of `split`."""
        return self.test_accuracy if self.split == TEST else self.validation_accuracy

    @property
    def not_finite(self) -> int:
        """How many images of `split` have a logit that is NaN or infinite."""
        return self.test_not_finite if self.split == TEST else self.validation_not_finite

    @property
    def is_evaluated(self) -> bool:
        """Whether the network was evaluated at the epoch's end, to whatever end."""
        return self.accuracy is not None or self.not_finite > 0


def keys_of(split: str, *, averages: bool) -> tuple[str, ...]:
    """Return the keys of all lines of a run, whether an epoch is evaluated or not.

    split: the images that it is evaluated on. averages: whether it keeps an average of the weights.
    """
    left_out = _OF_TEST if split == VALIDATION else _OF_VALIDATION
    left_out += () if averages else _OF_WEIGHTS
    return tuple(field.name for field in fields(Epoch) if field.name not in left_out)


def splits_of(epochs: Iterable[Epoch]) -> list[str]:
    """Return the images that these epochs were evaluated on: `test`, `validation` or both."""
    found = {epoch.split for epoch in epochs if epoch.is_evaluated}
    return [name for name in (TEST, VALIDATION) if name in found]


_OF_TEST = ("test_not_finite",)
_OF_VALIDATION = ("validation_loss", "validation_accuracy", "validation_not_finite")
_OF_WEIGHTS = ("weights_loss", "weights_accuracy")
_EVALUATED = ("test_loss", "test_accuracy", *_OF_VALIDATION[:2], *_OF_WEIGHTS)
_LATER = (*_OF_TEST, *_OF_VALIDATION, *_OF_WEIGHTS)
"""Fields that lines written before them lack."""
_NEEDED = tuple(field.name for field in fields(Epoch) if field.name not in _LATER)


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def append_metrics(folder: Path, epoch: Epoch, keys: Sequence[str] | None = None) -> None:
    """Add a line, whole or not at all. keys: see `Epoch.to_dict`. Raises OutputError."""
    path = folder / FILE_NAME
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        line = f"{json_text(epoch.to_dict(keys))}\n".encode()
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                while line:  # A part is written where there is room for no more.
                    line = line[file.write(line) :]
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise


def read_metrics(folder: Path) -> list[Epoch]:
    """Return the epochs of the run in `folder`, without a last line that is torn (`torn`).

    Raises DataError for no file or another bad line.
    """
    return _read(folder / FILE_NAME)[0]


def torn(folder: Path) -> str | None:
    """Return a note where the last line is not whole, as after a power cut, else None."""
    path = folder / FILE_NAME
    if not path.is_file() or not _read(path)[1]:
        return None
    return f"{path}: its last line is torn, and is left out"


def keep_metrics(folder: Path, up_to_step: int) -> None:
    """Drop the lines of epochs that ended after `up_to_step`, which a resumed run writes again."""
    path = folder / FILE_NAME
    epochs = read_metrics(folder) if path.is_file() else []
    lines = path.read_text("utf-8").split("\n") if epochs else []
    pairs = zip(epochs, lines, strict=False)  # A last line may be torn.
    write_text(path, "".join(f"{line}\n" for epoch, line in pairs if epoch.step <= up_to_step))


def _read(path: Path) -> tuple[list[Epoch], bool]:
    """Return the epochs in the file, and whether its last line is torn."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; is this the folder of a run?")
    lines = path.read_bytes().split(b"\n")
    lines = lines[:-1] if not lines[-1] else lines
    epochs: list[Epoch] = []
    for number, line in enumerate(lines, start=1):
        try:
            epochs.append(_epoch(line))
        except _TornError:
            if number == len(lines):
                return epochs, True
            raise DataError(f"{path}: line {number} is torn; {_REMEDY}") from None
        except DataError as error:
            rule = f"line {number} is not an epoch's metrics: {error}"
            raise DataError(f"{path}: {rule}; {_REMEDY}") from None
    return epochs, False


_REMEDY = "remove it, or restore the file"


class _TornError(Exception):
    """A line of which only the beginning was written."""


def _epoch(line: bytes) -> Epoch:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        if not line.strip(b"\0") or line.startswith(b"{"):
            raise _TornError from None
        raise DataError(str(error)) from None
    if not isinstance(value, dict):
        raise DataError("is no table")
    return Epoch.from_dict(cast("dict[str, Any]", value))
