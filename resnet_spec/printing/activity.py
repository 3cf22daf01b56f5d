"""What is being done, for whoever waits: long work says so here, and a pulse tells of it.

Work of the core opens an activity with `doing`, which costs nothing where nobody listens. The
command line runs a `Pulse`, which prints a line whenever nothing was heard for half a minute: for
logs, and for programs that end what is silent. Imports nothing of the project.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

EVERY_S = 30.0
"""The longest silence."""


class Activity:
    """Something that takes its time. text: what is said of it; total: of what `advance` counts."""

    def __init__(self, text: str, total: int | None, is_shown: bool) -> None:
        self.text = text
        self.total = total
        self.done = 0
        self.is_shown = is_shown

    def advance(self, count: int = 1) -> None:
        """Count what is done."""
        self.done += count

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.text}, {self.done:,}" if self.done else self.text
        return f"{self.text}, {self.done:,} of {self.total:,}"


_under_way: list[Activity] = []
_pulses: list[Pulse] = []


@contextmanager
def doing(text: str, total: int | None = None, *, is_shown: bool = False) -> Generator[Activity]:
    """Open an activity; inside another one it is the one that is told of.

    is_shown: whether something that moves on the screen shows it already.
    """
    activity = Activity(text, total, is_shown)
    _under_way.append(activity)
    try:
        yield activity
    finally:
        _under_way.remove(activity)


def heard() -> None:
    """Take note that something was printed: the silence begins anew."""
    for pulse in _pulses:
        pulse.heard()


class Pulse:
    """Says by `say` what is being done, whenever nothing was heard for `every` seconds."""

    def __init__(
        self,
        say: Callable[[str], None],
        every: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._every, self._clock = say, every, clock
        self._begun = self._last = clock()
        self._ended = threading.Event()

    def heard(self) -> None:
        """See the function of this name."""
        self._last = self._clock()

    def beat(self) -> float:
        """Say what there is to say, and return the seconds until there may be more."""
        now = self._clock()
        left = self._last + self._every - now
        if left > 0:
            return left
        self._last = now
        if not (_under_way and _under_way[-1].is_shown):
            what = str(_under_way[-1]) if _under_way else "at work"
            self._say(f"{what}, {_duration(now - self._begun)}")
        return self._every

    @contextmanager
    def running(self) -> Generator[None]:
        """Beat in a thread until the block ends."""
        thread = threading.Thread(target=self._run, name="pulse", daemon=True)
        _pulses.append(self)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            _pulses.remove(self)
            thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self.beat()):
            pass


def _duration(seconds: float) -> str:
    """Return the time since the command began."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
