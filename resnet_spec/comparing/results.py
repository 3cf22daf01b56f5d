"""What the runs came to: a Result for each, and the files that hold them all.

Files are written anew after every run, whole or not at all: `results.csv` and, with pyarrow,
`results.parquet` with a row per run; `results.jsonl` with all that is known of a run per line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from resnet_spec.comparing.cell_folder import CELL, FAILURE
from resnet_spec.comparing.standing import read_fields, read_summary
from resnet_spec.data.held_out import OWN
from resnet_spec.describing.from_text import Fields
from resnet_spec.errors import DataError, GridError
from resnet_spec.files.json_text import json_text
from resnet_spec.files.writing import replacing, write_text
from resnet_spec.reporting.out_folder import leave_only
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.runs import Summary

State = Literal["complete", "incomplete", "failed", "waiting"]


@dataclass(frozen=True)
class Result:
    """A run and what it came to.

    cell: as in `cell.json`, with `jobs` and `threads` where known. epochs: its metrics. error: why
    it failed, "" where it did not.
    """

    folder: Path
    cell: Fields
    state: State
    summary: Summary | None = None
    epochs: tuple[Epoch, ...] = ()
    error: str = ""

    @property
    def group(self) -> tuple[str, str]:
        """The network's label and the backend: what seeds are gathered under."""
        return self.cell["network"], self.cell["backend"]

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.cell["seed"]

    @property
    def images_per_second(self) -> float | None:
        """The training speed; None where unknown."""
        if self.summary is None:
            return None
        # A run resumed after its last step has trained nothing more.
        last = self.epochs[-1].images_per_second if self.epochs else 0.0
        return self.summary.images_per_second or last or None

    @property
    def final_train_accuracy(self) -> float | None:
        """The share of the last epoch's training images told right; None where unknown."""
        return self.epochs[-1].train_accuracy if self.epochs else None

    def seconds_to(self, accuracy: float | None) -> float | None:
        """Return when the run first was as accurate at an epoch's end, on what that looks at."""
        if accuracy is None:
            return None
        for epoch in self.epochs:
            if epoch.accuracy is not None and epoch.accuracy >= accuracy:
                return epoch.wall_s
        return None

    def row(self, target: float | None, notes: Sequence[str]) -> dict[str, Any]:
        """Return the run as one row of a table; None for what is not known."""
        summary = self.summary
        known = {} if summary is None else asdict(summary)
        environment = known.get("environment", {})
        held_out = self.cell.get("validation")
        return {
            **{key: self.cell.get(key) for key in ("network", "backend", "seed")},
            "state": self.state,
            **{key: known.get(key) for key in _OF_SUMMARY},
            "final_train_accuracy": self.final_train_accuracy,
            "images_per_second": self.images_per_second,
            "seconds_to_target": self.seconds_to(target),
            "target_accuracy": target,
            **{key: self.cell.get(key) for key in ("jobs", "threads", "data")},
            "validation": None if held_out == OWN else held_out,  # A column of numbers.
            "recipe": self.cell["recipe"]["name"],
            **{key: environment.get(key) for key in _OF_ENVIRONMENT},
            "error": self.error or None,
            "folder": self.folder.name,
            "notes": "; ".join(notes) or None,
        }

    def to_dict(self, target: float | None, notes: Sequence[str]) -> Fields:
        """Return all that is known of the run, as plain JSON types."""
        return {
            "folder": self.folder.name,
            "state": self.state,
            "error": self.error or None,
            "cell": self.cell,
            "summary": None if self.summary is None else asdict(self.summary),
            "seconds_to_target": self.seconds_to(target),
            "target_accuracy": target,
            "notes": list(notes),
        }


_OF_SUMMARY = (
    *("final_accuracy", "best_accuracy", "best_epoch", "final_loss", "final_test_loss"),
    *("best_of", "best_test_accuracy", "final_validation_accuracy"),
    *("final_top5_accuracy", "final_calibration_error", "final_weights_accuracy"),
    *("epochs", "steps", "images_per_second", "first_step_s", "compile_s", "peak_memory_mb"),
    "wall_s",
)
_OF_ENVIRONMENT = ("framework", "version", "device", "precision")


def read_result(folder: Path, cell: Fields | None = None) -> Result:
    """Return the result of the run in `folder`, as it is now; `cell` where it has not begun.

    Raises GridError or DataError for files that cannot be read.
    """
    found = read_cell(folder / CELL) if (folder / CELL).is_file() else cell
    if found is None:
        raise DataError(f"{folder}: holds no run of a comparison")
    summary = read_summary(folder)
    epochs = tuple(read_metrics(folder)) if (folder / "metrics.jsonl").is_file() else ()
    error = (summary.failed or "") if summary is not None else ""
    if (folder / FAILURE).is_file():
        error = error or _failure(folder / FAILURE)
    return Result(folder, found, _state(summary, epochs, error), summary, epochs, error)


def read_cell(path: Path) -> Fields:
    """Return what a `cell.json` says of a run. Raises GridError for one that is damaged."""
    found = read_fields(path)
    for key, kind in _OF_CELL.items():
        if not isinstance(found.get(key), kind):
            raise GridError(f"{path}: describes no run: {key} = {found.get(key)!r}")
    if not isinstance(found["recipe"].get("name"), str):
        raise GridError(f"{path}: describes no run: its recipe has no name")
    return found


_OF_CELL = {
    **dict.fromkeys(("network", "backend", "data"), str),
    "seed": int,
    **dict.fromkeys(("spec", "recipe"), dict),
}


def _failure(path: Path) -> str:
    """Return why the run failed; the file alone says that it did."""
    try:
        return str(read_fields(path).get("error", "")) or "failed"
    except GridError:
        return f"failed ({path.name} cannot be read)"


def _state(summary: Summary | None, epochs: Sequence[Epoch], error: str) -> State:
    if error:
        return "failed"
    if summary is not None and summary.complete:
        return "complete"
    return "incomplete" if summary is not None or epochs else "waiting"


def write_results(
    out: Path, results: Iterable[Result], target: float | None, notes: Sequence[str]
) -> None:
    """Write `results.csv`, `results.jsonl` and, where pyarrow is there, `results.parquet`.

    Without it, that file of earlier results is taken away. Raises OutputError.

    target, notes: of the grid, repeated for every run.
    """
    data, parquet = out / "results.jsonl", out / "results.parquet"
    were_there = data.exists()
    found = list(results)
    lines = (json_text(result.to_dict(target, notes)) + "\n" for result in found)
    write_text(data, "".join(lines))
    rows = [result.row(target, notes) for result in found]
    write_text(out / "results.csv", _csv(rows))
    if find_spec("pyarrow") is not None:
        _write_parquet(parquet, rows)
    elif were_there:
        leave_only([], [parquet])


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    table = arrow.Table.from_pylist(rows, schema=_schema(arrow, rows[0]))
    with replacing(path) as temporary:
        parquet.write_table(table, temporary)


def _schema(pyarrow: Any, row: dict[str, Any]) -> Any:
    """Return the columns' types, which a column without values does not show."""

    def kind(name: str) -> Any:
        if name in _WHOLE:
            return pyarrow.int64()
        return pyarrow.string() if name in _TEXTS else pyarrow.float64()

    return pyarrow.schema([(name, kind(name)) for name in row])


_WHOLE = {"seed", "best_epoch", "epochs", "steps", "jobs", "threads"}
_TEXTS = {
    *("network", "backend", "state", "data", "recipe", "error", "folder", "notes", "best_of"),
    *_OF_ENVIRONMENT,
}
