"""What a run shows when it is trained from Python: in a notebook a table that grows, else lines.

The command line has a bar of its own, and the same lines. IPython is asked only where it runs.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from resnet_spec.loader import manifest_of
from resnet_spec.printing.markup import Markup, element
from resnet_spec.running.metrics import Epoch, splits_of
from resnet_spec.running.runs import Position
from resnet_spec.running.speed import speed_text
from resnet_spec.running.watch import Watch

_REFRESH_S = 0.5


def is_notebook() -> bool:
    """Return whether output is shown by a notebook, which can change it afterwards."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def is_wanted(progress: bool | None) -> bool:
    """Return whether a run shows how far it is; None: to a person, in a notebook or at a prompt."""
    return (is_notebook() or hasattr(sys, "ps1")) if progress is None else progress


def first_step_text(backend: str, *, compile: bool) -> str:
    """Return what is being done until the first step of a session is done.

    compile: as it is given to the session.
    """
    found = manifest_of(backend)
    when = "never" if found is None else found.compiles
    return "compiling" if when == "always" or (compile and when == "asked") else "first step"


@contextmanager
def shown(total_steps: int, epochs: int, start: int, first: str) -> Generator[Watch]:
    """Give what shows a run of `total_steps` that begins after step `start`.

    first: what is being done until the first step is done.
    """
    if not is_notebook():
        yield Lines(epochs)
        return
    view = NotebookView(total_steps, epochs, start, first)
    try:
        yield view
    finally:
        view.close()


class Lines:
    """A line per epoch on standard output."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def chunk(self, position: Position, speed: float) -> None:
        """Do nothing: a line cannot be taken back."""

    def epoch(self, epoch: Epoch) -> None:
        """Print the epoch's line."""
        print(epoch_line(epoch, self._epochs), flush=True)


def epoch_line(epoch: Epoch, epochs: int) -> str:
    """Return what an epoch came to, of so many, in a line."""
    tested = ""
    if epoch.accuracy is not None:
        tested = f"  {epoch.split} loss {epoch.loss:.4f}, accuracy {epoch.accuracy:.4f}"
        if epoch.weights_accuracy is not None:
            tested += f" ({epoch.weights_accuracy:.4f} without the average)"
    elif epoch.not_finite:
        tested = f"  {epoch.split}: no accuracy, logits not finite on {epoch.not_finite} images"
    return (
        f"epoch {epoch.epoch:>{len(str(epochs))}}/{epochs}  train loss {epoch.train_loss:.4f}, "
        f"accuracy {epoch.train_accuracy:.4f}{tested}{speed_text(epoch.images_per_second, '  ')}"
    )


class NotebookView:
    """A table with a row per epoch and a bar below it, which goes when the run ends."""

    def __init__(self, total_steps: int, epochs: int, start: int, first: str) -> None:
        self._total, self._epochs, self._start = total_steps, epochs, start
        self._rows: list[Epoch] = []
        self._bar = (first, start)
        self._begun = time.monotonic()
        self._drawn = 0.0
        display: Callable[..., Any] = importlib.import_module("IPython.display").display
        self._handle: Any = display(self._content(), raw=True, display_id=True)

    def chunk(self, position: Position, speed: float) -> None:
        """Move the bar, twice a second at most."""
        count = max(position.count, 1)
        numbers = f"loss {position.loss_sum / count:.4f}, accuracy {position.correct / count:.4f}"
        told = f"{numbers}{speed_text(speed, ', ')}, {self._left(position.step)} left"
        self._bar = (told, position.step)
        if time.monotonic() - self._drawn > _REFRESH_S:
            self._draw()

    def epoch(self, epoch: Epoch) -> None:
        """Add the epoch's row."""
        self._rows.append(epoch)
        self._draw()

    def close(self) -> None:
        """Take the bar away."""
        self._bar = ("", 0)
        self._draw()

    def _left(self, step: int) -> str:
        each = (time.monotonic() - self._begun) / max(step - self._start, 1)
        minutes, seconds = divmod(round(each * (self._total - step)), 60)
        return f"{minutes}:{seconds:02d}"

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._content(), raw=True)

    def _content(self) -> dict[str, str]:
        told, step = self._bar
        lines = [epoch_line(epoch, self._epochs) for epoch in self._rows]
        if told:
            lines.append(f"step {step}/{self._total}  {told}")
        return {"text/html": self._html(told, step), "text/plain": "\n".join(lines)}

    def _html(self, told: str, step: int) -> Markup:
        split = "/".join(splits_of(self._rows)) or "test"
        names = ("epoch", "train loss", "accuracy", f"{split} loss", "accuracy", "images/s")
        head = element("tr", *(element("th", name) for name in names))
        body = (
            element("tr", *(element("td", text) for text in _cells(row, self._epochs)))
            for row in self._rows
        )
        table = element("table", element("thead", head), element("tbody", *body))
        parts = [table] if self._rows else []
        if told:
            # Without a value a browser's bar moves to and fro.
            done = {"value": str(step)} if step > self._start else {}
            bar = element("progress", max=str(self._total), **done)
            parts.append(element("div", bar, f" step {step}/{self._total}, {told}"))
        return element("div", *parts)


def _cells(epoch: Epoch, epochs: int) -> tuple[str, ...]:
    tested = ("", "")
    if epoch.accuracy is not None:
        tested = (f"{epoch.loss:.4f}", f"{epoch.accuracy:.4f}")
    elif epoch.not_finite:
        tested = ("", f"none: {epoch.not_finite} images not finite")
    return (
        f"{epoch.epoch}/{epochs}",
        f"{epoch.train_loss:.4f}",
        f"{epoch.train_accuracy:.4f}",
        *tested,
        f"{epoch.images_per_second:.0f}" if epoch.images_per_second else "",
    )
