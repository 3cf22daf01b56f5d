"""What a process knows of `resnet-spec launch`, where that started it; see `launching`."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Mapping

LAUNCHER = "RESNET_SPEC_LAUNCHER"
"""What tells the processes of their launcher, by its number."""
_DEATH = 1
"""PR_SET_PDEATHSIG of Linux."""


def is_launched(environment: Mapping[str, str]) -> bool:
    """Return whether a launcher started this process."""
    return LAUNCHER in environment


def speaks_for_machine(environment: Mapping[str, str]) -> bool:
    """Return whether this is the first process of a launcher's, which prints where it does."""
    return is_launched(environment) and environment.get("LOCAL_RANK") == "0"


def end_with_launcher(environment: Mapping[str, str]) -> None:
    """End this process when the launcher that started it is gone; see `end_with_parent`."""
    launcher = environment.get(LAUNCHER)
    if launcher is not None:
        end_with_parent(launcher)


def end_with_parent(parent: str) -> None:
    """End this process when `parent`, which started it, is gone, however that ended; on Linux.

    parent: its number. Asked for by the process itself: between a fork and the start of a program
    it would have to run in a copy of the parent, which frameworks forbid.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_DEATH, signal.SIGKILL)
    if str(os.getppid()) != parent:  # It went before it was asked for.
        os.kill(os.getpid(), signal.SIGKILL)
