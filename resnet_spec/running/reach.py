"""How a job reaches what its request names: data, backends and the checkpoint of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_spec.data import load_data
from resnet_spec.data.dataset import Dataset
from resnet_spec.errors import BackendError, did_you_mean, problem
from resnet_spec.loader import load_backend, precisions_of
from resnet_spec.running.opened import Opened

Find = Callable[[], Opened | None]
"""Looks for a run's checkpoint, and reads it; None where there is no run."""


def _open(find: Find) -> Opened | None:
    return find()


def _read(source: str | Path | Dataset, size: int | None) -> Dataset:
    return load_data(source, size=size)


@dataclass(frozen=True)
class Reach:
    """How a job reaches what its request names.

    A grid reads its data once for all its cells, and imports no framework.

    data: returns the dataset at a place, in pixels per side, or raises DataError. backend: raises
    BackendError for a backend that is not there. precisions: returns what one computes in.
    opened: reads the checkpoint that a run goes on from, by a function that finds it.
    """

    data: Callable[[str | Path | Dataset, int | None], Dataset] = _read
    backend: Callable[[str], object] = load_backend
    precisions: Callable[[str], Sequence[str]] = precisions_of
    opened: Callable[[Find], Opened | None] = _open

    def check_precision(self, backend: str, precision: str) -> None:
        """Raise BackendError where `backend` does not compute in `precision`."""
        offered = self.precisions(backend)
        if precision not in offered:
            rule = f"is not one of {backend}'s"
            hint = did_you_mean(precision, offered) or f"use {', '.join(offered)}"
            raise BackendError(problem("precision", precision, rule, hint))
