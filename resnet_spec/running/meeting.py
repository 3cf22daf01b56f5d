"""Other processes are met once, however many runs this process takes part in.

JAX and MindSpore can be joined once in a process, and who hangs up between two runs would be called
again before the others have. So a process stays in its group until it ends, or is to join one
through another backend.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from resnet_spec.errors import ResnetSpecError
from resnet_spec.group import Group, Members
from resnet_spec.loader import load_backend
from resnet_spec.running.together import Together


@dataclass
class _Met:
    """A group that was joined. is_sound: whether all that was done together came to its end."""

    group: Group
    members: Members
    is_sound: bool = True


_met: dict[str, _Met] = {}
"""The group that this process is in, by its backend; at most one."""
_stumbling: list[str] = []
"""The backends whose groups this process has left and that stumble as they are unloaded."""


@contextmanager
def joined(backend: str, group: Group) -> Generator[Together]:
    """Meet the other processes through `backend`, which makes no array before.

    They stay met afterwards: see `leave`. A process that fails does not say goodbye: the others may
    be waiting for it in the middle of a step. Raises BackendError.
    """
    if group.size == 1:
        yield Together()
        return
    met = _joined(backend, group)
    met.is_sound = False
    yield Together(group, met.members)
    met.is_sound = True


def _joined(backend: str, group: Group) -> _Met:
    found = _met.get(backend)
    if found is not None and found.group == group:
        return found
    leave()
    package: Any = load_backend(backend)
    _met[backend] = _Met(group, package.join(group))
    # After whatever the backend has registered, and so called before it.
    atexit.register(_leave_at_the_end)
    return _met[backend]


def leave() -> None:
    """Say goodbye to the others, when all of them do; nothing where none were met.

    Raises LostError where one of them is gone.
    """
    while _met:
        backend, met = _met.popitem()
        if met.is_sound:
            met.members.leave()
            if getattr(met.members, "stumbles", False):
                _stumbling.append(backend)


def end_of_command(status: int) -> None:
    """End a command's process at once, with all done, where a framework may stumble otherwise."""
    if _stumbling:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _leave_at_the_end() -> None:
    if getattr(sys, "last_value", None) is not None:  # An error that nobody caught ends it.
        return
    with suppress(ResnetSpecError):
        leave()
