"""The bytes of a weight file, mapped rather than read, and the refusals that name the file."""

from __future__ import annotations

import importlib
import mmap
import stat
from pathlib import Path
from typing import Any

from resnet_spec.errors import CheckpointError
from resnet_spec.files.encodings import shown

_SPARE = 16 << 20


class Origin:
    """Where weights come from, and how much memory they may still take.

    budget: how many bytes may be allocated for arrays that cannot be views of the file.
    notes: what a person should know of how it was read, one line each.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.notes: list[str] = []
        self.budget = Budget(path, 4 * size + _SPARE)

    def refused(self, what: str, remedy: str = "") -> CheckpointError:
        """Return the error that refuses this file, in one line."""
        return refused(self.path, what, remedy)

    def packed(self, size: int) -> None:
        """Allow for compression, within reason."""
        self.budget = Budget(self.path, 64 * size + _SPARE)


class Source(Origin):
    """A regular file that is not empty, as one memory map.

    data: the whole file; private, so that arrays made on it may be written to.
    """

    def __init__(self, path: Path) -> None:
        try:
            if not stat.S_ISREG(path.stat().st_mode):  # Opening a pipe would wait for ever.
                raise refused(path, "is no regular file", "name a weight file")
            with path.open("rb") as file:
                self.data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        except ValueError as error:
            reason = "is empty" if "empty" in str(error) else "cannot be mapped"
            raise refused(path, reason, "get it again") from None
        except OSError as error:
            raise unreadable(path, error) from None
        super().__init__(path, len(self.data))

    def starts_with(self, magic: bytes) -> bool:
        """Whether the file's first bytes are `magic`."""
        return bytes(self.data[: len(magic)]) == magic


class Budget:
    """How much memory a file may ask for beyond what is mapped."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit, self._left = path, limit, limit

    def take(self, size: int) -> None:
        """Count `size` bytes. Raises CheckpointError when the file has asked for too many."""
        self._left -= size
        if self._left < 0:
            raise refused(
                self._path,
                f"asks for more than {self._limit} bytes of memory, far more than it holds",
                "do not use this file",
            )


def refused(path: Path, what: str, remedy: str = "") -> CheckpointError:
    """Return the error `PATH: what; remedy`, surely in one line."""
    return CheckpointError(shown(f"{path}: {what}; {remedy}" if remedy else f"{path}: {what}", 600))


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """Return the refusal of a path that the system cannot open."""
    if isinstance(error, FileNotFoundError):
        return refused(path, "does not exist", "check the path")
    return refused(path, f"cannot be read ({error.strerror or type(error).__name__})")


def needed(module: str, path: Path, extra: str = "weights") -> Any:
    """Import an optional library. Raises CheckpointError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        install = f"run: pip install 'resnet-spec[{extra}]'"
        raise refused(path, f"needs {module}, not installed", install) from None
