"""Write a folder whole or not at all: under a temporary name beside it, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from resnet_spec.weights.source import refused


@contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """Give a temporary folder beside `path`; on success it becomes `path`, else it is removed.

    Raises CheckpointError when `path` exists and is not an empty folder.
    """
    if path.is_dir() and any(path.iterdir()):
        raise refused(path, "exists already", "remove it, or name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
