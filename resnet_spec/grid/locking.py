"""One comparison at a time in a folder, its runs included when they outlive it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from resnet_spec.errors import GridError


@contextmanager
def locked(folder: Path) -> Generator[int]:
    """Hold `folder` and yield the descriptor that holds it, for the runs to inherit.

    A lock lasts as long as any process has its descriptor open: after a comparison was killed, its
    runs still keep others out. Raises GridError when somebody else holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            import fcntl
        except ImportError:  # Windows.
            yield file.fileno()
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            rule = "is in use by another comparison, or by runs that one has left behind"
            raise GridError(f"--out = {folder}: {rule}; wait for them, or end them") from None
        yield file.fileno()
