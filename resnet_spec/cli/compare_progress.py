"""What `compare` shows while it runs: a table that moves on terminals, else a line per event."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from resnet_spec.cli.saying import is_quiet
from resnet_spec.comparing.cells import Cell
from resnet_spec.comparing.runner import Progress, State
from resnet_spec.printing.activity import Activity, doing, heard
from resnet_spec.printing.columns import Column, fitted_cells
from resnet_spec.printing.consoles import progress_console

_COLOURS: dict[State, str] = {
    "waiting": "dim",
    "running": "bold",
    "complete": "green",
    "failed": "bold red",
    "stopped": "yellow",
}
_FIRST: tuple[State, ...] = ("running", "failed", "stopped", "waiting", "complete")
"""Which runs are shown first where not all have room."""
_OTHER_LINES = 7
"""Lines of a terminal that the table needs besides its rows, and the prompt."""


def _columns(judged_by: str) -> tuple[Column, ...]:
    return (
        Column("network", least=10),
        Column("backend"),
        Column("seed", right=True),
        Column("state", drop=3),
        Column("epoch", right=True),
        Column(f"{judged_by} accuracy", right=True),
        Column("images/s", right=True, drop=1),
        Column("left", right=True, drop=2),
    )


class GridView:
    """Shows every run of a grid: state, epoch, accuracy of its evaluations, speed, time left."""

    def __init__(self, cells: Sequence[Cell], console: Console | None = None) -> None:
        self._console = console or progress_console(stderr=False)
        self._found = {cell.folder: Progress(cell) for cell in cells}
        self._judged_by = cells[0].run.judged_by
        self._columns = _columns(self._judged_by)
        self._width = max(len(_name(cell)) for cell in cells)
        self._is_shown = self._console.is_terminal and not is_quiet()
        self._open = ExitStack()
        self._activity: Activity | None = None
        self._live = Live(console=self._console, get_renderable=self.table, refresh_per_second=2)

    def __enter__(self) -> Self:
        if self._is_shown:
            self._open.enter_context(self._live)
        told = _caption(list(self._found.values()), len(self._found))
        self._activity = self._open.enter_context(doing(told, is_shown=self._is_shown))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def changed(self, progress: Progress) -> None:
        """Take note of how far a run is."""
        self._found[progress.cell.folder] = progress
        if self._activity is not None:
            self._activity.text = _caption(list(self._found.values()), len(self._found))
        if not self._is_shown and not is_quiet():
            self._console.print(self._line(progress), markup=False)
            heard()

    def table(self) -> Table:
        """Return the runs that have room, those under way first, then in the grid's order."""
        every = list(self._found.values())
        room = max(3, self._console.height - _OTHER_LINES)
        ranked = sorted(every, key=lambda progress: _FIRST.index(progress.state))[:room]
        shown = [progress for progress in every if progress in ranked]
        rows = [(p.cell.network, p.cell.backend, str(p.cell.seed), *_numbers(p)) for p in shown]
        # Rich puts two spaces between columns, and one behind the last.
        columns, cells = fitted_cells(self._columns, rows, self._console.width - 2)
        table = Table(box=None, caption=_caption(every, len(shown)), caption_justify="left")
        for column in columns:
            justify = "right" if column.right else "left"
            table.add_column(column.head, justify=justify, no_wrap=True)
        for progress, row in zip(shown, cells, strict=True):
            table.add_row(*row, style=_COLOURS[progress.state])
        return table

    def _line(self, progress: Progress) -> str:
        count = sum(p.state == "complete" for p in self._found.values())
        state, epoch, accuracy, speed, left = _numbers(progress)
        parts = [f"{_name(progress.cell):<{self._width}}  {state:<8}"]
        if progress.epochs:
            tested = f", {self._judged_by} accuracy {accuracy}" if accuracy else ""
            fast = f", {speed} images/s" if speed else ""
            parts.append(f"epoch {epoch}{tested}{fast}")
        if left:
            parts.append(f"{left} left")
        if progress.state == "complete":
            parts.append(f"[{count}/{len(self._found)} runs]")
        return "  ".join([*parts, progress.error]).rstrip()


def _name(cell: Cell) -> str:
    return f"{cell.network}, {cell.backend}, seed {cell.seed}"


def _numbers(progress: Progress) -> tuple[str, str, str, str, str]:
    last = progress.epochs[-1] if progress.epochs else None
    tested = [e.accuracy for e in progress.epochs if e.accuracy is not None]
    return (
        progress.state,
        f"{last.epoch if last else 0}/{progress.cell.epochs}",
        f"{tested[-1]:.4f}" if tested else "",
        f"{last.images_per_second:.0f}" if last and last.images_per_second else "",
        _duration(progress.seconds_left),
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _caption(every: Sequence[Progress], shown: int) -> str:
    counts = {state: sum(p.state == state for p in every) for state in _FIRST}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    more = f"; {len(every) - shown} more not shown" if len(every) > shown else ""
    return f"{told}{more}"
