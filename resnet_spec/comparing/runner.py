"""Run the cells of a grid, some at a time, until all are done, or the user has had enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from resnet_spec.comparing.cells import Cell
from resnet_spec.comparing.processes import Process, Share
from resnet_spec.comparing.standing import sound_summary, standing
from resnet_spec.errors import BusyError, DataError
from resnet_spec.running.interruption import Interrupt
from resnet_spec.running.metrics import FILE_NAME, Epoch, read_metrics

State = Literal["waiting", "running", "complete", "failed", "stopped"]

_POLL_SECONDS = 0.25


@dataclass(frozen=True)
class Progress:
    """How far a cell's run is. epochs: those done so far, as in `metrics.jsonl`."""

    cell: Cell
    state: State = "waiting"
    epochs: tuple[Epoch, ...] = ()
    error: str = ""

    @property
    def seconds_left(self) -> float | None:
        """How long a run under way will take still, by its epochs so far; None before the first."""
        if self.state != "running" or not self.epochs:
            return None
        done = self.epochs[-1]
        return (self.cell.epochs - done.epoch) * done.wall_s / done.epoch


Tell = Callable[[Progress], None]
"""Hears of a run that has begun, ended an epoch, or ended."""


def run_cells(cells: Sequence[Cell], share: Share, tell: Tell, kept_open: int) -> list[Progress]:
    """Run what is not complete, `share.jobs` at a time; return how every cell ended, in order.

    kept_open: a descriptor that every run holds on to. Ctrl-C lets the runs write their last
    checkpoints; a second one ends them at once.
    """
    runner = _Runner(share, tell, kept_open, {cell.folder: Progress(cell) for cell in cells})
    runner.set_aside_complete()
    try:
        with Interrupt() as interrupt:
            while runner.goes_on(interrupt.requested):
                if interrupt.requested:
                    runner.ask_to_stop()
                else:
                    runner.start_more()
                time.sleep(_POLL_SECONDS)
                runner.look()
    finally:
        runner.kill()
    return [runner.found[cell.folder] for cell in cells]


@dataclass
class _Active:
    process: Process
    metrics_size: int = -1
    is_told: bool = False


@dataclass
class _Runner:
    share: Share
    tell: Tell
    kept_open: int
    found: dict[object, Progress]
    waiting: list[Cell] = field(default_factory=list[Cell])
    active: list[_Active] = field(default_factory=list[_Active])

    def set_aside_complete(self) -> None:
        for progress in list(self.found.values()):
            if standing(progress.cell) == "complete":
                self._note(Progress(progress.cell, "complete", _epochs(progress.cell)))
            else:
                self.waiting.append(progress.cell)

    def goes_on(self, is_interrupted: bool) -> bool:
        return bool(self.active or (self.waiting and not is_interrupted))

    def start_more(self) -> None:
        while self.waiting and len(self.active) < self.share.jobs:
            cell = self.waiting.pop(0)
            try:
                process = Process.start(cell, standing(cell), self.share, self.kept_open)
            except BusyError as error:  # Whatever is written there belongs to somebody else.
                self._note(Progress(cell, "failed", _epochs(cell), str(error)))
                continue
            self.active.append(_Active(process))
            self._note(Progress(cell, "running", _epochs(cell)))

    def ask_to_stop(self) -> None:
        for one in self.active:
            if not one.is_told:
                one.is_told = True
                one.process.ask_to_stop()

    def look(self) -> None:
        for one in list(self.active):
            has_ended = one.process.popen.poll() is not None
            cell = one.process.cell
            if has_ended:
                self.active.remove(one)
                self._note(_ended(one))
                continue
            size = _metrics_size(cell)
            if size != one.metrics_size:
                one.metrics_size = size
                self._note(Progress(cell, "running", _epochs(cell)))

    def kill(self) -> None:
        for one in self.active:
            one.process.kill()
            one.process.close()

    def _note(self, progress: Progress) -> None:
        if self.found[progress.cell.folder] != progress:
            self.found[progress.cell.folder] = progress
            self.tell(progress)


def _ended(one: _Active) -> Progress:
    process, cell = one.process, one.process.cell
    process.close()
    summary = sound_summary(cell.folder)
    if summary is not None and summary.complete:
        return Progress(cell, "complete", _epochs(cell))
    if one.is_told or (summary is not None and process.popen.returncode == _INTERRUPTED):
        return Progress(cell, "stopped", _epochs(cell))
    error = process.error()
    cell.place.write_failure(error, process.popen.returncode)
    return Progress(cell, "failed", _epochs(cell), error)


_INTERRUPTED = 130


def _metrics_size(cell: Cell) -> int:
    path = cell.folder / FILE_NAME
    return path.stat().st_size if path.is_file() else 0


def _epochs(cell: Cell) -> tuple[Epoch, ...]:
    """Return the epochs so far; none while the file is being written."""
    try:
        return tuple(read_metrics(cell.folder))
    except DataError:
        return ()
