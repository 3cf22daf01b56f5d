"""What a tracker is told, and what it offers: the one file that the author of a tracker reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

from resnet_spec.files.json_text import json_text
from resnet_spec.running.metrics import Epoch
from resnet_spec.running.runs import Run, Summary

Scalar = bool | int | float | str
Outcome = Literal["finished", "interrupted", "failed"]

PROJECT = "resnet-spec"
"""The experiment (MLflow) or project (Weights & Biases), unless the environment names another."""


@dataclass(frozen=True)
class Tracked:
    """The run as a tracker first hears of it.

    name: that of its folder. out: the folder, absolute. tables: the recipe, the spec, and the
    backend with its versions and device, as plain JSON types.
    """

    name: str
    out: Path
    tables: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, run: Run, info: Mapping[str, str]) -> Tracked:
        """Describe `run`; `info` is its session's."""
        out = run.out.resolve()
        tables = {
            "recipe": run.recipe.to_dict(),
            "spec": run.spec.to_dict(),
            "backend": {"name": run.backend, **info},
            "data": {"name": run.data_name, **_held_out(run)},
        }
        return cls(out.name, out, tables)

    @property
    def best(self) -> Path:
        """The best checkpoint's path."""
        return self.out / "best.safetensors"

    def parameters(self) -> dict[str, Scalar]:
        """Return every setting by its dotted name, as `recipe.schedule.rate`; lists are JSON."""
        return dict(_flat("", self.tables))


def _held_out(run: Run) -> dict[str, float | str]:
    return {} if run.held_out is None else {"validation": run.held_out.told}


def _flat(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Scalar]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(f"{name}.", cast(Mapping[str, Any], value))
        elif isinstance(value, bool | int | float | str):
            yield name, value
        else:
            yield name, json_text(value)


def measured(epoch: Epoch) -> dict[str, float]:
    """Return what is plotted of an epoch, at `epoch.step`; none but of training where not due."""
    values = {
        "loss/train": epoch.train_loss,
        f"loss/{epoch.split}": epoch.loss,
        "accuracy/train": epoch.train_accuracy,
        f"accuracy/{epoch.split}": epoch.accuracy,
        f"loss/{epoch.split}_without_average": epoch.weights_loss,
        f"accuracy/{epoch.split}_without_average": epoch.weights_accuracy,
        "rate": epoch.rate,
        "images_per_second": epoch.images_per_second,
        "epoch": float(epoch.epoch),
    }
    return {name: value for name, value in values.items() if value is not None}


def results(summary: Summary) -> dict[str, float]:
    """Return the numbers of a finished run."""
    values = {
        "best_accuracy": summary.best_accuracy,
        "best_epoch": summary.best_epoch,
        "final_accuracy": summary.final_accuracy,
        "best_test_accuracy": summary.best_test_accuracy,
        "final_validation_accuracy": summary.final_validation_accuracy,
        "final_weights_accuracy": summary.final_weights_accuracy,
        "final_top5_accuracy": summary.final_top5_accuracy,
        "final_calibration_error": summary.final_calibration_error,
        "final_loss": summary.final_loss,
        "final_test_loss": summary.final_test_loss,
        "first_step_s": summary.first_step_s,
        "wall_s": summary.wall_s,
    }
    return {f"summary/{key}": float(value) for key, value in values.items() if value is not None}


class Tracker(Protocol):
    """One tracked run, open for writing. Whatever its client raises is told in one line.

    Its module offers `start(tracked, id) -> Tracker`, which goes on with the run `id`, or begins
    one for None.
    """

    id: str
    """What finds the run again; kept in the run's folder."""
    where: str
    """Where people look at it: a folder or an address."""

    def epoch(self, epoch: Epoch) -> None:
        """Record one epoch at its step. Epochs come in order, each once."""
        ...

    def finish(self, summary: Summary, best: Path) -> None:
        """Record what the whole run came to, and where its best checkpoint is. Called once."""
        ...

    def close(self, outcome: Outcome) -> None:
        """Flush and let go; the run may be resumed later."""
        ...
