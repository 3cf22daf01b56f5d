"""Noise floors and verdicts in a thread of their own, while the frameworks compile in this one.

The reference computes in NumPy and the frameworks in their own code, all of them outside Python's
lock: on two cores a comparison takes little more than the longer of the two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue

from resnet_spec.parity.blas_threads import one_processor_left
from resnet_spec.parity.floors import Floors
from resnet_spec.parity.levels import compute
from resnet_spec.parity.side import Side
from resnet_spec.parity.verdicts import first_look
from resnet_spec.reporting.report import Row

Tick = Callable[[str], None]
Looks = dict[tuple[Side, str], Row]
"""What the noise floor alone says of a side at a level."""


def look_at_all(sides: Iterable[Side], floors: Floors, levels: Iterable[str], tick: Tick) -> Looks:
    """Have every side and the reference compute what `levels` compare; return the first looks.

    What a side raises is raised.
    """
    levels = tuple(levels)
    looks: Looks = {}
    with one_processor_left():
        worker = _Worker(lambda: floors.prepare(levels))
        for side in sides:
            offered = tuple(level for level in levels if side.offers(level))
            for level in offered:
                tick(f"{side.backend}: {level}")
                compute(side, level)
            worker.then(lambda side=side, offered=offered: _look(side, offered, floors, looks))
        tick("noise floors")
        worker.wait()
    return looks


def _look(side: Side, levels: Iterable[str], floors: Floors, looks: Looks) -> None:
    for level in levels:
        looks[side, level] = first_look(level, side, floors)


class _Worker:
    """A thread for one work after another that does not outlive the program.

    Ctrl-C need not wait for it. After the first error nothing more is done.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._works: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.then(work)
        self._thread.start()

    def then(self, work: Callable[[], None]) -> None:
        """Do `work` when all before it is done."""
        self._works.put(work)

    def wait(self) -> None:
        """Wait for all works to be done; raise what one raised."""
        self._works.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (work := self._works.get()) is not None:
                work()
        except BaseException as error:
            self._error = error
