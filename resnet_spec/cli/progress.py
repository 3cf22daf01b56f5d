"""What a run shows while it goes: a bar on the terminal's error stream, a line per epoch."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from resnet_spec.consoles import progress_console
from resnet_spec.metrics import Epoch
from resnet_spec.runs import Position


class TrainingBar:
    """A `fit.Watch`: a bar with loss, accuracy and speed (terminals only), and epoch lines."""

    def __init__(self, total_steps: int, epochs: int, start: int) -> None:
        self._epochs = epochs
        console = progress_console()
        self._lines = Console(soft_wrap=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps  {task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(
            "training", total=total_steps, completed=start, numbers="compiling"
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def chunk(self, position: Position, speed: float) -> None:
        """Move the bar."""
        count = max(position.count, 1)
        numbers = (
            f"loss {position.loss_sum / count:.4f}  accuracy {position.correct / count:.4f}  "
            f"{speed:.0f} images/s"
        )
        self._progress.update(self._task, completed=position.step, numbers=numbers)

    def epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        width = len(str(self._epochs))
        line = (
            f"epoch {epoch.epoch:>{width}}/{self._epochs}  "
            f"train loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.4f}"
        )
        if epoch.test_accuracy is not None:
            line += f"  test loss {epoch.test_loss:.4f}, accuracy {epoch.test_accuracy:.4f}"
        elif epoch.test_not_finite:
            line += f"  test: no accuracy, logits not finite on {epoch.test_not_finite} images"
        self._lines.print(f"{line}  {epoch.images_per_second:.0f} images/s")


class ImageBar(Progress):
    """A bar that counts images, on terminals only; gone when done."""

    def __init__(self, description: str, total: int) -> None:
        console = progress_console()
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._images = self.add_task(description, total=total)

    def tick(self, images: int) -> None:
        """Count `images` more."""
        self.advance(self._images, images)
