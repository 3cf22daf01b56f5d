"""Ctrl-C as a request: the chunk under way ends, the run is saved, and only then it stops.

And SIGTERM as an end that leaves nothing behind, for commands without anything to save.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interrupt:
    """While entered, the first SIGINT or SIGTERM sets `requested`; a second one stops at once.

    Outside the main thread signals cannot be caught, and `requested` stays False.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class _TerminatedError(BaseException):
    """SIGTERM came."""


@contextmanager
def tidy_on_sigterm() -> Generator[None]:
    """While entered, SIGTERM closes what was opened within, and then ends the process as always.

    That may wait for a call of a framework to return. Outside the main thread, and where somebody
    else takes the signal, nothing is changed.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except _TerminatedError:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise _TerminatedError
