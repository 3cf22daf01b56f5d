"""One comparison at a time in a folder, its runs included when they outlive it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from resnet_spec.errors import GridError
from resnet_spec.files import locking


@contextmanager
def locked(folder: Path, say: Callable[[str], None] = lambda line: None) -> Generator[int]:
    """Hold `folder` and yield the descriptor that holds it, for the runs to inherit.

    After a comparison was killed, its runs still keep others out. Raises GridError when somebody
    else holds the folder.
    """

    def refuse(holder: str) -> GridError:
        rule = "is in use by another comparison, or by runs that one has left behind"
        by = f" ({holder})" if holder else ""
        return GridError(f"--out = {folder}: {rule}{by}; wait for them, or end them")

    with locking.locked(folder, refuse, say) as descriptor:
        yield descriptor
