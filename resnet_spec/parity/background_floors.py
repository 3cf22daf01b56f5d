"""Noise floors in a thread of their own, while the frameworks compile and compute in this one.

The reference computes in NumPy and the frameworks in their own code, all of them outside Python's
lock: on two cores a comparison takes little more than the longer of the two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from resnet_spec.parity.floors import Floors
from resnet_spec.parity.levels import level_of
from resnet_spec.parity.side import Side

Tick = Callable[[str], None]


def compute_floors(
    sides: Iterable[Side], floors: Floors, levels: Iterable[str], tick: Tick
) -> None:
    """Have every side and the reference compute what `levels` compare; judge nothing.

    What a side raises is raised; it is computed, and raised, once more by whoever asks for it.
    """
    levels = tuple(levels)
    worker = _Worker(lambda: floors.prepare(levels))
    for side in sides:
        for level in levels:
            if side.offers(level):
                tick(f"{side.backend}: {level}")
                for value in level_of(level).values:
                    getattr(side, value)
    tick("noise floors")
    worker.wait()


class _Worker:
    """A thread that does not outlive the program: Ctrl-C need not wait for it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the work to be done; raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
