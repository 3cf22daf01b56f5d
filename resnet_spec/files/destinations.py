"""Where a file may be written: what is there already is replaced only where that is asked for."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from resnet_spec.errors import OutputError

OVERWRITE = "replace what is there already"
"""The help of `--overwrite` of every command that writes one file."""


def check_destination(
    path: Path, *, overwrite: bool, folder: Sequence[str] = (), source: Path | None = None
) -> None:
    """Raise OutputError where `path` must not be written. A link counts as what it leads to.

    folder: for what is written as a folder, the names of files that only such a folder has: any
        other folder with something in it is not replaced at all.
    source: what is read, and must not be replaced by something that it cannot be got back from.
    """
    if not os.path.lexists(path):
        return
    if source is not None and path.exists() and source.exists() and path.samefile(source):
        raise _refused(path, f"is {source}, which is read; name another file")
    if folder and path.is_dir() and not any(path.iterdir()):
        return
    if not overwrite:
        raise _refused(path, "exists already; --overwrite replaces it")
    if path.is_dir() and not any((path / name).is_file() for name in folder):
        raise _refused(path, "is a folder of other things" if folder else "is a folder")
    if folder and not path.is_dir():
        raise _refused(path, "is a file, and a folder is to be written")


def _refused(path: Path, why: str) -> OutputError:
    return OutputError(path, OSError(errno.EEXIST, why))
