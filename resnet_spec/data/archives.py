"""Bounded reads of files, gzip files and tar archives, in memory: nothing is ever unpacked to disk.

Every failure is a DataError in one line that names the file.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Protocol

from resnet_spec.errors import DataError

_MOST_MEMBERS = 10_000
_DAMAGE = (EOFError, OSError, tarfile.TarError, zlib.error)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of `path`, at most `limit`."""
    try:
        with path.open("rb") as file:
            return _read_whole(file, path, limit)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def read_gzip(path: Path, limit: int) -> bytes:
    """Return the unpacked bytes of a gzip file, at most `limit`; no more is ever unpacked."""
    try:
        with gzip.open(path) as file:
            return _read_whole(file, path, limit)
    except _DAMAGE as error:
        raise _damaged(path, "gzip file", error) from None


def read_tar(path: Path, wanted: Collection[str], limit: int) -> dict[str, bytes]:
    """Return {name: bytes} of those regular members of a `.tar.gz` that are `wanted`.

    limit: on all unpacked bytes of the archive together. An archive with a name that leaves its
    folder is refused as a whole, though nothing is written anywhere.
    """
    found: dict[str, bytes] = {}
    try:
        with (
            gzip.open(path) as file,
            tarfile.open(fileobj=_Bounded(file, path, limit), mode="r|") as tar,
        ):
            for number, member in enumerate(tar):
                name = _safe_name(member.name, path)
                if number >= _MOST_MEMBERS:
                    raise DataError(f"{path}: has more than {_MOST_MEMBERS} members")
                if name not in wanted:
                    continue
                if not member.isreg() or name in found:
                    raise DataError(f"{path}: {name} must be one regular file in the archive")
                content = tar.extractfile(member)
                assert content is not None
                found[name] = content.read()
    except _DAMAGE as error:
        raise _damaged(path, ".tar.gz archive", error) from None
    return found


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `limit` bytes."""

    def __init__(self, file: _Readable, path: Path, limit: int) -> None:
        super().__init__()
        self._file, self._path, self._limit, self._left = file, path, limit, limit

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all of them when it is negative."""
        size = self._left + 1 if size < 0 else size
        data = self._file.read(min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise _too_large(self._path, self._limit)
        return data


def _read_whole(file: _Readable, path: Path, limit: int) -> bytes:
    data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


def _safe_name(name: str, path: Path) -> str:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise DataError(f"{path}: has a member outside its folder, {name!r}; do not use this file")
    return "/".join(parts)


def _too_large(path: Path, limit: int) -> DataError:
    return DataError(f"{path}: holds more than the {limit} bytes that such a file can have")


def _damaged(path: Path, kind: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: does not exist")
    reason = str(error).partition("\n")[0] or type(error).__name__
    return DataError(f"{path}: is not a whole {kind} ({reason}); get it again")
