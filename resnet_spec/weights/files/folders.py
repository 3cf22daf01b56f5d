"""Write a folder whole or not at all: under a temporary name beside it, then renamed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from resnet_spec.files.writing import parents, writing


@contextmanager
def replacing_folder(path: Path) -> Generator[Path]:
    """Give a temporary folder beside `path`; on success it becomes `path`, else it is removed.

    A folder that is there is replaced as it is; see `destinations` for whether it may be. Raises
    OutputError.
    """
    with writing(path), parents(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
        try:
            yield temporary
            temporary.chmod(0o755)
            put_folder(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def put_folder(folder: Path, path: Path) -> None:
    """Rename `folder` to `path`. What is there is moved aside first, and removed at the end."""
    if not path.is_dir() or not any(path.iterdir()):
        folder.replace(path)
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as aside:
        older = Path(aside) / path.name
        path.replace(older)
        try:
            folder.replace(path)
        except OSError:
            older.replace(path)
            raise
