"""What a run came to, as `summary.json` holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from resnet_spec.errors import DataError
from resnet_spec.printing.cards import Card, Shown, rounded
from resnet_spec.running.measures import BINS
from resnet_spec.running.metrics import TEST
from resnet_spec.running.speed import speed_text


@dataclass(frozen=True, repr=False)
class Summary(Shown):
    """What a finished, stopped or failed run came to; `summary.json` holds it.

    best_of: which images best_accuracy and best_epoch are of, `validation` or `test`. The final_
    fields are of the test images by the last weights, best_test_accuracy by those of the epoch that
    validation chose; then the test images are looked at once, at the end. held_out: which images
    were held out, as `HeldOut.to_dict` gives it. final_weights_accuracy: of the test images by the
    last weights themselves, where all else is of an average of them. final_top5_accuracy: None with
    five classes or fewer. final_calibration_error: see `measures.calibration_error`.
    class_accuracies: of the classes in `dataset`, by the last weights; None for one without a test
    image. stopped_early: by the recipe's `early_stopping`; such a run is complete.
    None: not evaluated, or without an accuracy, for logits that are not finite. failed: why the run
    came to no end, None where it did not fail. asked: spec and recipe of a run that has no
    checkpoint to hold them. final_loss: mean training loss of the last epoch. images_per_second:
    training only, without the first step, which compiles; 0 without another. first_step_s: that
    step's seconds. compile_s: that, less the seconds of a mean later step; None where there was
    none. wall_s: all of it, resumes included. legs: the backends that trained it, and from which
    step on. peak_memory_mb: the most main memory (10^6 bytes) that the process held at once, data
    and framework included; None where the system does not say. Speed, compilation and memory are
    those of the last process that trained the run. dataset: the data's identity, as
    `Fingerprint.to_dict` gives it; None where no run said. notes: what was assumed, joined or left
    out on the way, one line each.
    """

    backend: str
    spec: str
    data: str
    recipe: str
    epochs: int
    steps: int
    best_accuracy: float | None
    best_epoch: int | None
    final_accuracy: float | None
    final_loss: float | None
    final_test_loss: float | None
    images_per_second: float
    first_step_s: float
    wall_s: float
    complete: bool
    environment: dict[str, str]
    legs: list[dict[str, Any]]
    compile_s: float | None = None
    peak_memory_mb: float | None = None
    dataset: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list[str])
    failed: str | None = None
    asked: dict[str, Any] | None = None
    best_of: str = TEST
    stopped_early: bool = False
    best_test_accuracy: float | None = None
    final_validation_accuracy: float | None = None
    held_out: dict[str, Any] | None = None
    final_weights_accuracy: float | None = None
    final_top5_accuracy: float | None = None
    final_calibration_error: float | None = None
    class_accuracies: list[float | None] | None = None

    def card(self) -> Card:
        """See `cards.Shown`."""
        length = f"{_many(self.epochs, 'epoch')}, {_many(self.steps, 'step')}"
        length += " (stopped early)" if self.stopped_early else ""
        best = rounded(self.best_accuracy)
        at = "" if self.best_epoch is None else f" (epoch {self.best_epoch})"
        rows = [
            (f"best of the {self.best_of} images", f"{best}{at}"),
            *self._of_best(),
            ("final test accuracy", rounded(self.final_accuracy)),
            *self._measured(),
            ("final test loss", rounded(self.final_test_loss)),
            ("final training loss", rounded(self.final_loss)),
            ("length", f"{length}, {self.wall_s:.1f} s"),
            ("speed", speed_text(self.images_per_second) or "not measured"),
            ("environment", " ".join(self.environment.get(key, "") for key in _ENVIRONMENT)),
        ]
        if len(self.legs) > 1:
            legs = (f"{leg['backend']} from step {leg['first_step']}" for leg in self.legs)
            rows.append(("trained by", ", ".join(legs)))
        state = "" if self.complete else ", failed" if self.failed else ", not complete"
        title = f"{self.spec} on {self.data}, recipe {self.recipe}, {self.backend}{state}"
        return Card(title, rows, notes=[] if self.failed is None else [f"failed: {self.failed}"])

    @property
    def test_accuracy_of_best(self) -> float | None:
        """The test accuracy of the best epoch's weights, whatever chose them; None: not known."""
        return self.best_accuracy if self.best_of == TEST else self.best_test_accuracy

    def _measured(self) -> list[tuple[str, object]]:
        """Return what else is known of the test images by the last weights."""
        pairs = (
            ("the same, without the average", self.final_weights_accuracy),
            ("final top-5 accuracy", self.final_top5_accuracy),
            (f"calibration error ({BINS} bins)", self.final_calibration_error),
        )
        return [(name, rounded(value)) for name, value in pairs if value is not None]

    def _of_best(self) -> list[tuple[str, object]]:
        """Return what else is known where the best epoch was chosen by validation."""
        if self.best_of == TEST:
            return []
        return [
            ("test accuracy of that epoch", rounded(self.best_test_accuracy)),
            ("final validation accuracy", rounded(self.final_validation_accuracy)),
        ]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Summary:
        """Return the summary in a `summary.json`. Raises DataError for what is no summary.

        Those in docs/studies/records were written before a field with a default was.
        """
        try:
            return cls(**_summary_fields(data))
        except TypeError as error:
            raise DataError(f"summary: {str(error).removeprefix('Summary.__init__() ')}") from None


_ENVIRONMENT = ("framework", "version", "device", "precision")


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


_NONE = type(None)
_NUMBER = (int, float)
_FIELDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("backend", "spec", "data", "recipe", "best_of"), (str,)),
    **dict.fromkeys(("epochs", "steps"), (int,)),
    **dict.fromkeys(("images_per_second", "first_step_s", "wall_s"), _NUMBER),
    **dict.fromkeys(("best_accuracy", "final_accuracy"), (*_NUMBER, _NONE)),
    **dict.fromkeys(("best_test_accuracy", "final_validation_accuracy"), (*_NUMBER, _NONE)),
    **dict.fromkeys(("final_loss", "final_test_loss"), (*_NUMBER, _NONE)),
    **dict.fromkeys(("final_top5_accuracy", "final_calibration_error"), (*_NUMBER, _NONE)),
    "final_weights_accuracy": (*_NUMBER, _NONE),
    "class_accuracies": (list, _NONE),
    **dict.fromkeys(("compile_s", "peak_memory_mb"), (*_NUMBER, _NONE)),
    "best_epoch": (int, _NONE),
    **dict.fromkeys(("complete", "stopped_early"), (bool,)),
    "environment": (dict,),
    "legs": (list,),
    "failed": (str, _NONE),
    **dict.fromkeys(("dataset", "held_out", "asked"), (dict, _NONE)),
    "notes": (list,),
}


def _summary_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a summary that are in `data`; what else is there is left out.

    Raises DataError for a value of another kind.
    """
    values: dict[str, Any] = {}
    for name, kinds in _FIELDS.items():
        if name not in data:
            continue
        value = data[name]
        is_flag = isinstance(value, bool) and bool not in kinds
        if not isinstance(value, kinds) or is_flag or not is_finite(value):
            raise DataError(f"summary: {name} = {value!r}: is not of its kind")
        values[name] = value
    return values


def is_finite(value: object) -> bool:
    """Whether `value` is no NaN and not infinite; what is no number is finite."""
    return not isinstance(value, float) or math.isfinite(value)
