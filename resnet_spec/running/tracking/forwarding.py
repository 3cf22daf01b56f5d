"""A `fit.Watch` for trackers: opens them, passes epochs on once each, and closes them.

How far each has come is kept in the run's folder, so that a resumed run goes on with the same
tracked run and no step is written twice. A tracker that fails does not stop the training: what it
missed is sent at the end, or when the run is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from resnet_spec.errors import TrackingError
from resnet_spec.running.metrics import FILE_NAME as METRICS
from resnet_spec.running.metrics import Epoch, read_metrics
from resnet_spec.running.run_folder import TRACKING, RunFolder
from resnet_spec.running.runs import Position, Summary
from resnet_spec.running.tracking.choice import starter
from resnet_spec.running.tracking.tracker import Outcome, Tracked, Tracker
from resnet_spec.running.watch import Watch


@dataclass
class Mark:
    """How far a tracker has come: the last step it holds, and whether the summary."""

    id: str
    step: int = 0
    complete: bool = False


def read_marks(folder: Path) -> dict[str, Mark]:
    """Return the marks of the run in `folder` by tracker. Raises TrackingError for a bad file."""
    path = folder / TRACKING
    if not path.is_file():
        return {}
    try:
        marks: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: _mark(mark) for name, mark in marks.items()}
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        rule = f"is no record of trackers: {type(error).__name__}: {error}"
        raise TrackingError(f"{path}: {rule}; remove it to begin new tracked runs") from None


def _mark(fields: Mapping[str, Any]) -> Mark:
    """Return the mark in a table; what a newer version wrote beside is left out."""
    mark = Mark(fields["id"], fields.get("step", 0), fields.get("complete", False))
    if (type(mark.id), type(mark.step), type(mark.complete)) != (str, int, bool):
        raise TypeError(f"{mark} has a field of another kind")
    return mark


class Watches:
    """Several watches in the place of one; they hear of everything in this order."""

    def __init__(self, *watches: Watch) -> None:
        self._watches = watches

    def chunk(self, position: Position, speed: float) -> None:
        """Pass the position on."""
        for watch in self._watches:
            watch.chunk(position, speed)

    def epoch(self, epoch: Epoch) -> None:
        """Pass the epoch on."""
        for watch in self._watches:
            watch.epoch(epoch)


class _Line:
    """One open tracker, what it still has to be told, and whether it has failed."""

    def __init__(self, name: str, tracker: Tracker, mark: Mark) -> None:
        self.name, self.tracker, self.mark = name, tracker, mark
        self.pending: list[Epoch] = []
        self.failed = False

    def send(self) -> None:
        while self.pending:
            epoch = self.pending[0]
            if epoch.step > self.mark.step:
                self.tracker.epoch(epoch)
                self.mark.step = epoch.step
            del self.pending[0]


class Tracking:
    """The trackers `names` of one run, as a context and a `fit.Watch`.

    step: where the run goes on from; 0 for a fresh one. Epochs up to there that a tracker does not
    have yet are sent when it is opened. say: takes one line about a tracker that failed.

    Entering raises TrackingError when a tracker cannot be opened.
    """

    def __init__(
        self, names: Sequence[str], tracked: Tracked, step: int, say: Callable[[str], None]
    ) -> None:
        self._names, self._tracked, self._step, self._say = names, tracked, step, say
        self._marks: dict[str, Mark] = {}
        self._lines: list[_Line] = []
        self._outcome: Outcome = "interrupted"

    def __enter__(self) -> Self:
        if not self._names:
            return self
        self._marks = read_marks(self._tracked.out)
        for name in self._names:
            mark = self._marks.get(name)
            if mark is None or not mark.complete:  # A finished run has nothing to add.
                self._open(name, mark)
        self._send()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(self._outcome if kind in (None, KeyboardInterrupt) else "failed")

    @property
    def places(self) -> dict[str, str]:
        """Where to look, by tracker."""
        return {line.name: line.tracker.where for line in self._lines}

    def chunk(self, position: Position, speed: float) -> None:
        """Do nothing: chunks follow the clock, and their steps differ from run to run."""

    def epoch(self, epoch: Epoch) -> None:
        """Pass the epoch on."""
        for line in self._lines:
            line.pending.append(epoch)
        self._send()

    def finish(self, summary: Summary) -> None:
        """Pass a complete run's summary on."""
        if not summary.complete:
            return
        self._outcome = "finished"
        for line in self._lines:
            line.failed = False  # Once more, for what it missed.
        self._send()
        for line in self._lines:
            if not line.failed:
                self._try(line, lambda line=line: self._complete(line, summary))

    def _open(self, name: str, mark: Mark | None) -> None:
        try:
            tracker = starter(name)(self._tracked, mark.id if mark else None)
        except Exception as cause:  # Somebody else's code may raise anything.
            self._close("failed")
            raise TrackingError(f"--track {name}: {_one_line(cause)}") from cause
        mark = mark or Mark(tracker.id)
        line = _Line(name, tracker, mark)
        self._marks[name] = mark
        self._lines.append(line)
        self._keep()
        if self._step and (self._tracked.out / METRICS).is_file():
            epochs = read_metrics(self._tracked.out)
            line.pending = [epoch for epoch in epochs if epoch.step <= self._step]

    def _send(self) -> None:
        for line in self._lines:
            if not line.failed:
                self._try(line, line.send)
        self._keep()

    def _complete(self, line: _Line, summary: Summary) -> None:
        line.tracker.finish(summary, self._tracked.best)
        line.mark.complete = True
        self._keep()

    def _close(self, outcome: Outcome) -> None:
        for line in self._lines:
            self._try(line, lambda line=line: line.tracker.close(outcome))
        self._lines = []

    def _try(self, line: _Line, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as cause:  # Somebody else's code may raise anything.
            line.failed = True
            remedy = "the training goes on; --resume sends what is missing"
            self._say(f"{line.name}: {_one_line(cause)}; {remedy}")

    def _keep(self) -> None:
        if self._marks:
            marks = {name: asdict(mark) for name, mark in self._marks.items()}
            RunFolder(self._tracked.out).write_marks(marks)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
