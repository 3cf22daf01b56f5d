"""The folder of a run that another process writes to: what would be written here is not."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnet_spec.running.metrics import Epoch
from resnet_spec.running.run_folder import Begins, RunFolder, Say
from resnet_spec.running.runs import Summary
from resnet_spec.running.together import Together
from resnet_spec.weights.checkpoint import Checkpoint


class ReadOnlyFolder(RunFolder):
    """A run's folder as those processes of a group have it that are not the first."""

    @contextmanager
    def locked(self, say: Say) -> Generator[None]:
        """Hold nothing: rank 0 does."""
        yield

    @contextmanager
    def held(self, begins: Begins, start: Checkpoint | None, say: Say) -> Generator[None]:
        """Hold nothing: rank 0 does."""
        yield

    def save_last(self, checkpoint: Checkpoint) -> None:
        """Write nothing."""

    def save_best(self, weights: Checkpoint) -> None:
        """Write nothing."""

    def add_epoch(self, epoch: Epoch, keys: Sequence[str]) -> None:
        """Write nothing."""

    def drop_epochs(self, after_step: int) -> None:
        """Write nothing."""

    def write_summary(self, summary: Summary) -> None:
        """Write nothing."""

    def drop_summary(self) -> None:
        """Write nothing."""

    def write_marks(self, marks: Mapping[str, Mapping[str, Any]]) -> None:
        """Write nothing."""


def folder_of(path: Path, together: Together) -> RunFolder:
    """Return the folder of a run as this process has it."""
    return RunFolder(path) if together.is_first else ReadOnlyFolder(path)
