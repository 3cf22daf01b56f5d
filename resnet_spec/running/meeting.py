"""Other processes are met once, however many runs this process takes part in.

JAX and MindSpore can be joined once in a process, and who hangs up between two runs would be called
again before the others have. So a process stays in its group until it ends, or is to join one
through another backend.

Before the framework's engine the processes themselves meet (`roll_call`). One that fails before
that tells the others as it ends: then it is certain that it does not come.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from resnet_spec.errors import RecipeError, ResnetSpecError, SpecError, UsageError
from resnet_spec.group import Group, Members, meet_seconds
from resnet_spec.loader import load_backend
from resnet_spec.running.hellos import Things
from resnet_spec.running.roll_call import BACKEND, VERSION, Failure, NotTogetherError, meet, tell
from resnet_spec.running.together import Together
from resnet_spec.running.under_launcher import is_launched

_TELL_S = 20.0
"""How long a process that has failed waits, as it ends, for those that do not know of it.

Longer than processes that were started together take to come one after the other; who comes later
waits as for one that was killed.
"""
_AT_ONCE_S = 1.0
"""The same for words that a launcher gives to all of its processes, and that none can read.

A person waits for the launcher to end, and those that are there come at once.
"""


@dataclass
class _Met:
    """A group that was joined.

    error: the last one that nobody had caught by then. is_sound: whether all that was done together
    came to its end.
    """

    group: Group
    members: Members
    error: object
    is_sound: bool = True


_met: dict[str, _Met] = {}
"""The group that this process is in, by its backend; at most one."""
_stumbling: list[Members] = []
"""Of the groups that this process has left, those whose framework stumbles as it is unloaded."""


_called = set[Group]()
"""The groups whose roll this process has answered: the others know how that went."""
_failures = list[Failure]()
"""Why this process does not come, with whom it has to tell; at most one."""


@contextmanager
def expected(group: Group, *, launches: bool = False) -> Generator[None]:
    """Surround all that this process does before it meets the others, who may be waiting for it.

    What fails there they are told as this process ends, or by `tell_others`. launches: whether it
    is a launcher, which is about to start the process that it is taken for.
    """
    try:
        yield
    except Exception as error:
        if group.size > 1 and group not in _called and not group.served_by:
            said = str(error) or type(error).__name__
            lines = error.problems if isinstance(error, ResnetSpecError) else said.splitlines()
            is_of_words = isinstance(error, UsageError | SpecError | RecipeError)
            is_quick = is_of_words and (launches or is_launched(os.environ))
            _keep(Failure.of(group, lines), _AT_ONCE_S if is_quick else _TELL_S)
        raise


def tell_others(seconds: float = _TELL_S) -> None:
    """Tell the others, who are waited for, that this process has failed; nothing where it has not.

    For the processes of commands, which end then.
    """
    while _failures:
        left = tell(_failures.pop(), seconds)
        if left is not None:
            _failures.append(left)
            return


@contextmanager
def joined(
    backend: str, group: Group, things: Mapping[str, object] | None = None
) -> Generator[Together]:
    """Meet the other processes through `backend`, which makes no array before.

    things: plain JSON that all have to have alike, by what it is called. They stay met afterwards:
    see `leave`. A process that fails does not say goodbye: the others may be waiting for it in the
    middle of a step. Raises BackendError, with what differs where something does.
    """
    if group.size == 1:
        yield Together()
        return
    met = _joined(backend, group, things or {})
    met.is_sound = False
    yield Together(group, met.members)
    met.is_sound = True


def _joined(backend: str, group: Group, things: Mapping[str, object]) -> _Met:
    found = _met.get(backend)
    if found is not None and found.group == group:
        return found
    leave()
    package: Any = load_backend(backend)
    _call_roll(package, group, _words(backend, things))
    _met[backend] = _Met(group, package.join(group), _last_error())
    # After whatever the backend has registered, and so called before it.
    atexit.register(_leave_at_the_end)
    return _met[backend]


def _call_roll(package: Any, group: Group, words: Things) -> None:
    """Meet the others, unless another listens at the address, or the framework has them already."""
    if hasattr(package, "prepare"):
        package.prepare(group)
    _called.add(group)
    _failures.clear()
    if group.served_by or (hasattr(package, "is_met") and package.is_met(group)):
        return
    try:
        meet(group, words, meet_seconds())
    except NotTogetherError as error:
        if error.unaware:
            _keep(Failure(group, error.problems, error.unaware))
        raise


def _words(backend: str, things: Mapping[str, object]) -> Things:
    """Return what this process is to do, in short."""
    try:
        release = version("resnet-spec")
    except PackageNotFoundError:  # Run from its source.
        release = "of no version"
    words = {name: _digest(value) for name, value in things.items()}
    return {VERSION: release, BACKEND: backend} | words | {BACKEND: backend}


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _keep(failure: Failure, seconds: float = _TELL_S) -> None:
    _failures[:] = [failure]
    atexit.register(_tell_at_the_end, seconds)


def _tell_at_the_end(seconds: float) -> None:
    with suppress(KeyboardInterrupt):
        tell_others(seconds)
    _failures.clear()


def leave() -> None:
    """Say goodbye to the others, when all of them do; nothing where none were met.

    Raises LostError where one of them is gone.
    """
    while _met:
        _, met = _met.popitem()
        if met.is_sound:
            met.members.leave()
            if getattr(met.members, "stumbles", False):
                _stumbling.append(met.members)


def end_of_command(status: int) -> None:
    """End a command's process at once, with all done, where a framework may stumble otherwise."""
    if _stumbling:
        for members in _stumbling:
            getattr(members, "end", lambda: None)()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _leave_at_the_end() -> None:
    if any(_last_error() is not met.error for met in _met.values()):
        return  # An error that nobody caught ends this process.
    with suppress(ResnetSpecError):
        leave()


def _last_error() -> object:
    """Return the last error that nobody caught, which a prompt or a framework may have told."""
    return getattr(sys, "last_value", None)
