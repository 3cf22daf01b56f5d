"""What every process needs to be told that starts others: its threads, and how one ended."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PJRT_NPROC", "NPROC")
"""What OpenMP (torch, MindSpore), BLAS and, the last two, XLA's thread pool look at."""


def usable_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_of_each(count: int) -> int:
    """Return the threads that each of `count` processes takes of this one's processors.

    OMP_NUM_THREADS, where set, is the most that is taken.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    most = int(asked) if asked.isdecimal() and int(asked) > 0 else usable_processors()
    return max(1, min(most, usable_processors() // count))


def environment_with(threads: int) -> dict[str, str]:
    """Return this process's environment for one that takes so many threads."""
    return {**os.environ, **{name: str(threads) for name in _THREADS}, "PYTHONUNBUFFERED": "1"}


def command_of(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a module of ours in a process of its own.

    -P, for the installed command does not look for modules in the working folder either.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def signal_name(number: int) -> str:
    """Return what a signal is called, with what it most often means."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name
