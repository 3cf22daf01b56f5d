"""Loss and accuracy of runs, epoch by epoch, from their metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnet_spec.errors import DataError
from resnet_spec.printing.columns import Column, fitted
from resnet_spec.printing.consoles import table_width
from resnet_spec.reporting.plots import curves_figure
from resnet_spec.running.metrics import FILE_NAME, TEST, Epoch, read_metrics, splits_of
from resnet_spec.showing.terminal import sparkline

Runs = Mapping[str, Sequence[Epoch]]


def read_runs(paths: Iterable[Path]) -> Runs:
    """Return the epochs of the runs in folders (or of their metrics.jsonl), by a short name each.

    Raises DataError for what is no run, or a run without an epoch.
    """
    folders = [path.parent if path.name == FILE_NAME else path for path in paths]
    runs: dict[str, Sequence[Epoch]] = {}
    for name, folder in zip(short_names(folders), folders, strict=True):
        runs[name] = read_metrics(folder)
        if not runs[name]:
            raise DataError(f"{folder / FILE_NAME}: holds no epoch yet")
    return runs


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each path, with as many parts before it as tell them apart.

    Raises DataError for a folder given twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    for i, one in enumerate(parts):
        if one in parts[:i]:
            raise DataError(f"RUN = {folders[i]}: is given twice")
    longest = max(map(len, parts))
    for depth in range(1, longest + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("different paths have the same parts")


def lines(runs: Runs) -> list[str]:
    """Return a table: last losses, best and last accuracy, and how they went, per run.

    The loss's sparkline is on a log scale. The images that epochs are evaluated on, test or
    validation, are named in the heads, or by a column where runs differ.
    """
    splits = splits_of(epoch for epochs in runs.values() for epoch in epochs) or [TEST]
    of = f"{splits[0]} " if len(splits) == 1 else ""
    columns = [
        Column("run", least=8),
        Column("epochs", right=True, drop=2),
        Column("train loss", right=True),
        Column("", drop=3),
        *([] if of else [Column("evaluated on")]),
        Column(f"{of}loss", right=True, drop=1),
        Column(f"{of}accuracy", right=True),
        Column(" ", drop=4),
        Column(f"best of {of}".strip() if of else "best of these", drop=5),
    ]
    rows: list[Sequence[str]] = []
    for name, epochs in runs.items():
        tested = [epoch for epoch in epochs if epoch.accuracy is not None]
        last = tested[-1] if tested else None
        best = max(tested, key=lambda epoch: epoch.accuracy or 0.0, default=None)
        rows.append(
            (
                name,
                str(len(epochs)),
                f"{epochs[-1].train_loss:.4f}",
                sparkline([_log(epoch.train_loss) for epoch in epochs]),
                *([] if of else ["-" if last is None else last.split]),
                "-" if last is None else f"{last.loss:.4f}",
                "-" if last is None else f"{last.accuracy:.4f}",
                sparkline([epoch.accuracy for epoch in epochs]),
                "-" if best is None else f"{best.accuracy:.4f} in epoch {best.epoch}",
            )
        )
    return fitted(columns, rows, table_width())


def _log(loss: float) -> float | None:
    return math.log(loss) if loss > 0 else None


def figure(runs: Runs) -> Any:
    """Draw loss and accuracy side by side."""
    return curves_figure(runs)
