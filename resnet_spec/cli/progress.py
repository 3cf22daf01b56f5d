"""What a run shows while it goes: a bar on the terminal's error stream, a line per epoch.

Without a terminal the same is an activity, of which a line is printed now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar

from resnet_spec.cli.saying import is_quiet, say
from resnet_spec.printing.activity import doing
from resnet_spec.printing.consoles import progress_console
from resnet_spec.running.metrics import Epoch
from resnet_spec.running.progress import epoch_line
from resnet_spec.running.runs import Position
from resnet_spec.running.speed import speed_text


class _Bar:
    """A bar on terminals only, gone when done, and an activity."""

    def __init__(
        self,
        text: str,
        total: int,
        columns: Sequence[ProgressColumn] = (),
        *,
        by_itself: bool = True,
    ) -> None:
        console = progress_console()
        self.is_shown = console.is_terminal and not is_quiet()
        self._text = text
        self._open = ExitStack()
        self._progress = Progress(
            *(columns or (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())),
            console=console,
            disable=not self.is_shown,
            transient=True,
            auto_refresh=by_itself,
        )
        self._task: TaskID = self._progress.add_task(text, total=total, numbers=text)

    def __enter__(self) -> Self:
        self._open.enter_context(self._progress)
        self._activity = self._open.enter_context(doing(self._text, is_shown=self.is_shown))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()


class StepBar(_Bar):
    """Shows which of some named steps is under way."""

    def step(self, what: str) -> None:
        """Begin the step `what`."""
        self._activity.text = what
        self._progress.update(self._task, description=what, advance=1)


class StillBar(_Bar):
    """Shows which step is under way, and stands still within it: what is timed is left alone."""

    def __init__(self, text: str, total: int) -> None:
        super().__init__(text, total, by_itself=False)

    def step(self, what: str) -> None:
        """Begin the step `what`."""
        self._activity.text = what
        self._progress.update(self._task, description=what, advance=1, refresh=True)


class ImageBar(_Bar):
    """Counts images."""

    def __init__(self, text: str, total: int) -> None:
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]
        super().__init__(text, total, columns)
        self._total = total

    def tick(self, images: int) -> None:
        """Count `images` more."""
        self._activity.total = self._total
        self._activity.advance(images)
        self._progress.advance(self._task, images)


class TrainingBar(_Bar):
    """A `fit.Watch`: a bar with loss, accuracy and time, and epoch lines.

    first: what is being done until the first step is done; the bar moves to and fro meanwhile.
    """

    def __init__(self, total_steps: int, epochs: int, start: int, first: str = "compiling") -> None:
        self._epochs, self._steps = epochs, total_steps
        width = progress_console().width
        self._has_speed = width >= _WIDE
        super().__init__(first, total_steps, training_columns(width))
        self._progress.update(self._task, completed=start, is_waiting=True)

    def chunk(self, position: Position, speed: float) -> None:
        """Move the bar."""
        count = max(position.count, 1)
        loss, accuracy = position.loss_sum / count, position.correct / count
        numbers = f"loss {loss:.4f}  accuracy {accuracy:.4f}"
        fast = speed_text(speed, "  ") if self._has_speed else ""
        told = f"{numbers}{fast}"
        self._progress.update(self._task, completed=position.step, numbers=told, is_waiting=False)
        done = f"training, step {position.step:,} of {self._steps:,}"
        self._activity.text = f"{done}, {numbers.replace('  ', ', ')}{speed_text(speed, ', ')}"

    def epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        say(epoch_line(epoch, self._epochs))


class _MovingBar(BarColumn):
    """A bar that moves to and fro while a task's field `is_waiting` says so."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        bar.pulse = task.fields.get("is_waiting", False)
        return bar


_WIDE, _USUAL, _NARROW = 110, 76, 64


def training_columns(width: int) -> list[ProgressColumn]:
    """Return the columns that have room: loss, accuracy and time always.

    The first to go is the speed, then the length of the bar, the bar, and the steps.
    """
    columns: list[ProgressColumn] = []
    if width >= _USUAL:
        columns.append(_MovingBar(bar_width=30 if width >= _WIDE else 10))
    if width >= _NARROW:
        columns.append(MofNCompleteColumn())
    return [
        *columns,
        TextColumn("{task.fields[numbers]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
