"""A folder that one process holds at a time, and every process that inherits what holds it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from resnet_spec.errors import ResnetSpecError
from resnet_spec.files.writing import parents, writing

NAME = ".lock"
Refuse = Callable[[str], ResnetSpecError]
"""Makes the error from who holds the folder, as in "process 12 on host", or ""."""


@contextmanager
def locked(folder: Path, refuse: Refuse, say: Callable[[str], None]) -> Generator[int]:
    """Hold `folder`, made where it is missing, and yield the descriptor that holds it.

    A lock lasts as long as any process has its descriptor open, and goes with the last of them
    however it ends; its file is removed, and so is a folder that stays empty.

    refuse: makes the error that is raised when somebody else holds the folder. say: hears of a
    file system that cannot lock. Raises OutputError where the folder cannot be written.
    """
    path = folder / NAME
    with ExitStack() as stack:
        with writing(folder):
            stack.enter_context(parents(path))
        descriptor = _taken(path, refuse, say)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            _remove(path)


def _taken(path: Path, refuse: Refuse, say: Callable[[str], None]) -> int:
    """Return a descriptor of the file at `path`, which it locks."""
    for pause in (0.05, 0.1, 0.2, None):  # Whoever removes the file holds it for a moment.
        with writing(path.parent):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
            os.close(descriptor)
            if pause is None:
                raise refuse(holder) from None
            time.sleep(pause)
            continue
        except _CannotLock as error:
            say(f"{path.parent}: cannot be locked ({error}); let no other run write there")
        if _is_at(descriptor, path):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)  # It was removed between the opening and the lock.
    raise refuse("")


def _sign(descriptor: int) -> None:
    """Write down who holds the file, for others to be told."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())


class _CannotLock(Exception):
    """The system, or the file system, has no locks."""


def _lock(descriptor: int) -> None:
    """Lock the file. Raises BlockingIOError when it is held."""
    try:
        import fcntl
    except ImportError:  # Windows.
        raise _CannotLock("this system has no flock") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise _CannotLock(error.strerror or str(error)) from None


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _remove(path: Path) -> None:
    """Remove the file unless somebody, as a process that was started meanwhile, holds it still."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            with suppress(_CannotLock):
                _lock(descriptor)
            if _is_at(descriptor, path):
                path.unlink()
        finally:
            os.close(descriptor)
